"""What a text says, as far as a lexicon knows its words. The text itself is never changed.

How a text is cut. A stretch ends at punctuation and before a joining word (`then`, `and`, `while` …). A stretch
that names an action is one clause: one action, with the arm and the direction it is done with. A stretch without an
action leads in (`with the left arm, grasp …`) and belongs to the next one, if that follows in the same sentence, names
an action and does not begin with a joining word; otherwise it lists something (`first the left arm, then …`) and
stands alone. Where this is wrong it cuts too often, so that two words are taken for two actions and pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finevla_runtime.safety.lexicon import (
    ACTION,
    ACTOR,
    COLOR,
    GRIPPER_STATE,
    MATERIAL,
    OBJECT,
    POSE,
    SHAPE,
    Lexicon,
    Meaning,
)

PROPERTIES = (COLOR, MATERIAL, SHAPE, POSE)
_TOKENS = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,;:.!?()]")
_SENTENCE_ENDS = frozenset(".!?")


@dataclass(frozen=True)
class Mention:
    """Some words of the text and what they say.

    Attributes:
        words: the words, as they were written but in lower case.
        meaning: slot and value.
        clause: index of the clause.
        negated: True after `not`, `without` and their like.
    """

    words: str
    meaning: Meaning
    clause: int
    negated: bool


@dataclass(frozen=True)
class ObjectMention:
    """An object that the text names.

    Attributes:
        words: its name, properties included.
        name: the name the lexicon or the scene has for it; ``any`` for `one`, `item` and their like.
        properties: colour, material, shape or size and pose that the text gives it.
        clause: index of the clause.
        negated: True after `not`, `without` and their like.
    """

    words: str
    name: str
    properties: tuple[Meaning, ...]
    clause: int
    negated: bool


@dataclass(frozen=True)
class Understood:
    """What a text says.

    Attributes:
        clauses: the clauses in words.
        mentions: everything but objects and their properties, in the order of the text.
        objects: in the order of the text.
        unknown: words that say nothing to the lexicon.
    """

    clauses: tuple[str, ...]
    mentions: tuple[Mention, ...]
    objects: tuple[ObjectMention, ...]
    unknown: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was passed without being understood, for people."""
        return (f"not understood, so not checked: {', '.join(self.unknown)}",) if self.unknown else ()

    def of(self, slot: str) -> tuple[Mention, ...]:
        """Return the mentions of a slot."""
        return tuple(mention for mention in self.mentions if mention.meaning.slot == slot)


@dataclass(frozen=True)
class _Unit:
    """One phrase, or one word or sign outside of all phrases."""

    words: str
    meanings: tuple[Meaning, ...] = ()

    def says(self, *slots: str) -> Meaning | None:
        """Return the first meaning in one of the slots, or None."""
        return next((meaning for slot in slots for meaning in self.meanings if meaning.slot == slot), None)


@dataclass(frozen=True)
class _Stretch:
    """Units between two cuts; ``joined``: begins with a joining word; ``opens``: begins a sentence."""

    units: tuple[_Unit, ...]
    joined: bool
    opens: bool

    @property
    def acts(self) -> bool:
        """Tell whether it names an action."""
        return any(unit.says(ACTION, GRIPPER_STATE) for unit in self.units)


def read(text: str, lexicon: Lexicon) -> Understood:
    """Read a text; nothing is refused here and the same text always reads the same."""
    mentions: list[Mention] = []
    objects: list[ObjectMention] = []
    clauses: list[list[str]] = []
    unknown: dict[str, None] = {}
    leads_in = False
    stretches = list(_stretches(_units(text, lexicon), lexicon))
    for index, stretch in enumerate(stretches):
        if not leads_in:
            clauses.append([])
        clause = len(clauses) - 1
        clauses[clause] += [unit.words for unit in stretch.units]
        mentions += _mentions(stretch, clause, lexicon)
        objects += _objects(stretch, clause, lexicon)
        unknown |= {unit.words: None for unit in stretch.units if not unit.meanings and not lexicon.knows(unit.words)}
        after = stretches[index + 1] if index + 1 < len(stretches) else None
        leads_in = after is not None and not stretch.acts and after.acts and not after.joined and not after.opens
    return Understood(tuple(map(" ".join, clauses)), tuple(mentions), tuple(objects), tuple(unknown))


def _units(text: str, lexicon: Lexicon) -> Iterator[_Unit]:
    """Yield the longest phrases from left to right."""
    tokens = _TOKENS.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    place = 0
    while place < len(tokens):
        for length in range(min(lexicon.longest, len(tokens) - place), 0, -1):
            meanings = lexicon.phrases.get(tuple(tokens[place : place + length]), ())
            if meanings or length == 1:
                yield _Unit(" ".join(tokens[place : place + length]), meanings)
                place += length
                break


def _stretches(units: Iterator[_Unit], lexicon: Lexicon) -> Iterator[_Stretch]:
    collected: list[_Unit] = []
    joined, opens = False, True
    for unit in units:
        sign = not unit.words[0].isalnum()
        if not sign and (unit.meanings or unit.words not in lexicon.joining):
            collected.append(unit)
            continue
        if collected:
            yield _Stretch(tuple(collected), joined, opens)
            collected, opens = [], False
        joined = not sign
        opens = opens or unit.words in _SENTENCE_ENDS
    if collected:
        yield _Stretch(tuple(collected), joined, opens)


def _negated(units: Sequence[_Unit], place: int, lexicon: Lexicon) -> bool:
    return any(unit.words in lexicon.negations for unit in units[:place])


def _mentions(stretch: _Stretch, clause: int, lexicon: Lexicon) -> Iterator[Mention]:
    for place, unit in enumerate(stretch.units):
        for meaning in unit.meanings:
            if meaning.slot == OBJECT or meaning.slot in PROPERTIES:
                continue
            if meaning.slot == ACTOR and _is_place(stretch.units, place, lexicon):
                continue
            yield Mention(unit.words, meaning, clause, _negated(stretch.units, place, lexicon))


def _is_place(units: Sequence[_Unit], place: int, lexicon: Lexicon) -> bool:
    """Tell whether an arm is named as a place: `into the right hand`."""
    before = [unit for unit in units[:place] if unit.words not in lexicon.determiners]
    return bool(before) and before[-1].words in lexicon.place_words


def _objects(stretch: _Stretch, clause: int, lexicon: Lexicon) -> Iterator[ObjectMention]:
    units = stretch.units
    for place, unit in enumerate(units):
        named = unit.says(OBJECT)
        if named is None or _modifies(units, place):
            continue
        first = place
        while first > 0 and _describes(units[first - 1], lexicon):
            first -= 1
        properties = [found for before in units[first:place] if (found := before.says(*PROPERTIES))]
        words = [before.words for before in units[first : place + 1]]
        rest = [after for after in units[place + 1 : place + 4] if after.words not in lexicon.that_is]
        says_more = place + 1 < len(units) and units[place + 1].words in lexicon.that_is
        if says_more and rest and (found := rest[0].says(*PROPERTIES)):
            properties.append(found)
            words.append(rest[0].words)
        yield ObjectMention(" ".join(words), named.value, tuple(properties), clause, _negated(units, place, lexicon))


def _modifies(units: Sequence[_Unit], place: int) -> bool:
    """Tell whether an object's name only describes the next one: `cup holder`, `glass bowl`, `orange plastic cup`."""
    rest = list(units[place + 1 :])
    if units[place].says(*PROPERTIES):
        while rest and rest[0].says(*PROPERTIES) and not rest[0].says(OBJECT):
            rest.pop(0)
    return bool(rest) and rest[0].says(OBJECT) is not None


def _describes(unit: _Unit, lexicon: Lexicon) -> bool:
    """Tell whether a unit in front of an object belongs to its name: a property, another name, an unknown word."""
    if unit.meanings:
        return unit.says(*PROPERTIES, OBJECT) is not None
    return not lexicon.knows(unit.words)
