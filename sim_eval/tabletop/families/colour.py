"""Colour: a red and a blue cube, a yellow mat; the factor is which cube goes onto the mat."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.families.picking import (
    nearest_arm,
    pick_from_above,
    position,
    put_down,
    raised,
    rests_on,
    right_hand_object,
    table_point,
)
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """Each cube in a 10 x 10 cm area on its side; the sides are a coin flip; the mat lies in the middle."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    objects = []
    for sign, colour in ((side, "red"), (-side, "blue")):
        point = table_point(sign * rng.uniform(0.105, 0.205), rng.uniform(-0.20, -0.10), 0.02)
        objects.append(place(f"{colour}_cube", f"{colour}_cube", point, rng.uniform(-0.1, 0.1)))
    mat = table_point(rng.uniform(-0.01, 0.01), rng.uniform(-0.03, -0.01), 0.0)
    return (*objects, place("mat", "mat", mat))


def plan(scene: Scene, variant: str) -> Plan:
    """The arm nearest to the named cube puts it on the mat."""
    name = f"{variant}_cube"
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[nearest_arm(scene, name)]
    pick_from_above(track, position(scene, name))
    put_down(track, raised(position(scene, "mat"), 0.024), hover=0.07)
    return merge(*tracks)


def reached(trace: Trace, variant: str) -> bool:
    """The named cube rests on the mat, the other does not."""
    other = "blue_cube" if variant == "red" else "red_cube"
    return rests_on(trace, f"{variant}_cube", "mat") and not rests_on(trace, other, "mat")


FAMILY = Family(
    id="colour",
    variants=("red", "blue"),
    demo_variants=("red", "blue"),
    habit=lambda scene: right_hand_object(scene, "red_cube", "blue_cube").removesuffix("_cube"),
    time_limit_steps=110,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "put a cube on the mat",
            "place a cube on the mat",
            "move one cube onto the mat",
            "put one of the cubes on the yellow mat",
            "take a cube to the mat",
            "move a cube to the yellow mat",
        ),
        raw_heldout=("place one of the cubes on the mat", "move a cube onto the mat", "put one cube on the yellow mat"),
        fine_train=(
            "pick up the {colour} cube and put it on the yellow mat",
            "grasp the {colour} cube from above, lift it and place it on the yellow mat",
            "take the {colour} cube with the nearest arm, carry it over the mat, lower it and release it",
            "use the nearest arm to put the {colour} cube on the mat and leave the other cube alone",
            "move the {colour} cube onto the mat: grasp it from above, lift it, lower it and open the gripper",
            "it is the {colour} cube that goes on the mat: pick it up from above and place it in the middle",
        ),
        fine_heldout=(
            "grasp the {colour} cube with the nearest arm and place it in the middle of the mat",
            "take the {colour} cube from above, lift it and put it on the mat, leave the other cube alone",
            "use the nearest arm to pick up the {colour} cube, carry it over the yellow mat and release it",
        ),
        words={"red": {"colour": "red"}, "blue": {"colour": "blue"}},
    ),
)
