"""Whether a robot could do what an instruction says, before anything moves (paper section 5.5).

A text is refused when it contradicts itself, the robot, or the declaration of the scene. Only what was understood can
be refused: the check finds plain contradictions, it does not prove that a task can be done, and it never changes the
text that the policy reads. How a text is cut into clauses is written in ``understood``.

* Contradictions count within one clause, that is one action: `use the left arm to grasp the cup with the right hand`.
  Two arms in two clauses are work for two arms. An arm as a place (`into the right hand`) does not act.
* What comes after a negation (`not the blue cube`, `without touching the mug`) is not asked for and not checked.
* A direction of approach belongs to the first object of its clause, or to the object named last when the clause has
  none (`grasp it from above`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.safety.lexicon import ACTOR, ANY_OBJECT, APPROACH
from finevla_runtime.safety.scene_declaration import ARMS, DeclaredObject, SceneDeclaration
from finevla_runtime.safety.understood import Mention, ObjectMention, Understood, read
from finevla_runtime.safety.verdict import Reason

# Actors that are one arm or the other, whichever the scene allows.
RELATIVE_ARMS = ("nearest", "other", "either")
BOTH_ARMS = "both"


@dataclass(frozen=True)
class Explanation:
    """What an instruction says and what speaks against it.

    Attributes:
        understood: what was read.
        refusals: why it is refused; empty when it is not.
    """

    understood: Understood
    refusals: tuple[Reason, ...]

    @property
    def feasible(self) -> bool:
        """Tell whether nothing speaks against the instruction."""
        return not self.refusals

    def lines(self) -> tuple[str, ...]:
        """Return what was understood and refused, for people."""
        return (
            *(f"{mention.meaning.slot}: {mention.meaning.value} ({mention.words})" for mention in self._asked()),
            *(f"target_object: {item.words}" for item in self.understood.objects if not item.negated),
            *(f"note: {note}" for note in self.understood.notes),
            *(f"refused: {refusal}" for refusal in self.refusals),
        )

    def _asked(self) -> Iterator[Mention]:
        return (mention for mention in self.understood.mentions if not mention.negated)


def explain(instruction: str, scene: SceneDeclaration) -> Explanation:
    """Read an instruction and say what speaks against it in a scene.

    Codes of refusals: FV-FEA-001 a contradiction within one action, 002 an arm the robot does not have, 003 an arm the
    scene does not allow, 004 an object that is not declared, 005 an object declared otherwise, 006 a direction of
    approach that is not allowed, 007 a forbidden word, 008 words that are not understood in a strict scene.
    """
    understood = read(instruction, scene.lexicon)
    refusals = (
        *_contradictions(understood, scene),
        *_arms(understood, scene),
        *_objects(understood, scene),
        *_approaches(understood, scene),
        *_forbidden(understood, scene),
        *_not_understood(understood, scene),
    )
    return Explanation(understood, tuple(dict.fromkeys(refusals)))


def require_feasible(instruction: str, scene: SceneDeclaration) -> Understood:
    """Return what an instruction says.

    Raises:
        SetupError: with the code of the first refusal and the text of all of them; see ``explain``.
    """
    found = explain(instruction, scene)
    if not found.feasible:
        raise SetupError(found.refusals[0].code, " ".join(reason.text for reason in found.refusals))
    return found.understood


def _contradictions(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    for one, other in itertools.combinations(understood.mentions, 2):
        pair = (one.meaning.slot, one.meaning.value, other.meaning.value)
        if one.clause != other.clause or one.negated or other.negated or one.meaning.slot != other.meaning.slot:
            continue
        if pair in scene.lexicon.opposites:
            yield Reason(
                "FV-FEA-001",
                f"{one.words!r} and {other.words!r} contradict each other in one action "
                f"({understood.clauses[one.clause]!r}); say one of them, or give each its own action.",
            )


def _arms(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    for mention in understood.of(ACTOR):
        if mention.negated or mention.meaning.value in RELATIVE_ARMS:
            continue
        wanted = ARMS if mention.meaning.value == BOTH_ARMS else (mention.meaning.value,)
        if not set(wanted) <= set(ARMS):
            yield Reason("FV-FEA-002", f"the robot has no {mention.words!r}; it has the arms {' and '.join(ARMS)}.")
        elif not set(wanted) <= set(scene.arms):
            yield Reason(
                "FV-FEA-003",
                f"{mention.words!r} is asked for, but scene {scene.name} allows {' and '.join(scene.arms)} only.",
            )


def _objects(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    declared = ", ".join(sorted({word for item in scene.objects for word in item.words})) or "nothing"
    for mention in understood.objects:
        if mention.negated:
            continue
        named = _named(mention, scene)
        if not named:
            yield Reason(
                "FV-FEA-004",
                f"{mention.words!r} is not in scene {scene.name}; declared: {declared}. Use such a word or declare it.",
            )
        elif not _fitting(mention, scene):
            wrong = " and ".join(meaning.value for meaning in mention.properties)
            yield Reason(
                "FV-FEA-005",
                f"{mention.words!r} is not in scene {scene.name}: none is {wrong}; declared: "
                f"{'; '.join(_described(item) for item in named)}.",
            )


def _approaches(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    for mention in understood.of(APPROACH):
        target = None if mention.negated else _target(mention, understood)
        fitting = _fitting(target, scene) if target is not None else ()
        if fitting and not any(_allows(item, mention, scene) for item in fitting):
            listed = ", ".join(sorted({direction for item in fitting for direction in item.approach}))
            yield Reason(
                "FV-FEA-006",
                f"{fitting[0].name} cannot be grasped {mention.words!r} in scene {scene.name}; allowed: {listed}.",
            )


def _allows(item: DeclaredObject, mention: Mention, scene: SceneDeclaration) -> bool:
    wanted, covers = mention.meaning, scene.lexicon.covers
    return not item.approach or any(
        direction == wanted.value or (wanted.slot, direction, wanted.value) in covers for direction in item.approach
    )


def _target(mention: Mention, understood: Understood) -> ObjectMention | None:
    """Return the object that a direction belongs to, or None when the text named none yet."""
    here = [item for item in understood.objects if item.clause == mention.clause and not item.negated]
    if here:
        return here[0]
    earlier = [item for item in understood.objects if item.clause < mention.clause and not item.negated]
    return earlier[-1] if earlier else None


def _forbidden(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    for clause in understood.clauses:
        words = clause.split()
        for forbidden in scene.forbidden:
            place = _place_of(forbidden.split(), words)
            if place is not None and not set(words[:place]) & scene.lexicon.negations:
                yield Reason("FV-FEA-007", f"{forbidden!r} is forbidden in scene {scene.name} ({clause!r}).")


def _place_of(wanted: list[str], words: list[str]) -> int | None:
    ends = range(len(words) - len(wanted) + 1)
    return next((place for place in ends if words[place : place + len(wanted)] == wanted), None)


def _not_understood(understood: Understood, scene: SceneDeclaration) -> Iterator[Reason]:
    if scene.strict and understood.unknown:
        listed = ", ".join(repr(word) for word in understood.unknown)
        yield Reason("FV-FEA-008", f"scene {scene.name} is strict and these words say nothing here: {listed}.")


def _named(mention: ObjectMention, scene: SceneDeclaration) -> tuple[DeclaredObject, ...]:
    return tuple(item for item in scene.objects if mention.name == ANY_OBJECT or mention.name in item.words)


def _fitting(mention: ObjectMention, scene: SceneDeclaration) -> tuple[DeclaredObject, ...]:
    """Return the declared objects that a mention can mean; what is not declared about an object may be true of it."""
    return tuple(
        item
        for item in _named(mention, scene)
        if all(meaning.value in item.properties.get(meaning.slot, (meaning.value,)) for meaning in mention.properties)
    )


def _described(item: DeclaredObject) -> str:
    said = " ".join("/".join(values) for values in item.properties.values())
    return f"{said} {item.words[0]}".strip()
