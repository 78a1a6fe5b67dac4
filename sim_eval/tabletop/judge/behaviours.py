"""Scripted behaviours, right and deliberately wrong, whose truth is known: what judges are measured against.

Every expert is also a wrong behaviour, for the other variant's instruction. Besides: never moving, letting go while
carrying, and spoiling the goal after it was reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.rubric import NONE, FamilyRubric
from sim_eval.tabletop.expert import plan
from sim_eval.tabletop.families.picking import nearest_arm, pick_from_above, position, raised
from sim_eval.tabletop.motion import ArmTrack, merge
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.trace import Floats, Trace
from sim_eval.tabletop.world import TabletopWorld, home_target

IDLE_STEPS = 40
"""Control steps of the behaviour that never moves."""
LET_GO_ROWS = 10
"""Rows after the fingers begin to close at which a hand that lets go opens them: lifted, not yet arrived."""
SPOILED = {"stack_block": "green", "colour": "mat", "arm": "mat"}
"""Families whose placed object can be taken away again, and on what it stands."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One scripted behaviour with its truth.

    Attributes:
        name: what it does, for tables.
        targets: float64 [T, 14], joint targets per control step.
        observed: true answers to the observe questions.
        done: whether the goal is reached at the end, ignoring the factor.
    """

    name: str
    targets: Floats
    observed: Mapping[str, str]
    done: bool


def behaviours(rubric: FamilyRubric, scene: Scene) -> tuple[Behaviour, ...]:
    """Every behaviour of a family in one scene."""
    nothing = {question.id: NONE for question in rubric.observe}
    found = [Behaviour("idle", np.tile(home_target(), (IDLE_STEPS, 1)), nothing, False)]
    for variant in rubric.variants:
        targets = plan(scene, variant).targets
        truth = dict(rubric.requested(variant))
        found.append(Behaviour(f"expert {variant}", targets, truth, True))
        if rubric.id == "rotate":
            other = plan(scene, next(item for item in rubric.variants if item != variant)).targets
            found.append(Behaviour(f"turn back {variant}", np.concatenate([targets, other]), truth, False))
            continue
        # Letting go early decides every question but where the object goes.
        dropped = {name: NONE if name == "bowl" else level for name, level in truth.items()}
        found.append(Behaviour(f"let go {variant}", let_go(targets), dropped, False))
        if rubric.id == "approach" or rubric.id in SPOILED:
            found.append(Behaviour(f"spoil {variant}", spoil(scene, variant, targets), truth, False))
    return tuple(found)


def let_go(targets: Floats) -> Floats:
    """The same motion, but each hand opens while it carries."""
    changed = targets.copy()
    for column in (6, 13):
        closing = np.flatnonzero(targets[:, column] < 0.75)
        if len(closing):
            changed[closing[0] + LET_GO_ROWS :, column] = 1.0
    return changed


def spoil(scene: Scene, variant: str, targets: Floats) -> Floats:
    """The same motion, and after the goal is reached the object is dropped, or taken off again and dropped."""
    if scene.family == "approach":
        ending = np.tile(targets[-1], (10, 1))
        ending[:, [6, 13]] = 1.0
        return np.concatenate([targets, ending])
    base = position(scene, SPOILED[scene.family])
    # A stacked cube stands 4 cm above the lower cube's centre, one on the mat 2 cm above the table.
    top = raised(base, 0.041 if scene.family == "stack_block" else 0.022)
    tracks = ArmTrack(0), ArmTrack(1)
    arm = {"left": 0, "right": 1}.get(variant)
    mover = nearest_arm(scene, _placed(scene.family, variant)) if arm is None else arm
    track = tracks[mover]
    pick_from_above(track, top)
    track.over(top + np.array([0.14 if mover else -0.14, -0.06, 0.10]), 0.0, 9)
    track.grip(1.0, 4)
    track.home(8)
    return np.concatenate([targets, merge(*tracks, stay=8).targets])


def _placed(family: str, variant: str) -> str:
    """The object that the expert placed."""
    return "red" if family == "stack_block" else f"{variant}_cube"


def perform(world: TabletopWorld, scene: Scene, targets: Floats) -> Trace:
    """Executes joint targets from the start of a scene and returns what happened."""
    world.reset(scene)
    for row in targets.astype(np.float32):
        world.step(row)
    return world.trace()
