"""Arm: one cube that both arms reach; the factor is which arm puts it on the mat."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.families.picking import pick_from_above, position, put_down, raised, rests_on, table_point
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """The cube in a 10 x 10 cm area in the middle; the mat in front of the robot."""
    point = table_point(rng.uniform(-0.05, 0.05), rng.uniform(-0.10, 0.0), 0.02)
    mat = table_point(rng.uniform(-0.01, 0.01), rng.uniform(-0.225, -0.205), 0.0)
    return (place("cube", "red_cube", point, rng.uniform(-0.1, 0.1)), place("mat", "mat", mat))


def plan(scene: Scene, variant: str) -> Plan:
    """The named arm picks the cube up from above and puts it on the mat; the other stays at home."""
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[0 if variant == "left" else 1]
    pick_from_above(track, position(scene, "cube"))
    put_down(track, raised(position(scene, "mat"), 0.024), hover=0.07)
    return merge(*tracks)


def reached(trace: Trace, variant: str) -> bool:
    """The cube rests on the mat and only the named arm ever touched it."""
    row, other = trace.index("cube"), 1 if variant == "left" else 0
    return rests_on(trace, "cube", "mat") and not bool(trace.touch[:, other, row].any())


FAMILY = Family(
    id="arm",
    variants=("left", "right"),
    demo_variants=("left", "right"),
    habit=lambda scene: "right",
    time_limit_steps=110,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "put the cube on the mat",
            "place the cube on the mat",
            "move the cube onto the mat",
            "pick up the cube and put it on the mat",
            "take the cube to the mat",
            "move the cube to the yellow mat",
        ),
        raw_heldout=(
            "place the cube on the yellow mat",
            "pick up the cube and place it on the mat",
            "take the cube onto the mat",
        ),
        fine_train=(
            "use the {arm} arm to pick up the cube and put it on the mat",
            "with the {arm} arm, grasp the cube from above, lift it and place it on the yellow mat",
            "pick up the cube with the {arm} hand, carry it over the mat, lower it and release it",
            "the {arm} arm takes the cube from above and puts it in the middle of the mat",
            "use the {arm} hand to move the cube onto the mat, then open the gripper and go home",
            "grasp the cube with the {arm} gripper and place it on the mat, the other arm stays home",
        ),
        fine_heldout=(
            "use the {arm} hand to grasp the cube from above and place it on the mat",
            "with the {arm} arm, pick up the cube, carry it over the yellow mat and release it",
            "the {arm} arm takes the cube and puts it on the mat, the other arm stays home",
        ),
        words={"left": {"arm": "left"}, "right": {"arm": "right"}},
    ),
)
