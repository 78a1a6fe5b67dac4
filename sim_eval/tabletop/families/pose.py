"""Pose: two equal bottles, one standing and one lying; the factor is which of them goes into the box."""

from __future__ import annotations

import math

import numpy as np

from sim_eval.tabletop.families.picking import (
    inside,
    nearest_arm,
    pick_from_above,
    position,
    put_down,
    right_hand_object,
    table_point,
)
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace

BOX = (0.0, -0.005)
_HALF = math.sqrt(0.5)
_GRASP = {"standing": 0.088, "lying": 0.020}
"""Height of the grasp above the table, metres."""
_RELEASE = {"standing": 0.096, "lying": 0.030}
"""Height of the tool above the table when it lets go inside the box, metres."""


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """Each bottle in a 10 x 10 cm area on its side, sides by a coin flip; the lying one lies across."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    stand = table_point(side * rng.uniform(0.115, 0.205), rng.uniform(-0.22, -0.12), 0.06)
    lie = table_point(-side * rng.uniform(0.125, 0.195), rng.uniform(-0.22, -0.12), 0.0185)
    turn, yaw = rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)
    lying = ObjectPlacement("lying_bottle", "bottle_2", (*lie, *_on_its_side(side, yaw)))
    return (place("standing_bottle", "bottle_1", stand, turn), lying, place("box", "box", table_point(*BOX, 0.0)))


def _on_its_side(side: float, yaw: float) -> tuple[float, float, float, float]:
    """Quaternion of a tip by 90 degrees about y, cap towards the middle of the table, followed by a yaw (rad)."""
    c, s, tip = math.cos(yaw / 2.0), math.sin(yaw / 2.0), side * _HALF
    return (c * _HALF, -s * tip, c * tip, s * _HALF)


def plan(scene: Scene, variant: str) -> Plan:
    """The arm nearest to the named bottle grasps it from above and sets it down inside the box."""
    name = f"{variant}_bottle"
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[nearest_arm(scene, name)]
    point = position(scene, name)
    point[2] = table_point(0.0, 0.0, _GRASP[variant])[2]
    quarter = math.pi / 2.0 if track.arm else -math.pi / 2.0
    pick_from_above(track, point, yaw=quarter if variant == "lying" else 0.0)
    x = BOX[0] + (0.0 if variant == "lying" else 0.025 if track.arm else -0.025)
    put_down(track, np.array(table_point(x, BOX[1], _RELEASE[variant])), hover=0.075, arch=0.03)
    return merge(*tracks)


def reached(trace: Trace, variant: str) -> bool:
    """The named bottle is in the box, the other is not."""
    other = "lying" if variant == "standing" else "standing"
    return inside(trace, f"{variant}_bottle", "box") and not inside(trace, f"{other}_bottle", "box")


FAMILY = Family(
    id="pose",
    variants=("standing", "lying"),
    demo_variants=("standing", "lying"),
    habit=lambda scene: right_hand_object(scene, "standing_bottle", "lying_bottle").removesuffix("_bottle"),
    time_limit_steps=110,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "put a bottle in the box",
            "place a bottle in the box",
            "put one of the bottles into the box",
            "move one bottle into the box",
            "take a bottle to the box",
            "pack a bottle into the box",
        ),
        raw_heldout=(
            "place one of the bottles in the box",
            "move a bottle into the box",
            "pack one bottle into the box",
        ),
        fine_train=(
            "pick up the bottle that is {pose} and put it in the box",
            "grasp the {pose} bottle from above, lift it and place it in the box",
            "take the {pose} bottle with the nearest arm, carry it over the box, lower it and release it",
            "use the nearest arm to put the {pose} bottle into the box and leave the other bottle alone",
            "move the bottle that is {pose} into the box: grasp it from above, lift it and open the gripper inside",
            "it is the {pose} bottle that goes in the box: pick it up from above and lower it into the middle",
        ),
        fine_heldout=(
            "grasp the bottle that is {pose} with the nearest arm and place it in the middle of the box",
            "take the {pose} bottle from above, lift it and put it in the box, leave the other bottle alone",
            "use the nearest arm to pick up the {pose} bottle, carry it over the box and release it",
        ),
        words={"standing": {"pose": "standing"}, "lying": {"pose": "lying"}},
    ),
)
