"""The driver's side of a topic profile: what a simulated robot hears and says in the units of the real one.

It is the mirror of ``driver_units``, which is the side of whoever drives. What is heard is checked as strictly as
there; what is said is not checked at all, because a robot with a fault must be able to say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.driver_units import from_driver
from finevla_runtime.robot.topic_profile import BY_NAME, ArmTopics, Command, Feedback, TopicProfile


class SimulatedDriver:
    """Reads commands and says feedback for the two arms of one profile."""

    def __init__(self, profile: TopicProfile) -> None:
        """Prepare both arms."""
        self._profile = profile
        self._heard = replace(profile, left=_heard(profile.left), right=_heard(profile.right))

    def read_command(self, arm: str, names: Sequence[str], positions: Sequence[float]) -> JointArray:
        """Return what one arm is told.

        Args:
            arm: ``left`` or ``right``.
            names, positions: those of the message, joints of the profile's command in any order.

        Returns:
            float64[7], j1..j6 in rad and the open fraction of the gripper within 0..1.

        Raises:
            BodyError: FV-TOP-010 to FV-TOP-013 for a command that the profile does not describe.
        """
        row = from_driver(self._heard, arm, names, positions)
        row[-1] = np.clip(row[-1], 0.0, 1.0)
        return row

    def feedback(self, arm: str, row: JointArray) -> JointArray:
        """Return what one arm says.

        Args:
            arm: ``left`` or ``right``.
            row: float64[7], j1..j6 in rad and the open fraction of the gripper, finite or not.

        Returns:
            float64[7] in the order of the profile's feedback joints.
        """
        gripper = self._profile.arm(arm).gripper
        said = np.array(row, dtype=np.float64)
        said[-1] = gripper.closed + (gripper.open - gripper.closed) * said[-1]
        return said


def _heard(arm: ArmTopics) -> ArmTopics:
    """Return the arm with both directions exchanged: what it is told is what is heard here."""
    told, said = arm.command, arm.feedback
    return replace(arm, feedback=Feedback(told.topic, BY_NAME, told.joints), command=Command(said.topic, said.joints))
