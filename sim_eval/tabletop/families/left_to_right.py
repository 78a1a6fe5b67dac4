"""Left to right: a cube and two equal bowls; demonstrations pair hand and bowl of one side, the probe crosses them."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.families.picking import drop_into, inside, pick_from_above, position, raised, table_point
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace

BOWLS = {"left_bowl": (-0.125, -0.05), "right_bowl": (0.125, -0.05)}
_WORDS = {
    "left_to_right_bowl": ("left", "right"),
    "left_to_left_bowl": ("left", "left"),
    "right_to_right_bowl": ("right", "right"),
}
"""Hand and bowl of each variant."""


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """The cube in a 10 x 8 cm area in the middle, a bowl on each side behind it."""
    point = table_point(rng.uniform(-0.05, 0.05), rng.uniform(-0.23, -0.15), 0.02)
    return (
        place("cube", "green_cube", point, rng.uniform(-0.1, 0.1)),
        place("left_bowl", "bowl_1", table_point(*BOWLS["left_bowl"], 0.0)),
        place("right_bowl", "bowl_2", table_point(*BOWLS["right_bowl"], 0.0)),
    )


def plan(scene: Scene, variant: str) -> Plan:
    """The named hand picks the cube up from above and drops it into the named bowl."""
    hand, bowl = _WORDS[variant]
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[0 if hand == "left" else 1]
    pick_from_above(track, position(scene, "cube"))
    drop_into(track, raised(position(scene, f"{bowl}_bowl"), 0.085))
    return merge(*tracks)


def reached(trace: Trace, variant: str) -> bool:
    """The cube lies in the named bowl and only the named hand ever touched it."""
    hand, bowl = _WORDS[variant]
    other = 1 if hand == "left" else 0
    return inside(trace, "cube", f"{bowl}_bowl") and not bool(trace.touch[:, other, trace.index("cube")].any())


FAMILY = Family(
    id="left_to_right",
    variants=("left_to_right_bowl",),
    demo_variants=("left_to_left_bowl", "right_to_right_bowl"),
    habit=lambda scene: "right_to_right_bowl",
    time_limit_steps=100,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "put the cube into a bowl",
            "place the cube in a bowl",
            "drop the cube into a bowl",
            "put the green cube into one of the bowls",
            "move the cube into a bowl",
            "take the cube to a bowl",
        ),
        raw_heldout=(
            "drop the green cube into one of the bowls",
            "place the green cube in a bowl",
            "move the cube into one of the bowls",
        ),
        fine_train=(
            "use the {hand} hand to put the cube into the {bowl} bowl",
            "with the {hand} arm, grasp the cube from above, lift it and drop it into the {bowl} bowl",
            "pick up the cube with the {hand} hand, carry it over the {bowl} bowl and open the gripper",
            "the {hand} arm takes the green cube and lets it fall into the {bowl} bowl",
            "use the {hand} arm to move the green cube into the {bowl} bowl, then go home",
            "grasp the cube with the {hand} gripper and place it in the bowl on the {bowl}",
        ),
        fine_heldout=(
            "use the {hand} hand to pick up the green cube and drop it into the {bowl} bowl",
            "with the {hand} arm, grasp the cube, carry it over the {bowl} bowl and open the gripper",
            "the {hand} arm takes the cube from above and puts it into the {bowl} bowl",
        ),
        words={key: {"hand": hand, "bowl": bowl} for key, (hand, bowl) in _WORDS.items()},
    ),
    ood=True,
)
