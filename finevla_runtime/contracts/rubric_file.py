"""The reader of rubric files: strict about keys, and about everything that would make a score meaningless.

Codes: FV-RUB-001 version, -002 repeated or unusable id, -003 unknown control dimension, -004 a factor that nothing
observes or bears, -005 bad ``needs``, -006 weight or time, -007 placeholder, -008 levels, -011 unknown violation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import nearest
from finevla_runtime.contracts.instruction import DIMENSIONS
from finevla_runtime.contracts.rubric import (
    NONE,
    UNCLEAR,
    VIOLATION_KINDS,
    Factor,
    FamilyRubric,
    Observe,
    Rubric,
    Subgoal,
    Violation,
    placeholders,
    unbound,
)
from finevla_runtime.contracts.strict_yaml import Node, load_yaml

RUBRIC_VERSION = 1
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_FAMILY_KEYS = ("id", "title", "raw", "fine_grained", "objects", "subgoals", "goal")
_FAMILY_OPTIONS = ("factor", "observe", "flags", "ood", "time_limit_s", "hold_s", "settle_s")


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a family does not say itself."""

    time_limit_s: float
    hold_s: float
    settle_s: float
    weight: float


def load_rubric(path: Path) -> Rubric:
    """Read a rubric file strictly.

    Raises:
        SetupError: FV-CFG-* for YAML that is not as expected (unknown keys with line and nearest name), FV-RUB-*
            for a rubric that cannot work.
    """
    top = load_yaml(path)
    keys = top.mapping(["rubric", "defaults", "families", "violations"])
    if (version := keys["rubric"].integer()) != RUBRIC_VERSION:
        raise keys["rubric"].fail("FV-RUB-001", f"rubric version {version}, this program reads 1.")
    defaults = _read_defaults(keys["defaults"])
    violations = _read_violations(keys["violations"])
    families = keys["families"].map(lambda node: _read_family(node, defaults, violations))
    _refuse_repeats(keys["families"], [family.id for family in families])
    return Rubric(families, hashlib.sha256(path.read_bytes()).hexdigest())


def _read_defaults(node: Node) -> _Defaults:
    keys = node.mapping(["time_limit_s", "hold_s", "settle_s", "weight"])
    return _Defaults(**{name: _positive(child) for name, child in keys.items()})


def _read_violations(node: Node) -> tuple[Violation, ...]:
    found: list[Violation] = []
    for kind, codes in node.mapping(VIOLATION_KINDS).items():
        for code, entry in codes.items():
            _check_identifier(entry, code)
            keys = entry.mapping([], ["ask", "sim"])
            texts = {name: child.text() for name, child in keys.items()}
            found.append(Violation(code, kind, **texts))
    _refuse_repeats(node, [item.code for item in found])
    return tuple(found)


def _read_family(node: Node, defaults: _Defaults, violations: tuple[Violation, ...]) -> FamilyRubric:
    keys = node.mapping(_FAMILY_KEYS, _FAMILY_OPTIONS)
    name = _check_identifier(keys["id"], keys["id"].text())
    factor, observe = _read_factor_and_questions(node, keys, [item.code for item in violations])
    known = _known_placeholders(observe)
    goal = keys["goal"].mapping(["ask", "sim"])
    for free in (keys["raw"], *goal.values()):
        _check_placeholders(free, ())
    _check_placeholders(keys["fine_grained"], known)
    flags = dict(keys["flags"].items()) if "flags" in keys else {}
    for flag in flags.values():
        _check_placeholders(flag, known)
    subgoals = _read_subgoals(keys["subgoals"], observe, known, defaults.weight)
    times = {
        key: _positive(keys[key]) if key in keys else getattr(defaults, key)
        for key in ("time_limit_s", "hold_s", "settle_s")
    }
    return FamilyRubric(
        id=name,
        title=keys["title"].text(),
        raw=keys["raw"].text(),
        fine_grained=keys["fine_grained"].text(),
        objects=_names(keys["objects"]),
        factor=factor,
        observe=observe,
        subgoals=subgoals,
        goal_ask=goal["ask"].text(),
        goal_any=goal["sim"].text(),
        flags={flag: child.text() for flag, child in flags.items()},
        violations=violations,
        ood=keys["ood"].flag() if "ood" in keys else False,
        **times,
    )


def _read_factor_and_questions(
    node: Node, keys: Mapping[str, Node], codes: list[str]
) -> tuple[Factor | None, tuple[Observe, ...]]:
    """A family has both a factor and questions, or neither."""
    if ("factor" in keys) != ("observe" in keys):
        raise node.fail("FV-RUB-004", "a factor needs observe questions and the other way round.")
    if "factor" not in keys:
        return None, ()
    parts = keys["factor"].mapping(["dimensions"], ["levels", "variants", "seen_controls", "counterbalance"])
    if ("levels" in parts) == ("variants" in parts):
        raise keys["factor"].fail("FV-RUB-008", "give either levels (one question) or variants (several).")
    levels = _names(parts["levels"]) if "levels" in parts else ()
    observe = keys["observe"].map(lambda item: _read_question(item, levels, codes))
    _refuse_repeats(keys["observe"], [question.id for question in observe])
    if levels and len(observe) != 1:
        raise keys["observe"].fail("FV-RUB-008", "levels belong to one question; use variants for several.")
    dimensions = parts["dimensions"].map(_read_dimension)
    if len(dimensions) != len(observe):
        raise parts["dimensions"].fail("FV-RUB-004", f"{len(dimensions)} for {len(observe)} questions.")
    if levels:
        requested: dict[str, Mapping[str, str]] = {level: {observe[0].id: level} for level in levels}
        seen: dict[str, Mapping[str, str]] = {}
    else:
        requested = _read_variants(parts["variants"], observe)
        seen = _read_variants(parts["seen_controls"], observe) if "seen_controls" in parts else {}
    swapped = parts["counterbalance"].text() if "counterbalance" in parts else ""
    return Factor(dimensions, {**requested, **seen}, tuple(seen), swapped), observe


def _read_question(node: Node, levels: tuple[str, ...], codes: list[str]) -> Observe:
    keys = node.mapping(["id", "ask", "sim", "violation"], ["levels", "answers", "commit"])
    own = _names(keys["levels"]) if "levels" in keys else levels
    if len(own) < 2 or {NONE, UNCLEAR} & set(own):
        raise node.fail("FV-RUB-008", "wanted two or more levels; none and unclear are always possible.")
    answers = {value: child.one_of(own) for value, child in keys["answers"].items()} if "answers" in keys else {}
    for text in (keys["ask"], keys["sim"]):
        # A question that names the requested level would ask whether the policy obeyed.
        _check_placeholders(text, ())
    code = keys["violation"].text()
    if code not in codes:
        guess = nearest(code, codes)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise keys["violation"].fail("FV-RUB-011", f"violation {code!r} is not in the list.{hint}")
    commit = keys["commit"].text() if "commit" in keys else ""
    name = _check_identifier(keys["id"], keys["id"].text())
    return Observe(name, keys["ask"].text(), keys["sim"].text(), own, code, answers, commit)


def _read_variants(node: Node, observe: tuple[Observe, ...]) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for variant, entry in node.items():
        _check_identifier(entry, variant)
        levels = entry.mapping([question.id for question in observe])
        found[variant] = {question.id: levels[question.id].one_of(question.levels) for question in observe}
    return found


def _read_dimension(node: Node) -> str:
    known = [f"{dimension}.{slot}" for dimension, slots in DIMENSIONS.items() for slot in slots]
    text = node.text()
    if text not in known:
        guess = nearest(text, known)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise node.fail("FV-RUB-003", f"unknown control dimension {text!r}.{hint}")
    return text


def _read_subgoals(
    node: Node, observe: tuple[Observe, ...], known: frozenset[str], default_weight: float
) -> tuple[Subgoal, ...]:
    found: list[Subgoal] = []
    for item in node.elements():
        keys = item.mapping(["id", "ask", "sim"], ["weight", "needs"])
        for text in (keys["ask"], keys["sim"]):
            _check_placeholders(text, known)
        earlier = tuple(subgoal.id for subgoal in found)
        needs = _names(keys["needs"]) if "needs" in keys else earlier
        for need in needs:
            if need not in earlier:
                raise keys["needs"].fail("FV-RUB-005", f"needs {need!r}, which is not an earlier subgoal.")
        name = _check_identifier(keys["id"], keys["id"].text())
        if name in ("goal", "observed", "note", "violations"):
            raise keys["id"].fail("FV-RUB-002", f"{name!r} is a field of every sheet; choose another id.")
        weight = _positive(keys["weight"]) if "weight" in keys else default_weight
        ask, sim = keys["ask"].text(), keys["sim"].text()
        found.append(Subgoal(name, ask, sim, weight, needs, _bears(ask + sim, observe)))
    _refuse_repeats(node, [subgoal.id for subgoal in found])
    borne = {question for subgoal in found for question in subgoal.bears}
    for question in observe:
        if question.id not in borne:
            raise node.fail("FV-RUB-004", f"no subgoal names the requested level of {question.id!r}.")
    if not found:
        raise node.fail("FV-RUB-004", "wanted at least one subgoal.")
    return tuple(found)


def _bears(text: str, observe: tuple[Observe, ...]) -> tuple[str, ...]:
    named = set(placeholders(text))
    if len(observe) == 1 and named:
        return (observe[0].id,)
    return tuple(item.id for item in observe if item.id in named or f"other_{item.id}" in named)


def _known_placeholders(observe: tuple[Observe, ...]) -> frozenset[str]:
    known = {item.id for item in observe} | {f"other_{i.id}" for i in observe if len(i.levels) == 2}
    if len(observe) == 1:
        known |= {"level", "other"} if len(observe[0].levels) == 2 else {"level"}
    return frozenset(known)


def _check_placeholders(node: Node, known: Iterable[str]) -> None:
    names = sorted(known)
    for name in unbound(node.text(), names):
        guess = nearest(name, names)
        hint = f" Did you mean {guess!r}?" if guess else ""
        allowed = ", ".join(names) or "none may stand here"
        raise node.fail("FV-RUB-007", f"placeholder {{{name}}} has no meaning here.{hint} Known: {allowed}.")


def _check_identifier(node: Node, name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise node.fail("FV-RUB-002", f"{name!r} is no usable id; use a-z, 0-9 and _, a letter first.")
    return name


def _names(node: Node) -> tuple[str, ...]:
    names = node.map(lambda item: _check_identifier(item, item.text()))
    _refuse_repeats(node, names)
    return names


def _refuse_repeats(node: Node, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise node.fail("FV-RUB-002", f"{name!r} appears twice.")
        seen.add(name)


def _positive(node: Node) -> float:
    value = node.number()
    if value <= 0:
        raise node.fail("FV-RUB-006", f"got {value}, wanted a number above zero.")
    return value
