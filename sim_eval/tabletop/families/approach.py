"""Approach: one green block; the factor is whether the hand comes from above or from the side."""

from __future__ import annotations

import math

import numpy as np

from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.actors import TABLE_HEIGHT
from sim_eval.tabletop.families.picking import position, raised, table_point
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace

_GRASP = {"above": 0.075, "side": 0.060}
"""Height of the grasp above the table, metres."""
_START = 0.11
"""Metres before the grasp from which the hand moves straight in."""
_LIFT = 0.10
_KEEP = 24
"""Steps the block is kept up, a little over two seconds."""


def heading(x: float, y: float) -> float:
    """Direction from the right arm's base to a point, rad counterclockwise from world +y."""
    base = km.BASES[1]
    return math.atan2(-(x - base[0]), y - base[1])


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """The block in a 10 x 10 cm area, its faces turned towards the right arm."""
    x, y = rng.uniform(-0.03, 0.07), rng.uniform(-0.09, 0.01)
    yaw = heading(x, y) + rng.uniform(-0.08, 0.08)
    return (place("green", "green_block", table_point(x, y, 0.05), yaw),)


def plan(scene: Scene, variant: str) -> Plan:
    """The right arm moves in straight, closes, lifts and keeps the block up."""
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[1]
    point = position(scene, "green")
    angle = heading(point[0], point[1])
    point[2] = TABLE_HEIGHT + _GRASP[variant]
    rotation = km.downward(angle) if variant == "above" else km.pitched(angle, 0.0)
    track.reach(point - _START * rotation[:, 0], rotation, 9 if variant == "above" else 12)
    track.wait(1)
    track.line(point, 6)
    track.wait(1)
    track.grip(0.0, 3)
    track.line(raised(point, _LIFT), 6)
    return merge(*tracks, stay=_KEEP)


def reached(trace: Trace, variant: str) -> bool:
    """The block is held at least 5 cm above its start."""
    row = trace.index("green")
    lifted = trace.object_pose[-1, row, 2] - trace.object_pose[0, row, 2] >= 0.05
    return bool(lifted and trace.finger_touch[-1, 1, :, row].all())


FAMILY = Family(
    id="approach",
    variants=("above", "side"),
    demo_variants=("above", "side"),
    habit=lambda scene: "above",
    time_limit_steps=100,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "pick up the block",
            "lift the block",
            "take the block",
            "raise the green block",
            "pick up the green block",
            "grasp and lift the block",
        ),
        raw_heldout=("lift the green block", "take the green block", "raise the block"),
        fine_train=(
            "grasp the green block from {direction} and lift it",
            "with the right arm, approach the green block from {direction}, close the gripper and lift it",
            "pick up the green block with the hand coming from {direction} and hold it up",
            "move the right hand to the green block from {direction}, grasp it, lift it and hold it",
            "come from {direction} with the right arm, grasp the block and raise it",
            "take the green block from {direction} with the right arm, raise it and hold it up",
        ),
        fine_heldout=(
            "with the right arm, grasp the green block from {direction} and hold it up",
            "approach the block from {direction}, close the gripper, raise it and hold it",
            "come from {direction} with the right hand, pick up the green block and lift it",
        ),
        words={"above": {"direction": "above"}, "side": {"direction": "the side"}},
    ),
)
