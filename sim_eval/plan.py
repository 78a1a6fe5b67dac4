"""From a suite to the frozen trials of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Trial
from finevla_runtime.paths import RUBRICS, SUITES
from finevla_runtime.session.manifest import Manifest, RolloutSettings
from finevla_runtime.session.suite import Suite, load_suite
from sim_eval.tabletop.catalog import instruction
from sim_eval.tabletop.judge import check_rubric
from sim_eval.tabletop.world import CONTROL_HZ

EMBODIMENT = "cobot_magic_sim"
WATCHDOG_S = 60.0
"""Seconds without progress after which a worker counts as hung; a slow machine needs a few for a chunk."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take from a suite; empty or zero takes everything.

    Attributes:
        kinds: instruction kinds.
        families: family ids.
        trials: trials per variant and kind.
    """

    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    trials: int = 0


def find_suite(name: str, rubric: Rubric) -> Suite:
    """Load a shipped suite by name (FV-SUI-002 for an unknown name, else the errors of ``load_suite``)."""
    known = sorted(path.stem for path in SUITES.glob("*.yaml"))
    if name not in known:
        raise unknown_name("FV-SUI-002", "suite", name, known, "hw_configs/suites")
    return load_suite(SUITES / f"{name}.yaml", rubric)


def tabletop_rubric() -> Rubric:
    """Load the rubric of the tabletop families, every expression checked."""
    rubric = load_rubric(RUBRICS / "tabletop.yaml")
    check_rubric(rubric)
    return rubric


def select(suite: Suite, wanted: Selection) -> Suite:
    """Narrow a suite.

    Raises:
        SetupError: FV-SUI-002 for a kind or family that the suite does not have, FV-SUI-004 for a bad number.
    """
    known_kinds = [kind.value for kind in suite.kinds]
    known_families = [family.family for family in suite.families]
    for name, known, what in (
        *((kind, known_kinds, "instruction kind") for kind in wanted.kinds),
        *((family, known_families, "family") for family in wanted.families),
    ):
        if name not in known:
            raise unknown_name("FV-SUI-002", what, name, known, f"suite {suite.name!r}")
    if wanted.trials < 0:
        raise SetupError(
            "FV-SUI-004", f"got {wanted.trials} trials; wanted 1 or more, or 0 for the suite's own number."
        )
    families = [f for f in suite.families if not wanted.families or f.family in wanted.families]
    if wanted.trials:
        families = [replace(family, trials=wanted.trials) for family in families]
    kinds = tuple(kind for kind in suite.kinds if not wanted.kinds or kind.value in wanted.kinds)
    return replace(suite, kinds=kinds, families=tuple(families))


def freeze(suite: Suite, rubric: Rubric, policies: Mapping[str, str], created: str) -> Manifest:
    """Write down every trial of a suite for the given policies (label -> digest).

    The order is scene-major: all variants, kinds and policies of the first scene come first, so that a run that was
    cut short has complete pairs.
    """
    settings = RolloutSettings(
        embodiment=EMBODIMENT,
        control_hz=float(CONTROL_HZ),
        execution_rows=suite.execution_rows,
        rubric_hash=rubric.digest,
        watchdog_s=WATCHDOG_S,
    )
    return Manifest(suite.name, suite.name, created, dict(policies), settings, tuple(_trials(suite, tuple(policies))))


def _trials(suite: Suite, policies: tuple[str, ...]) -> Iterator[Trial]:
    cells = list(suite.cells())
    for row in range(max(len(cell.seeds) for cell in cells)):
        for cell in cells:
            if row < len(cell.seeds):
                for policy in policies:
                    yield _trial(cell.family, cell.variant, cell.kind, cell.seeds[row], suite.split, policy)


def _trial(family: str, variant: str, kind: InstructionKind, seed: int, split: str, policy: str) -> Trial:
    text = instruction(family, variant, kind.value, split, seed)
    return Trial(
        trial_id=f"{family}/{variant}/{kind.value}/{seed}/{policy}",
        family=family,
        variant=variant,
        scene_seed=seed,
        policy=policy,
        instruction=Instruction(text, kind, task_id=family, variant_id=variant),
    )
