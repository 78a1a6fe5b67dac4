from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.rubric import NONE, UNCLEAR, FamilyRubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Compliance, Sheet
from finevla_runtime.session.scoring import check_sheet, score, void_reason

RUBRIC = load_rubric(Path(__file__).resolve().parents[2] / "hw_configs" / "rubrics" / "tabletop.yaml")
FAMILIES = st.sampled_from(RUBRIC.families)


def ticked(family: FamilyRubric, done: str | set[str], goal: bool = True, **observed: str) -> Sheet:
    names = {item.id for item in family.subgoals} if done == "all" else set(done)
    return Sheet(observed, {item.id: item.id in names for item in family.subgoals}, goal)


@st.composite
def filled(draw: st.DrawFn) -> tuple[FamilyRubric, str, Sheet]:
    family = draw(FAMILIES)
    variant = draw(st.sampled_from(family.variants))
    observed = {item.id: draw(st.sampled_from((*item.levels, NONE, UNCLEAR))) for item in family.observe}
    subgoals = {item.id: draw(st.booleans()) for item in family.subgoals}
    codes = st.lists(st.sampled_from([item.code for item in family.violations]), unique=True, max_size=3)
    return family, variant, Sheet(observed, subgoals, draw(st.booleans()), tuple(draw(codes)))


@settings(deadline=None)
@given(filled())
def test_score_stays_between_0_and_100(case: tuple[FamilyRubric, str, Sheet]) -> None:
    assert 0.0 <= score(*case).score <= 100.0


@settings(deadline=None)
@given(filled(), st.data())
def test_doing_one_more_subgoal_never_lowers_the_score(
    case: tuple[FamilyRubric, str, Sheet], data: st.DataObject
) -> None:
    family, variant, sheet = case
    more = data.draw(st.sampled_from([item.id for item in family.subgoals]))
    better = replace(sheet, subgoals={**sheet.subgoals, more: True})
    assert score(family, variant, better).score >= score(family, variant, sheet).score


@settings(deadline=None)
@given(filled())
def test_every_trial_is_exactly_one_of_complied_violated_not_engaged_unclear(
    case: tuple[FamilyRubric, str, Sheet],
) -> None:
    family, variant, sheet = case
    outcome = score(family, variant, sheet)
    wanted = family.requested(variant)
    answers = list(sheet.observed.values())
    wrong = any(answer not in (wanted[name], NONE, UNCLEAR) for name, answer in sheet.observed.items())
    expected = {
        Compliance.NO_FACTOR: family.factor is None,
        Compliance.VIOLATED: wrong,
        Compliance.UNCLEAR: not wrong and UNCLEAR in answers,
        Compliance.NOT_ENGAGED: not wrong and UNCLEAR not in answers and NONE in answers,
        Compliance.COMPLIED: bool(wanted) and sheet.observed == wanted,
    }
    assert [name for name, true in expected.items() if true] == [outcome.compliance]


@settings(deadline=None)
@given(filled())
def test_success_needs_the_goal_and_no_violation(case: tuple[FamilyRubric, str, Sheet]) -> None:
    outcome = score(*case)
    if outcome.success:
        assert outcome.task_done
        assert outcome.compliance in (Compliance.COMPLIED, Compliance.NO_FACTOR)
    assert outcome.task_done is case[2].goal_any


@settings(deadline=None)
@given(filled())
def test_a_violation_stops_credit_at_the_first_subgoal_that_names_the_level(
    case: tuple[FamilyRubric, str, Sheet],
) -> None:
    family, variant, sheet = case
    wanted = family.requested(variant)
    wrong = {n for n, answer in sheet.observed.items() if answer not in (wanted[n], NONE, UNCLEAR)}
    blocked = next((i for i, step in enumerate(family.subgoals) if wrong & set(step.bears)), len(family.subgoals))
    assert score(family, variant, sheet).score <= 20.0 * blocked


@settings(deadline=None)
@given(filled())
def test_violations_of_the_sheet_are_kept_and_the_derived_ones_added(
    case: tuple[FamilyRubric, str, Sheet],
) -> None:
    family, variant, sheet = case
    outcome = score(family, variant, sheet)
    assert set(sheet.violations) <= set(outcome.violations)
    assert len(set(outcome.violations)) == len(outcome.violations)
    if outcome.compliance is Compliance.VIOLATED:
        derived = {item.violation for item in family.observe}
        assert derived & set(outcome.violations)


@settings(deadline=None)
@given(filled())
def test_both_variants_of_a_pair_cannot_both_have_been_followed(case: tuple[FamilyRubric, str, Sheet]) -> None:
    family, _, sheet = case
    followed = [v for v in family.variants if score(family, v, sheet).compliance is Compliance.COMPLIED]
    assert len(followed) <= 1


def test_ticks_after_a_missing_step_do_not_count() -> None:
    colour = RUBRIC.family("colour")
    outcome = score(colour, "red", ticked(colour, {"go", "lift", "mat", "leave"}, colour="red"))
    assert outcome.score == 20.0


def test_a_corrected_violation_stays_a_violation_without_credit() -> None:
    colour = RUBRIC.family("colour")
    outcome = score(colour, "red", ticked(colour, "all", colour="blue"))
    assert (outcome.compliance, outcome.score, outcome.success) == (Compliance.VIOLATED, 0.0, False)
    assert outcome.task_done
    assert outcome.violations == ("wrong_object",)


def test_turning_the_wrong_way_still_earns_the_hold() -> None:
    rotate = RUBRIC.family("rotate")
    outcome = score(rotate, "clockwise", ticked(rotate, "all", rotation="counterclockwise"))
    assert (outcome.score, outcome.violations) == (20.0, ("wrong_rotation",))


def test_probe_complies_only_with_arm_and_bowl() -> None:
    probe = RUBRIC.family("left_to_right")
    asked = "left_to_right_bowl"
    both = score(probe, asked, ticked(probe, "all", arm="left", bowl="right_bowl"))
    assert (both.compliance, both.success, both.observed) == (Compliance.COMPLIED, True, "left+right_bowl")
    bowl = score(probe, asked, ticked(probe, "all", arm="left", bowl="left_bowl"))
    assert (bowl.compliance, bowl.score, bowl.violations) == (Compliance.VIOLATED, 60.0, ("wrong_target",))
    arm = score(probe, asked, ticked(probe, "all", arm="right", bowl="right_bowl"))
    assert (arm.compliance, arm.score, arm.violations) == (Compliance.VIOLATED, 0.0, ("wrong_arm",))
    lost = score(probe, asked, ticked(probe, {"reach", "hold"}, goal=False, arm="left", bowl=NONE))
    assert (lost.compliance, lost.score, lost.observed) == (Compliance.NOT_ENGAGED, 40.0, NONE)


def test_a_family_without_factor_succeeds_when_goal_and_every_step_are_done() -> None:
    stack = RUBRIC.family("stack_block")
    assert score(stack, "default", ticked(stack, "all")).success
    assert not score(stack, "default", ticked(stack, "all", goal=False)).success
    assert not score(stack, "default", ticked(stack, {"lift", "over", "stack", "stable"})).success


def test_weights_and_needs_of_the_rubric_decide_the_score() -> None:
    stack = RUBRIC.family("stack_block")
    first, second, *rest = stack.subgoals
    heavy = replace(stack, subgoals=(first, replace(second, weight=5.0, needs=()), *rest))
    assert score(heavy, "default", ticked(heavy, {"lift"}, goal=False)).score == pytest.approx(100.0 * 5 / 9)
    assert score(heavy, "default", ticked(heavy, "all")).score == 100.0


def test_protocol_violations_make_a_trial_void() -> None:
    stack = RUBRIC.family("stack_block")
    sheet = ticked(stack, "all")
    assert void_reason(stack, replace(sheet, violations=("drop", "camera_lost"))) == "camera_lost"
    assert void_reason(stack, replace(sheet, violations=("drop",))) == ""


@pytest.mark.parametrize(
    ("sheet", "code", "hint"),
    [
        (Sheet({"colour": "red"}, {"go": True}, True), "FV-SCO-001", "lacks subgoal hold, lift, mat, leave"),
        (Sheet({"colour": "red"}, {"grip": True}, True), "FV-SCO-001", "unknown subgoal 'grip'"),
        (Sheet({"color": "red"}, {}, True), "FV-SCO-001", "lacks subgoal"),
    ],
)
def test_a_sheet_of_another_rubric_is_refused(sheet: Sheet, code: str, hint: str) -> None:
    with pytest.raises(SetupError, match=hint) as caught:
        score(RUBRIC.family("colour"), "red", sheet)
    assert caught.value.code == code


def test_unknown_answers_and_codes_are_refused_with_the_nearest() -> None:
    colour = RUBRIC.family("colour")
    good = ticked(colour, "all", colour="red")
    with pytest.raises(SetupError, match=r"FV-SCO-002.*Did you mean 'blue'"):
        check_sheet(colour, replace(good, observed={"colour": "blu"}))
    with pytest.raises(SetupError, match=r"FV-SCO-002.*lacks question colour"):
        check_sheet(colour, replace(good, observed={}))
    with pytest.raises(SetupError, match=r"FV-SCO-003.*Did you mean 'collision_table'"):
        check_sheet(colour, replace(good, violations=("colision_table",)))
    with pytest.raises(SetupError, match="FV-RUB-010"):
        score(colour, "green", good)
