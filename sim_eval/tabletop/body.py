"""The tabletop world as a body: it moves in slices of time as a robot does, and the suite's own judge looks on.

A scene is named ``family/seed``, for example ``colour/3``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import BodyError, SetupError, unknown_name
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.evidence.outcomes import done_as_told
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.paths import RUBRICS
from finevla_runtime.robot.simulated_body import STATUS_OK, BodyJudgement, Substeps, checked_drive
from finevla_runtime.session.record_codec import outcome_to_json, sheet_to_json
from finevla_runtime.session.scoring import score, void_reason
from finevla_runtime.session.strict_json import Json
from sim_eval.tabletop.catalog import FAMILIES, sample_scene
from sim_eval.tabletop.judge import judge
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.world import CONTROL_HZ, PHYSICS_HZ, TabletopWorld

EMBODIMENT = "cobot_magic_sim"
LONGEST_TRACE_S = 600.0
"""Seconds after a reset that are kept for the judge; a body that waits for work overnight must not fill the memory."""


def tabletop_body(embodiment: Embodiment) -> TabletopBody:
    """Make the tabletop world with its cameras and the shipped rubric.

    Raises:
        SetupError: FV-BDY-006 for another embodiment, FV-SIM-005 when nothing can render its cameras.
    """
    if embodiment.name != EMBODIMENT:
        raise SetupError(
            "FV-BDY-006",
            f"the tabletop simulates the body {EMBODIMENT!r}, not {embodiment.name!r}; choose a topic profile of "
            f"{EMBODIMENT!r}, or the body 'kinematic'.",
        )
    return TabletopBody(TabletopWorld(render=True), load_rubric(RUBRICS / "tabletop.yaml"))


class TabletopBody:
    """A SimulatedBody in simulated physics; before the first reset there is nothing to move (SetupError FV-SIM-006)."""

    embodiment = EMBODIMENT

    def __init__(self, world: TabletopWorld, rubric: Rubric) -> None:
        """Take a world, whose cameras are the body's if it renders, and the rubric that judges in it."""
        self._world = world
        self._rubric = rubric
        self._scene: Scene | None = None
        self._substeps = Substeps(PHYSICS_HZ)
        self._noise = np.random.default_rng(0)

    def reset(self, scene: str) -> None:
        """Build a scene ``family/seed`` anew.

        Raises:
            SetupError: FV-BDY-003 for a name of another form, FV-SIM-001 for an unknown family.
        """
        self._scene = read_scene(scene)
        self._world.reset(self._scene)
        self._substeps = Substeps(PHYSICS_HZ)

    def advance(self, target: JointArray, dt_s: float) -> None:
        """Run the physics for ``dt_s`` seconds (BodyError FV-BDY-004 for a target that cannot be followed)."""
        goal = checked_drive(target, dt_s)
        self._world.drive(goal, self._substeps.take(dt_s), recorded=self._world.time_s < LONGEST_TRACE_S)

    def measured(self) -> JointArray:
        """Return the simulated joints, float64[14]."""
        return self._world.joint_position().astype(np.float64)

    def images(self) -> Mapping[str, ByteArray]:
        """Render the cameras; a world that does not render has none.

        The lowest bit of every value is noise: a real camera never sees the same picture twice, and a picture that
        does not change at all is how a frozen one is found.
        """
        return {name: self._noisy(image) for name, image in self._world.observe().images.items()}

    def judge(self, variant: str, kind: str) -> BodyJudgement:
        """Judge the motion since the last reset as the suite judges a trial.

        Args:
            variant: id of the variant that was asked for.
            kind: of the instruction that was given, as evidence.outcomes reads it.

        Raises:
            SetupError: FV-BDY-008 for another kind, FV-RUB-010 for an unknown variant, FV-SIM-006 before the first
                reset.
            BodyError: FV-BDY-009 when the scene has run for longer than is kept.
        """
        told = _kind(kind)
        trace, time_s = self._world.trace(), self._world.time_s
        if time_s >= LONGEST_TRACE_S:
            raise BodyError(
                "FV-BDY-009",
                f"the scene has run for {time_s:.0f} s and only the first {LONGEST_TRACE_S:.0f} s are kept; "
                "reset it before a trial.",
            )
        rubric = self._rubric.family(trace.family)
        sheet = judge(trace, rubric, variant)
        outcome, void = score(rubric, variant, sheet), void_reason(rubric, sheet)
        record: Json = {
            "family": trace.family,
            "scene_seed": trace.seed,
            "variant": variant,
            "kind": told.value,
            "rubric": self._rubric.digest,
            "sheet": sheet_to_json(sheet),
            "outcome": outcome_to_json(outcome),
            "status": "void" if void else "scored",
            "void_reason": void,
            "steps": round(time_s * CONTROL_HZ),
            "time_s": time_s,
            "state_hash": self._world.state_hash(),
        }
        return BodyJudgement(done_as_told(outcome, told), outcome.score, json.dumps(record, allow_nan=False))

    def status(self) -> int:
        """Return 0: simulated arms have no fault of their own."""
        return STATUS_OK

    def _noisy(self, image: ByteArray) -> ByteArray:
        return image ^ self._noise.integers(0, 2, image.shape, dtype=np.uint8)


def read_scene(name: str) -> Scene:
    """Return the scene of a name ``family/seed``.

    Raises:
        SetupError: FV-BDY-003 for a name of another form, FV-SIM-001 for an unknown family.
    """
    family, _, seed = name.partition("/")
    if not seed.isdecimal() or not seed.isascii():
        raise SetupError(
            "FV-BDY-003",
            f"scene {name!r}; wanted family/seed, for example colour/3. Families: {', '.join(FAMILIES)}.",
        )
    return sample_scene(family, int(seed))


def _kind(name: str) -> InstructionKind:
    known = [kind.value for kind in InstructionKind]
    if name not in known:
        raise unknown_name("FV-BDY-008", "kind of instruction", name, known)
    return InstructionKind(name)
