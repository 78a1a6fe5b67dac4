"""Positions of one arm between the project's layout and units and those of its driver.

Both ways refuse what they cannot convert with certainty: a joint that is missing or named twice, a message of another
length, a value that is not finite, a gripper outside of its range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.topic_profile import ARM_DOF, BY_POSITION, Feedback, TopicProfile


def arm_rows_to_driver(profile: TopicProfile, arm: str, row: JointArray) -> JointArray:
    """Return what to send to one arm.

    Args:
        profile: units of the driver.
        arm: ``left`` or ``right``.
        row: float64[7], j1..j6 in rad and the open fraction of the gripper.

    Returns:
        float64[7] in the order of the profile's command joints. A gripper within its tolerance of an end is sent to it.

    Raises:
        BodyError: FV-TOP-011 for another length, FV-TOP-012 for a value that is not finite, FV-TOP-013 for a gripper
            outside of its range.
    """
    topics = profile.arm(arm)
    where = f"command to the {arm} arm"
    values = _seven_finite(row, topics.command.joints, where)
    fraction = float(values[-1])
    _require_gripper(profile, arm, fraction, where)
    values[-1] = topics.gripper.to_driver(fraction)
    return values


def from_driver(profile: TopicProfile, arm: str, names: Sequence[str], positions: Sequence[float]) -> JointArray:
    """Return where one arm is.

    Args:
        profile: names and units of the driver.
        arm: ``left`` or ``right``.
        names, positions: those of the driver's message.

    Returns:
        float64[7], j1..j6 in rad and the open fraction of the gripper, which may lie a little outside of 0..1.

    Raises:
        BodyError: FV-TOP-010 for a joint that is missing or named twice, FV-TOP-011 for another length, FV-TOP-012
            for a value that is not finite, FV-TOP-013 for a gripper outside of its range.
    """
    topics = profile.arm(arm)
    where = f"feedback of the {arm} arm on {topics.feedback.topic}"
    values = _seven_finite(_ordered(topics.feedback, names, positions, where), topics.feedback.joints, where)
    fraction = topics.gripper.to_fraction(float(values[-1]))
    _require_gripper(profile, arm, fraction, where)
    values[-1] = fraction
    return values


def _ordered(feedback: Feedback, names: Sequence[str], positions: Sequence[float], where: str) -> Sequence[float]:
    if feedback.match == BY_POSITION:
        return positions
    if len(names) != len(positions):
        raise BodyError("FV-TOP-011", f"{where}: {len(names)} names for {len(positions)} positions.")
    listed = list(names)
    wrong = [name for name in feedback.joints if listed.count(name) != 1]
    if wrong:
        raise BodyError(
            "FV-TOP-010",
            f"{where}: {', '.join(wrong)} must appear exactly once; got {', '.join(listed) or 'no names'}. "
            "Correct the joints of the topic profile.",
        )
    return [positions[listed.index(name)] for name in feedback.joints]


def _seven_finite(values: Sequence[float] | JointArray, joints: Sequence[str], where: str) -> JointArray:
    row = np.array(values, dtype=np.float64)
    if row.shape != (ARM_DOF,):
        raise BodyError("FV-TOP-011", f"{where}: got positions of shape {row.shape}, wanted ({ARM_DOF},).")
    bad = [joint for joint, value in zip(joints, row, strict=True) if not np.isfinite(value)]
    if bad:
        raise BodyError("FV-TOP-012", f"{where}: the position of {', '.join(bad)} is not finite.")
    return row


def _require_gripper(profile: TopicProfile, arm: str, fraction: float, where: str) -> None:
    gripper = profile.arm(arm).gripper
    if not gripper.holds(fraction):
        raise BodyError(
            "FV-TOP-013",
            f"{where}: the gripper is {fraction:.3g} open, wanted 0 to 1 within {gripper.tolerance:g}. Profile "
            f"{profile.name} says closed {gripper.closed:g}, open {gripper.open:g} {gripper.unit}; is it the driver's "
            "unit?",
        )
