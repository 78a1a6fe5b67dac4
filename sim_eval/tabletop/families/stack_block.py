"""Stack Block: the red cube goes onto the green cube; no factor."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.families.picking import (
    nearest_arm,
    pick_from_above,
    position,
    put_down,
    raised,
    rests_on,
    table_point,
)
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """Red in a 10 x 10 cm area on the left or the right, green near the middle."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    red = table_point(side * rng.uniform(0.105, 0.205), rng.uniform(-0.20, -0.10), 0.02)
    green = table_point(rng.uniform(-0.02, 0.02), rng.uniform(-0.06, 0.02), 0.02)
    return (
        place("red", "red_cube", red, rng.uniform(-0.1, 0.1)),
        place("green", "green_cube", green, rng.uniform(-0.1, 0.1)),
    )


def plan(scene: Scene, variant: str) -> Plan:
    """The arm nearest to red picks it up from above and puts it centred on green."""
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[nearest_arm(scene, "red")]
    pick_from_above(track, position(scene, "red"))
    put_down(track, raised(position(scene, "green"), 0.042), hover=0.06)
    return merge(*tracks, stay=8)


def reached(trace: Trace, variant: str) -> bool:
    """Red rests on green, released."""
    return rests_on(trace, "red", "green")


FAMILY = Family(
    id="stack_block",
    variants=("default",),
    demo_variants=("default",),
    habit=lambda scene: "default",
    time_limit_steps=110,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "stack the blocks",
            "stack the two blocks",
            "stack one block on the other",
            "build a stack",
            "make a stack of blocks",
            "build a stack of two blocks",
        ),
        raw_heldout=("make a stack", "build a stack of blocks", "make a stack of the two blocks"),
        fine_train=(
            "grasp the red block from above, place it centred on the green block and release it",
            "pick up the red block with the nearest arm, put it on top of the green block and let it go",
            "use the nearest arm to lift the red block and place it centred on top of the green block",
            "take the red block from above, carry it over the green block, lower it slowly and open the gripper",
            "stack the red block on the green block: grasp it from above, lift it, lower it and release it",
            "with the nearest arm, put the red block on the green block, open the gripper and go home",
        ),
        fine_heldout=(
            "use the nearest arm to grasp the red block from above and put it centred on top of the green block",
            "take the red block, lift it, carry it over the green block, lower it and release it",
            "pick up the red block from above, place it on the green block and open the gripper",
        ),
        words={"default": {}},
    ),
)
