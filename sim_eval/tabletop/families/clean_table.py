"""Clean Table: a cup and a wrapper, one on each side, go into the bin, each by the nearest arm; no factor."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.families.picking import drop_into, inside, nearest_arm, pick_from_above, position, table_point
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace

BIN = (0.0, -0.01)
_ITEMS = {"cup": (0.03, 0.036), "wrapper": (0.015, 0.018)}
"""Half height and height of the grasp above the table, metres."""


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """One item in a 9 x 10 cm area left, the other right; which is which is a coin flip."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    objects = []
    for sign, name in ((side, "cup"), (-side, "wrapper")):
        x, y, yaw = sign * rng.uniform(0.12, 0.21), rng.uniform(-0.20, -0.10), rng.uniform(-0.1, 0.1)
        objects.append(place(name, name, table_point(x, y, _ITEMS[name][0]), yaw))
    return (*objects, place("bin", "bin", table_point(*BIN, 0.0)))


def plan(scene: Scene, variant: str) -> Plan:
    """The left item by the left arm first, then the right item by the right arm while the left goes home."""
    tracks = ArmTrack(0), ArmTrack(1)
    for name in sorted(_ITEMS, key=lambda item: nearest_arm(scene, item)):
        track = tracks[nearest_arm(scene, name)]
        if track.arm == 1:
            track.wait_until(len(tracks[0]) - 6)
        point = position(scene, name)
        point[2] = table_point(0.0, 0.0, _ITEMS[name][1])[2]
        pick_from_above(track, point, lift=0.10)
        drop_into(track, np.array(table_point(BIN[0] + (0.03 if track.arm else -0.03), BIN[1], 0.115)))
    return merge(*tracks)


def reached(trace: Trace, variant: str) -> bool:
    """Both items lie in the bin."""
    return inside(trace, "cup", "bin") and inside(trace, "wrapper", "bin")


FAMILY = Family(
    id="clean_table",
    variants=("default",),
    demo_variants=("default",),
    habit=lambda scene: "default",
    time_limit_steps=170,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "clean the table",
            "clear the table",
            "put the trash into the bin",
            "throw away the trash",
            "remove the trash from the table",
            "tidy the table",
        ),
        raw_heldout=("clean the trash from the table", "throw the trash into the bin", "clear away the trash"),
        fine_train=(
            "pick up each piece of trash from above with the nearest arm and drop it into the bin",
            "with the nearest arm, grasp each piece of trash from above, lift it and let it fall into the bin",
            "first the left arm, then the right arm: grasp the nearest piece of trash and drop it into the bin",
            "use the left arm for the piece of trash on the left and the right arm for the one on the right, "
            "drop each into the bin",
            "take each piece of trash with the arm on its side, carry it over the bin, open the gripper and go home",
            "grasp the cup and the wrapper from above, each with the nearest arm, and drop both into the bin",
        ),
        fine_heldout=(
            "with the nearest arm, pick up each piece of trash from above, carry it over the bin and drop it",
            "use the arm on its side to grasp each piece of trash and let it fall into the bin",
            "first the left arm, then the right arm: pick up the trash from above and drop it into the bin",
        ),
        words={"default": {}},
    ),
)
