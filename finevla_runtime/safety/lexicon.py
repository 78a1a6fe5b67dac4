"""Words and what they say, in the slots of the ten instruction dimensions: a list, read from ``hw_configs/lexicon``.

Nothing is learned or guessed here. The same words always say the same, and a word that is not in the list says nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.contracts.instruction import DIMENSIONS
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.paths import HW_CONFIGS

LEXICONS = HW_CONFIGS / "lexicon"
SLOTS = frozenset(f"{dimension}.{slot}" for dimension, slots in DIMENSIONS.items() for slot in slots)
ACTION = "action_sequence.primitive_action"
GRIPPER_STATE = "action_sequence.gripper_state"
ACTOR = "active_actor.actor"
OBJECT = "target_object.category"
COLOR = "target_object.color"
MATERIAL = "target_object.material"
SHAPE = "target_object.shape_or_size"
POSE = "initial_configuration.initial_pose"
APPROACH = "contact_and_approach.approach_direction"
# The object that `one`, `item` or `thing` stand for.
ANY_OBJECT = "any"
_WORD_LISTS = ("joining", "negations", "determiners", "place_words", "that_is", "other_words")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Meaning:
    """What some words say: a value of a slot of the ten dimensions."""

    slot: str
    value: str


@dataclass(frozen=True)
class Lexicon:
    """The words of one language.

    Attributes:
        name: file stem in ``hw_configs/lexicon``.
        phrases: meanings of one or more words in a row; a word such as `orange` can have two.
        opposites: (slot, value, value) that exclude one another within one action.
        covers: (slot, value, value): a declared first value allows the second too.
        joining: words that begin another action, such as `then` and `and`.
        negations: words after which an action names what shall not happen.
        determiners: words that begin to name an object, such as `the`.
        place_words: words that make what follows a place, such as `into`; a hand after them is not told to act.
        that_is: words between an object and a property of it, such as `that is`.
        other_words: words that say nothing that is checked.
    """

    name: str
    phrases: Mapping[Words, tuple[Meaning, ...]]
    opposites: frozenset[tuple[str, str, str]]
    covers: frozenset[tuple[str, str, str]]
    joining: frozenset[str]
    negations: frozenset[str]
    determiners: frozenset[str]
    place_words: frozenset[str]
    that_is: frozenset[str]
    other_words: frozenset[str]

    @property
    def longest(self) -> int:
        """Return the number of words of the longest phrase."""
        return max(map(len, self.phrases), default=1)

    def knows(self, word: str) -> bool:
        """Tell whether a word outside of all phrases is known; numbers are."""
        lists = (self.joining, self.negations, self.determiners, self.place_words, self.that_is, self.other_words)
        return word.isdecimal() or any(word in words for words in lists)

    def values(self, slot: str) -> tuple[str, ...]:
        """Return every value a slot can have, sorted."""
        found = {m.value for meanings in self.phrases.values() for m in meanings if m.slot == slot}
        return tuple(sorted(found))

    def with_objects(self, names: Iterable[str]) -> Lexicon:
        """Return the lexicon with more names of objects, their plurals included."""
        phrases = dict(self.phrases)
        for name in names:
            for words in _object_words(name):
                _add(phrases, words, Meaning(OBJECT, name))
        return replace(self, phrases=phrases)


def find_lexicon(name: str, folder: Path = LEXICONS) -> Lexicon:
    """Load a lexicon by its name (SetupError FV-FEA-010 for an unknown one, else see ``load_lexicon``)."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise unknown_name("FV-FEA-010", "lexicon", name, known, str(folder.name))
    return load_lexicon(folder / f"{name}.yaml")


def load_lexicon(path: Path) -> Lexicon:
    """Read one ``hw_configs/lexicon/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys; FV-FEA-011 for a slot that is none of the ten
            dimensions', for words that are not lower case, and for opposites of which one is not a value.
    """
    keys = load_yaml(path).mapping(["lexicon", "slots", "objects", "any_object", "opposites", "covers", *_WORD_LISTS])
    phrases: dict[Words, tuple[Meaning, ...]] = {}
    for slot, node in _slots(keys["slots"]):
        for value, written in node.items():
            for pattern in written.elements():
                for words in _alternatives(pattern):
                    _add(phrases, words, Meaning(slot, value))
    for node in keys["objects"].elements():
        name = _lower(node)
        for words in _object_words(name):
            _add(phrases, words, Meaning(OBJECT, name))
    for node in keys["any_object"].elements():
        for words in _object_words(_lower(node)):
            _add(phrases, words, Meaning(OBJECT, ANY_OBJECT))
    lists = {name: frozenset(keys[name].map(_lower)) for name in _WORD_LISTS}
    lexicon = Lexicon(
        name=keys["lexicon"].one_of([path.stem]), phrases=phrases, opposites=frozenset(), covers=frozenset(), **lists
    )
    return replace(
        lexicon,
        opposites=frozenset(
            pair for slot, node in _slots(keys["opposites"]) for pair in _opposites(lexicon, slot, node)
        ),
        covers=frozenset(pair for slot, node in _slots(keys["covers"]) for pair in _covers(lexicon, slot, node)),
    )


def _opposites(lexicon: Lexicon, slot: str, node: Node) -> Iterable[tuple[str, str, str]]:
    for pair in node.elements():
        values = pair.map(lambda value: value.one_of(lexicon.values(slot)))
        if len(values) != 2:
            raise pair.fail("FV-FEA-011", f"got {len(values)} values; wanted two that exclude one another.")
        yield slot, values[0], values[1]
        yield slot, values[1], values[0]


def _covers(lexicon: Lexicon, slot: str, node: Node) -> Iterable[tuple[str, str, str]]:
    known = lexicon.values(slot)
    for value, children in node.items():
        if value not in known:
            raise children.fail("FV-FEA-011", f"{value!r} is no value of {slot}.")
        for child in children.elements():
            yield slot, value, child.one_of(known)


def _slots(node: Node) -> Iterable[tuple[str, Node]]:
    for slot, child in node.items():
        if slot not in SLOTS:
            raise child.fail("FV-FEA-011", f"{slot!r} is no slot of the ten dimensions.")
        yield slot, child


def _alternatives(node: Node) -> Iterable[Words]:
    """Yield every phrase that a pattern stands for: `a|b` is one word or the other, `a?` may be absent."""
    places = []
    for place in _lower(node).split():
        choices = place.rstrip("?").split("|")
        places.append([*choices, ""] if place.endswith("?") else choices)
    for chosen in itertools.product(*places):
        words = tuple(word for word in chosen if word)
        if words:
            yield words


def _object_words(name: str) -> tuple[Words, Words]:
    """Return the words of an object's name and of its plural."""
    *front, last = name.lower().replace("-", " ").split()
    if last.endswith(("s", "x", "ch", "sh")):
        plural = f"{last}es"
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        plural = f"{last[:-1]}ies"
    else:
        plural = f"{last}s"
    return (*front, last), (*front, plural)


def _add(phrases: dict[Words, tuple[Meaning, ...]], words: Words, meaning: Meaning) -> None:
    known = phrases.get(words, ())
    if meaning.slot == OBJECT:
        # A scene may call an object what the lexicon knows already: its own name counts.
        known = tuple(other for other in known if other.slot != OBJECT)
    if meaning not in known:
        phrases[words] = (*known, meaning)


def _lower(node: Node) -> str:
    text = node.text()
    if text != text.lower() or not text.strip():
        raise node.fail("FV-FEA-011", f"{text!r}; wanted words in lower case.")
    return text
