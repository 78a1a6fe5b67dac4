"""How careful to be with one body: loaded strictly from ``hw_configs/safety/``, one file for each embodiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.action import GRIPPER_INDICES, JOINT_NAMES
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.motion.limits import MotionLimits
from finevla_runtime.motion.setpoint import JointArray

ARM_JOINTS = tuple(f"j{number}" for number in range(1, 7))


@dataclass(frozen=True, eq=False)
class SafetyProfile:
    """Limits, tolerances and patience of the guard for one body.

    Attributes:
        embodiment: body it is for.
        limits: of position, velocity, acceleration and jerk.
        tracking: float64[14], largest distance between command and measured position.
        start: float64[14], largest distance between the pose in which motion begins and the first wanted position.
        outside: float64[14], how far a measured position may lie outside its range.
        approach_share: share of the speed limits used when an operator allows a start from further away.
        state_age_s: age from which a measured position is stale.
        observation_age_s: age from which the observation behind a motion is stale.
        longest_tick_s: longest time between two commands that still counts whole.
        late_ticks: number of longer ones in a row after which motion holds.
        patience_s: how long a hold may last before it becomes a stop.
    """

    embodiment: str
    limits: MotionLimits
    tracking: JointArray
    start: JointArray
    outside: JointArray
    approach_share: float
    state_age_s: float
    observation_age_s: float
    longest_tick_s: float
    late_ticks: int
    patience_s: float


def load_safety_profile(path: Path, embodiment: Embodiment) -> SafetyProfile:
    """Read one ``hw_configs/safety/*.yaml`` for a body; both arms have the same values.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys, FV-SAF-020 for a value that is no tolerance,
            FV-MOT-001 for impossible limits.
    """
    keys = load_yaml(path).mapping(
        ["embodiment", "joints", "approach_share", "age_s", "tick", "patience_s"],
    )
    keys["embodiment"].one_of([embodiment.name])
    columns = _joints(keys["joints"])
    ages = keys["age_s"].mapping(["state", "observation"])
    tick = keys["tick"].mapping(["longest_s", "late_in_a_row"])
    share = _positive(keys["approach_share"])
    if share > 1:
        raise keys["approach_share"].fail("FV-SAF-020", f"share {share:g}; wanted above 0 and at most 1.")
    late = tick["late_in_a_row"].integer()
    if late < 1:
        raise tick["late_in_a_row"].fail("FV-SAF-020", f"{late}; wanted 1 or more.")
    return SafetyProfile(
        embodiment=embodiment.name,
        limits=_limits(embodiment, columns),
        tracking=columns["tracking"],
        start=columns["start"],
        outside=columns["outside"],
        approach_share=share,
        state_age_s=_positive(ages["state"]),
        observation_age_s=_positive(ages["observation"]),
        longest_tick_s=_positive(tick["longest_s"]),
        late_ticks=late,
        patience_s=_positive(keys["patience_s"]),
    )


def _limits(embodiment: Embodiment, columns: dict[str, JointArray]) -> MotionLimits:
    joints = embodiment.joints
    return MotionLimits(
        lower=np.array([joint.lower for joint in joints]),
        upper=np.array([joint.upper for joint in joints]),
        velocity=np.array([joint.velocity_s for joint in joints]),
        acceleration=columns["acceleration_s2"],
        jerk=columns["jerk_s3"],
    )


def _joints(node: Node) -> dict[str, JointArray]:
    """Return float64[14] per column, from one row for each joint of an arm."""
    names = ("acceleration_s2", "jerk_s3", "tracking", "start", "outside")
    kinds = (*ARM_JOINTS, "gripper")
    rows = node.mapping(kinds)
    columns: dict[str, list[float]] = {name: [] for name in names}
    for kind in kinds * 2:
        row = rows[kind].mapping(names)
        for name in names:
            columns[name].append(_positive(row[name]))
    return {name: np.array(values) for name, values in columns.items()}


def _positive(node: Node) -> float:
    value = node.number()
    if value <= 0:
        raise node.fail("FV-SAF-020", f"{value:g}; wanted above 0.")
    return value


def unit_of(joint: int) -> str:
    """Return the unit of a joint's position, for messages."""
    return "of its opening" if joint in GRIPPER_INDICES else "rad"


def name_of(joint: int) -> str:
    """Return the name of a joint, for messages."""
    return JOINT_NAMES[joint]
