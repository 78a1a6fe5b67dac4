"""The judge on the real simulator: experts succeed, and deliberately wrong behaviour is caught in every family."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Compliance, Outcome
from finevla_runtime.session.scoring import derive_compliance, score
from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.judge import judge
from sim_eval.tabletop.judge.agreement import agreement_table
from sim_eval.tabletop.judge.behaviours import Behaviour, behaviours, perform
from sim_eval.tabletop.trace import Trace
from sim_eval.tabletop.world import TabletopWorld

RUBRIC = load_rubric(Path(__file__).resolve().parents[3] / "hw_configs" / "rubrics" / "tabletop.yaml")
SEED = 1_000_003
CASES = [
    (family.id, told, item.name)
    for family in RUBRIC.families
    for item in behaviours(family, sample_scene(family.id, SEED))
    for told in family.variants
]


@cache
def _world() -> TabletopWorld:
    return TabletopWorld(render=False)


@cache
def _performed(family: str, name: str) -> tuple[Behaviour, Trace]:
    scene = sample_scene(family, SEED)
    (behaviour,) = (item for item in behaviours(RUBRIC.family(family), scene) if item.name == name)
    return behaviour, perform(_world(), scene, behaviour.targets)


def outcome_of(family: str, told: str, behaviour: str) -> Outcome:
    rubric = RUBRIC.family(family)
    return score(rubric, told, judge(_performed(family, behaviour)[1], rubric, told))


@pytest.mark.parametrize(("family", "told", "behaviour"), CASES)
def test_every_behaviour_is_judged_as_it_truly_was(family: str, told: str, behaviour: str) -> None:
    truth = _performed(family, behaviour)[0]
    outcome = outcome_of(family, told, behaviour)
    compliance = derive_compliance(RUBRIC.family(family).requested(told), truth.observed)
    assert outcome.compliance is compliance
    assert outcome.task_done is truth.done
    assert outcome.success is (truth.done and compliance in (Compliance.COMPLIED, Compliance.NO_FACTOR))
    assert (outcome.score == 100.0) is outcome.success


@pytest.mark.parametrize(
    ("family", "told", "did", "violation", "points"),
    [
        ("colour", "red", "blue", "wrong_object", 0.0),
        ("colour", "blue", "red", "wrong_object", 0.0),
        ("pose", "standing", "lying", "wrong_object", 0.0),
        ("pose", "lying", "standing", "wrong_object", 0.0),
        ("approach", "above", "side", "wrong_approach", 0.0),
        ("approach", "side", "above", "wrong_approach", 0.0),
        ("rotate", "clockwise", "counterclockwise", "wrong_rotation", 20.0),
        ("rotate", "counterclockwise", "clockwise", "wrong_rotation", 20.0),
        ("arm", "left", "right", "wrong_arm", 0.0),
        ("arm", "right", "left", "wrong_arm", 0.0),
        ("left_to_right", "left_to_right_bowl", "left_to_left_bowl", "wrong_target", 60.0),
        ("left_to_right", "left_to_right_bowl", "right_to_right_bowl", "wrong_arm", 0.0),
    ],
)
def test_doing_it_the_other_way_is_a_violation_by_name(
    family: str, told: str, did: str, violation: str, points: float
) -> None:
    outcome = outcome_of(family, told, f"expert {did}")
    assert outcome.compliance is Compliance.VIOLATED
    assert violation in outcome.violations
    assert outcome.score == points
    assert outcome.task_done
    assert not outcome.success


@pytest.mark.parametrize("family", [item.id for item in RUBRIC.families])
def test_never_moving_scores_nothing_and_violates_nothing(family: str) -> None:
    for told in RUBRIC.family(family).variants:
        outcome = outcome_of(family, told, "idle")
        assert (outcome.score, outcome.task_done, outcome.violations) == (0.0, False, ())
        assert outcome.compliance in (Compliance.NOT_ENGAGED, Compliance.NO_FACTOR)


@pytest.mark.parametrize(
    ("family", "variant", "points"),
    [
        ("stack_block", "default", 60.0),
        ("colour", "red", 60.0),
        ("colour", "blue", 60.0),
        ("approach", "above", 80.0),
        ("approach", "side", 80.0),
        ("arm", "left", 60.0),
        ("arm", "right", 60.0),
    ],
)
def test_a_drop_after_success_is_caught(family: str, variant: str, points: float) -> None:
    assert outcome_of(family, variant, f"expert {variant}").success
    spoiled = outcome_of(family, variant, f"spoil {variant}")
    assert (spoiled.success, spoiled.task_done, spoiled.score) == (False, False, points)
    assert "drop" in spoiled.violations


@pytest.mark.parametrize("family", ["clean_table", "stack_block", "colour", "pose", "arm", "left_to_right"])
def test_letting_go_while_carrying_is_a_drop_and_no_success(family: str) -> None:
    for variant in RUBRIC.family(family).variants:
        outcome = outcome_of(family, variant, f"let go {variant}")
        assert "drop" in outcome.violations
        assert not outcome.task_done


def test_experts_break_no_safety_rule() -> None:
    for family, told, behaviour in CASES:
        if behaviour == f"expert {told}":
            assert outcome_of(family, told, behaviour).violations == ()


def test_agreement_table_counts_what_it_judged() -> None:
    rows = agreement_table(RUBRIC, 2, 1_000_010, ("approach",))
    assert {row.told for row in rows} == {"above", "side"}
    assert all(row.agreed == row.trials == 2 for row in rows)
    experts = [row for row in rows if row.behaviour == f"expert {row.told}"]
    assert [(row.successes, row.mean_score) for row in experts] == [(2, 100.0), (2, 100.0)]
