"""Rubrics: which questions judge a trial, the same file for the simulator's judge and for human raters.

A rubric asks what *happened* ("which cube was held first?"), never whether the policy obeyed; compliance is derived
from the answers by :mod:`finevla_runtime.session.scoring`. The families are the columns of the paper's Table 5, the
factors are control slots of its Table 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.errors import unknown_name

NONE = "none"
"""Answer to an observe question that was never decided before the trial ended."""
UNCLEAR = "unclear"
"""Answer of a judge or rater who could not tell."""
DEFAULT_VARIANT = "default"
"""The only variant of a family without a control factor."""
VIOLATION_KINDS = ("instruction", "safety", "protocol")
"""instruction: did it otherwise than told; safety: could do damage; protocol: the trial is void and repeated."""

_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class Factor:
    """The control factor in which the paired variants of a family differ.

    Attributes:
        dimensions: one ``dimension.slot`` per observe question, for example ``target_object.color``.
        requested: variant id -> observe question id -> the level that variant asks for.
        seen_controls: variants that only compare against an out-of-distribution variant (empty elsewhere).
        counterbalance: what a scene swaps at random so that the level cannot be guessed from it, or empty.
    """

    dimensions: tuple[str, ...]
    requested: Mapping[str, Mapping[str, str]]
    seen_controls: tuple[str, ...] = ()
    counterbalance: str = ""


@dataclass(frozen=True, slots=True)
class Observe:
    """One question about what happened.

    Attributes:
        id: name of the question on the sheet.
        ask: what a human is asked.
        sim: judge expression that answers it on a trace.
        levels: possible answers besides ``none`` and ``unclear``.
        answers: value of ``sim`` -> level, empty when the expression already gives levels.
        commit: when the answer is decided, in words; later corrections do not change it.
        violation: code recorded when the answer differs from the requested level.
    """

    id: str
    ask: str
    sim: str
    levels: tuple[str, ...]
    violation: str
    answers: Mapping[str, str]
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Subgoal:
    """One step towards the goal.

    Attributes:
        id: name of the step on the sheet.
        ask: question to a human; ``{level}`` stands for the requested level.
        sim: judge expression, with the same placeholders.
        weight: share of the score, above zero.
        needs: subgoals that must be done for this one to count.
        bears: observe questions whose requested level this step names; a violation there stops its credit.
    """

    id: str
    ask: str
    sim: str
    weight: float
    needs: tuple[str, ...]
    bears: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """One entry of the violation list.

    Attributes:
        code: stable name, for example ``drop``.
        kind: one of VIOLATION_KINDS.
        ask: what a human watches for, empty for codes the program derives.
        sim: judge expression, empty where no trace can tell.
    """

    code: str
    kind: str
    ask: str = ""
    sim: str = ""


@dataclass(frozen=True, slots=True)
class FamilyRubric:
    """Everything needed to judge one task family.

    Attributes:
        id: family id.
        title: column heading.
        raw: example of the goal-level instruction.
        fine_grained: example of the fine-grained instruction, with placeholders for the requested level.
        objects: roles of the objects in the scene, the words the expressions may use.
        factor: what the variants differ in, None for general tasks.
        observe: questions about what happened, empty without a factor.
        subgoals: ordered steps of the score.
        goal_ask: question to a human whether the goal was reached, ignoring the factor.
        goal_any: judge expression for the same; it names no requested level.
        flags: name -> judge expression of things worth a note without consequence.
        violations: the violation list of the rubric.
        ood: an out-of-distribution probe, never pooled with the other families.
        time_limit_s: seconds after which a trial ends.
        hold_s: seconds a grasp must last to count as firm.
        settle_s: seconds a final state must hold at the end of the trial.
    """

    id: str
    title: str
    raw: str
    fine_grained: str
    objects: tuple[str, ...]
    factor: Factor | None
    observe: tuple[Observe, ...]
    subgoals: tuple[Subgoal, ...]
    goal_ask: str
    goal_any: str
    flags: Mapping[str, str]
    violations: tuple[Violation, ...]
    ood: bool
    time_limit_s: float
    hold_s: float
    settle_s: float

    @property
    def variants(self) -> tuple[str, ...]:
        """Variant ids in file order; seen controls of a probe come last."""
        return tuple(self.factor.requested) if self.factor else (DEFAULT_VARIANT,)

    def requested(self, variant: str) -> Mapping[str, str]:
        """Return observe question id -> requested level.

        Raises:
            SetupError: FV-RUB-010 when the family has no such variant.
        """
        if variant not in self.variants:
            raise unknown_name("FV-RUB-010", "variant", variant, self.variants, f"family {self.id!r}")
        return self.factor.requested[variant] if self.factor else {}

    def bindings(self, variant: str) -> dict[str, str]:
        """Return what the placeholders of asks and expressions stand for under ``variant``.

        ``{question}`` is the requested level of that question and ``{other_question}`` the other level when there
        are two; with a single question ``{level}`` and ``{other}`` are the same two.
        """
        bound: dict[str, str] = {}
        wanted = self.requested(variant)
        for question in self.observe:
            level = wanted[question.id]
            bound[question.id] = level
            if len(question.levels) == 2:
                bound[f"other_{question.id}"] = next(other for other in question.levels if other != level)
        if len(self.observe) == 1:
            only = self.observe[0].id
            bound["level"] = bound[only]
            if f"other_{only}" in bound:
                bound["other"] = bound[f"other_{only}"]
        return bound

    def violation(self, code: str) -> Violation:
        """Return one entry of the violation list.

        Raises:
            SetupError: FV-RUB-011 for an unknown code.
        """
        for item in self.violations:
            if item.code == code:
                return item
        raise unknown_name("FV-RUB-011", "violation", code, [item.code for item in self.violations])


@dataclass(frozen=True, slots=True)
class Rubric:
    """All families of one rubric file.

    Attributes:
        families: in file order, which is the column order of the report.
        digest: sha256 of the file text, for provenance.
    """

    families: tuple[FamilyRubric, ...]
    digest: str

    def family(self, name: str) -> FamilyRubric:
        """Return one family.

        Raises:
            SetupError: FV-RUB-009 for an unknown family.
        """
        for family in self.families:
            if family.id == name:
                return family
        raise unknown_name("FV-RUB-009", "family", name, [family.id for family in self.families])


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in curly braces, in order of appearance."""
    return tuple(_PLACEHOLDER.findall(text))


def fill(text: str, bindings: Mapping[str, str]) -> str:
    """Replace every placeholder of ``text``.

    Raises:
        SetupError: FV-RUB-007 for a placeholder without a value.
    """
    missing = unbound(text, bindings)
    if missing:
        raise unknown_name("FV-RUB-007", "placeholder", missing[0], bindings, repr(text))
    return _PLACEHOLDER.sub(lambda match: bindings[match.group(1)], text)


def question(text: str, bindings: Mapping[str, str]) -> str:
    """Return a filled question as people read it: role names without underscores."""
    return fill(text, {name: value.replace("_", " ") for name, value in bindings.items()})


def unbound(text: str, known: Iterable[str]) -> list[str]:
    """Return the placeholders of ``text`` that ``known`` does not name."""
    names = set(known)
    return [name for name in placeholders(text) if name not in names]
