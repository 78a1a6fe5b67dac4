"""The judge: fills in the rubric's sheet from a trace, with the words a human rater would be asked.

The observe questions and the goal never see the requested variant; only subgoals do, because they name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.rubric import NONE, UNCLEAR, FamilyRubric, Observe, Rubric, fill
from finevla_runtime.contracts.trial import Sheet
from sim_eval.tabletop.judge import holding, placing, turning
from sim_eval.tabletop.judge.expression import NAME, TRUTH, Expression, compile_expression
from sim_eval.tabletop.judge.view import View
from sim_eval.tabletop.trace import Trace

WORD_MODULES = (holding, placing, turning)
"""The modules that register the judge words."""


@dataclass(frozen=True, slots=True)
class Program:
    """The checked expressions of one family under one variant."""

    observe: Mapping[str, Expression]
    subgoals: Mapping[str, Expression]
    violations: Mapping[str, Expression]
    flags: Mapping[str, Expression]
    goal: Expression


def judge(trace: Trace, rubric: FamilyRubric, variant: str) -> Sheet:
    """Fill in the sheet of one trial.

    Args:
        trace: what happened; it must show the objects the rubric names.
        rubric: rubric of the family.
        variant: what was asked for; used for the subgoals that name it, never for what was observed.

    Raises:
        SetupError: FV-JDG-* for a rubric that cannot be evaluated, FV-JDG-006 when the trace shows other objects,
            FV-RUB-010 for an unknown variant.
    """
    missing = [name for name in rubric.objects if name not in trace.objects]
    if missing:
        raise SetupError(
            "FV-JDG-006",
            f"the trace of family {trace.family!r} shows {', '.join(trace.objects)}, but the rubric of "
            f"{rubric.id!r} needs {', '.join(missing)}.",
        )
    program = compile_rubric(rubric, variant)
    view = View(trace, rubric.hold_s, rubric.settle_s)
    raised = [flag for flag, expression in program.flags.items() if expression.holds(view)]
    return Sheet(
        observed={item.id: _answer(item, program.observe[item.id], view) for item in rubric.observe},
        subgoals={name: expression.holds(view) for name, expression in program.subgoals.items()},
        goal_any=program.goal.holds(view),
        violations=tuple(code for code, expression in program.violations.items() if expression.holds(view)),
        note=f"flags: {', '.join(raised)}" if raised else "",
    )


def check_rubric(rubric: Rubric) -> None:
    """Compile every expression of every variant, so that a misspelt word or object shows before any trial.

    Raises:
        SetupError: FV-JDG-* naming the family and the expression.
    """
    for family in rubric.families:
        for variant in family.variants:
            compile_rubric(family, variant)


def compile_rubric(rubric: FamilyRubric, variant: str) -> Program:
    """Check the expressions of one family under one variant.

    Raises:
        SetupError: FV-JDG-*, FV-RUB-010.
    """
    bindings = rubric.bindings(variant)
    levels = tuple(level for item in rubric.observe for level in item.levels)

    def checked(text: str, kind: str = TRUTH) -> Expression:
        return _compiled(fill(text, bindings), kind, rubric.objects, levels)

    try:
        return Program(
            observe={item.id: checked(item.sim, NAME) for item in rubric.observe},
            subgoals={item.id: checked(item.sim) for item in rubric.subgoals},
            violations={item.code: checked(item.sim) for item in rubric.violations if item.sim},
            flags={name: checked(text) for name, text in rubric.flags.items()},
            goal=checked(rubric.goal_any),
        )
    except SetupError as error:
        raise SetupError(error.code, f"rubric of family {rubric.id!r}: {error.message}") from error


@lru_cache(maxsize=1024)
def _compiled(text: str, kind: str, objects: tuple[str, ...], levels: tuple[str, ...]) -> Expression:
    """Compile once; thousands of trials share a handful of expressions."""
    return compile_expression(text, kind, objects, levels)


def _answer(question: Observe, expression: Expression, view: View) -> str:
    """The level an observe question is answered with."""
    value = str(expression.value(view))
    if value in (NONE, UNCLEAR):
        return value
    level = question.answers.get(value, value)
    if level not in question.levels:
        raise SetupError(
            "FV-JDG-007",
            f"question {question.id!r} was answered {value!r}, which is no level; wanted "
            f"{', '.join(question.levels)}. Map it under `answers` in the rubric.",
        )
    return level
