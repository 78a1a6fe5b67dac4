"""How often the judge agrees with the scripted truth, right and wrong behaviours alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finevla_runtime.contracts.rubric import FamilyRubric, Rubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Compliance
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.session.scoring import derive_compliance, score
from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.judge.behaviours import Behaviour, behaviours, perform
from sim_eval.tabletop.judge.sheet import check_rubric, judge
from sim_eval.tabletop.trace import Trace
from sim_eval.tabletop.world import TabletopWorld

RUBRIC_PATH = HW_CONFIGS / "rubrics" / "tabletop.yaml"
"""The shipped rubric."""


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Agreement on one behaviour of one family, judged under one instruction.

    Attributes:
        family: family id.
        told: variant the instruction asked for.
        behaviour: what was done.
        trials: scenes.
        compliance: scenes whose derived compliance is the true one.
        success: scenes whose derived success is the true one.
        successes: scenes that were judged successful.
        mean_score: mean score 0..100.
        wrong_seeds: scenes on which compliance or success differ from the truth.
    """

    family: str
    told: str
    behaviour: str
    trials: int
    compliance: int
    success: int
    successes: int
    mean_score: float
    wrong_seeds: tuple[int, ...]

    @property
    def agreed(self) -> int:
        """Scenes on which everything agrees."""
        return self.trials - len(self.wrong_seeds)


@dataclass(frozen=True, slots=True)
class _Verdict:
    told: str
    behaviour: str
    seed: int
    compliance: bool
    success: bool
    succeeded: bool
    score: float


def agreement_report(seeds_per_variant: int, first_seed: int, families: tuple[str, ...] = ()) -> list[AgreementRow]:
    """Run :func:`agreement_table` with the shipped rubric.

    Raises:
        SetupError: FV-CFG-*, FV-RUB-* or FV-JDG-* when the rubric is broken, FV-RUB-009 for an unknown family.
    """
    rubric = load_rubric(RUBRIC_PATH)
    check_rubric(rubric)
    return agreement_table(rubric, seeds_per_variant, first_seed, families)


def agreement_table(
    rubric: Rubric,
    seeds_per_variant: int,
    first_seed: int,
    families: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> list[AgreementRow]:
    """Run every behaviour on consecutive scenes without rendering and judge it under every instruction.

    Args:
        rubric: the rubric that is judged with.
        seeds_per_variant: scenes of each behaviour.
        first_seed: first scene seed.
        families: families to run, all when empty.
        progress: called with the id of each family before it begins.
    """
    world = TabletopWorld(render=False)
    rows: list[AgreementRow] = []
    for family in [rubric.family(name) for name in families] or list(rubric.families):
        progress(family.id)
        verdicts: list[_Verdict] = []
        for seed in range(first_seed, first_seed + seeds_per_variant):
            scene = sample_scene(family.id, seed)
            for behaviour in behaviours(family, scene):
                trace = perform(world, scene, behaviour.targets)
                verdicts.extend(_judged(family, told, behaviour, trace, seed) for told in family.variants)
        rows.extend(_rows(family.id, verdicts))
    return rows


def _judged(family: FamilyRubric, told: str, behaviour: Behaviour, trace: Trace, seed: int) -> _Verdict:
    outcome = score(family, told, judge(trace, family, told))
    compliance = derive_compliance(family.requested(told), behaviour.observed)
    success = behaviour.done and compliance in (Compliance.COMPLIED, Compliance.NO_FACTOR)
    return _Verdict(
        told,
        behaviour.name,
        seed,
        outcome.compliance is compliance,
        outcome.success is success,
        outcome.success,
        outcome.score,
    )


def _rows(family: str, verdicts: list[_Verdict]) -> list[AgreementRow]:
    cells = dict.fromkeys((verdict.told, verdict.behaviour) for verdict in verdicts)
    rows = []
    for told, behaviour in sorted(cells, key=lambda cell: list(cells).index(cell)):
        mine = [item for item in verdicts if (item.told, item.behaviour) == (told, behaviour)]
        rows.append(
            AgreementRow(
                family,
                told,
                behaviour,
                len(mine),
                sum(item.compliance for item in mine),
                sum(item.success for item in mine),
                sum(item.succeeded for item in mine),
                sum(item.score for item in mine) / len(mine),
                tuple(item.seed for item in mine if not (item.compliance and item.success)),
            )
        )
    return rows
