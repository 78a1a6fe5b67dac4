"""From what was observed to what it means: compliance, score, success and violations, always derived by the program.

The definitions are those of docs/steerability.md: a judge or a rater answers what happened, this module compares
with what was asked. Task done, success, compliance and violations stay separate figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.rubric import NONE, UNCLEAR, FamilyRubric
from finevla_runtime.contracts.trial import Compliance, Outcome, Sheet


def score(rubric: FamilyRubric, variant: str, sheet: Sheet) -> Outcome:
    """Derive the outcome of one trial.

    A subgoal counts only when all its ``needs`` count, and a subgoal that names the requested level of a question
    answered with another level never counts: a violation stops the credit there, even when it was corrected later.
    Success is task done and complied; without a factor it is task done and every subgoal counted.

    Args:
        rubric: the family's rubric.
        variant: what the trial asked for. Under raw instructions, which ask for nothing, the compliance against
            the nominal variant is what the steering index needs; ``task_done`` is the success that means anything.
        sheet: what was observed.

    Raises:
        SetupError: FV-RUB-010 (unknown variant), FV-SCO-001 (subgoals), FV-SCO-002 (observed), FV-SCO-003 (violation).
    """
    check_sheet(rubric, sheet)
    wanted = rubric.requested(variant)
    compliance = derive_compliance(wanted, sheet.observed)
    wrong = _violated(wanted, sheet.observed)
    counted = credited(rubric, sheet.subgoals, wrong)
    if rubric.factor is None:
        success = sheet.goal_any and len(counted) == len(rubric.subgoals)
    else:
        success = sheet.goal_any and compliance is Compliance.COMPLIED
    derived = [item.violation for item in rubric.observe if item.id in wrong]
    return Outcome(
        compliance=compliance,
        observed=observed_level(rubric, sheet.observed),
        score=weighted_score(rubric, counted),
        task_done=sheet.goal_any,
        success=success,
        violations=tuple(dict.fromkeys([*derived, *sheet.violations])),
    )


def void_reason(rubric: FamilyRubric, sheet: Sheet) -> str:
    """Return the first protocol violation of a sheet, or nothing.

    Such a trial says nothing about the policy: it is void and repeated.

    Raises:
        SetupError: FV-RUB-011 for a code that is not in the rubric's list.
    """
    return next((code for code in sheet.violations if rubric.violation(code).kind == "protocol"), "")


def derive_compliance(wanted: Mapping[str, str], observed: Mapping[str, str]) -> Compliance:
    """Compare what was asked with what was observed.

    With several questions one violated answer decides, then one unclear, then one undecided; only when all answers
    are as asked the trial complied (the out-of-distribution probe needs arm and bowl).
    """
    if not wanted:
        return Compliance.NO_FACTOR
    if _violated(wanted, observed):
        return Compliance.VIOLATED
    answers = {observed[question] for question in wanted}
    if UNCLEAR in answers:
        return Compliance.UNCLEAR
    return Compliance.NOT_ENGAGED if NONE in answers else Compliance.COMPLIED


def credited(rubric: FamilyRubric, done: Mapping[str, bool], wrong: Iterable[str]) -> frozenset[str]:
    """Return the subgoals that count, given the observe questions whose answer was wrong."""
    blocked = set(wrong)
    counted: set[str] = set()
    for subgoal in rubric.subgoals:
        if done[subgoal.id] and counted.issuperset(subgoal.needs) and blocked.isdisjoint(subgoal.bears):
            counted.add(subgoal.id)
    return frozenset(counted)


def weighted_score(rubric: FamilyRubric, counted: Iterable[str]) -> float:
    """Return 100 times the weight of the subgoals that count over the weight of all, in 0..100."""
    names = set(counted)
    gained = math.fsum(subgoal.weight for subgoal in rubric.subgoals if subgoal.id in names)
    return 100.0 * gained / math.fsum(subgoal.weight for subgoal in rubric.subgoals)


def observed_level(rubric: FamilyRubric, observed: Mapping[str, str]) -> str:
    """Return the one level that counts; answers to several questions are joined with ``+`` in rubric order."""
    if not rubric.observe:
        return NONE
    answers = [observed[question.id] for question in rubric.observe]
    for blank in (UNCLEAR, NONE):
        if blank in answers:
            return blank
    return "+".join(answers)


def check_sheet(rubric: FamilyRubric, sheet: Sheet) -> None:
    """Refuse a sheet that does not answer exactly this rubric.

    Raises:
        SetupError: FV-SCO-001 (unknown or missing subgoal), FV-SCO-002 (unknown or missing question, or an answer
            that is no level), FV-SCO-003 (unknown violation).
    """
    _check_names("FV-SCO-001", "subgoal", sheet.subgoals, [item.id for item in rubric.subgoals], rubric.id)
    _check_names("FV-SCO-002", "question", sheet.observed, [item.id for item in rubric.observe], rubric.id)
    for item in rubric.observe:
        allowed = (*item.levels, NONE, UNCLEAR)
        if sheet.observed[item.id] not in allowed:
            where = f"question {item.id!r} of family {rubric.id!r}"
            raise unknown_name("FV-SCO-002", "answer", sheet.observed[item.id], allowed, where)
    codes = [item.code for item in rubric.violations]
    for code in sheet.violations:
        if code not in codes:
            raise unknown_name("FV-SCO-003", "violation", code, codes, f"a sheet of family {rubric.id!r}")


def _violated(wanted: Mapping[str, str], observed: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name, level in wanted.items() if observed[name] not in (level, NONE, UNCLEAR))


def _check_names(code: str, kind: str, got: Iterable[str], wanted: list[str], family: str) -> None:
    names = list(got)
    for name in names:
        if name not in wanted:
            raise unknown_name(code, kind, name, wanted, f"a sheet of family {family!r}")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise SetupError(code, f"a sheet of family {family!r} lacks {kind} {', '.join(missing)}; answer it.")
