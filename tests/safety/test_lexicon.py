"""Promises of the word list: its slots are those of the ten dimensions, and a mistake in it names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.safety.lexicon import (
    ACTOR,
    APPROACH,
    COLOR,
    LEXICONS,
    OBJECT,
    SLOTS,
    Meaning,
    find_lexicon,
    load_lexicon,
)

ENGLISH = find_lexicon("english")


def test_every_slot_is_one_of_the_ten_dimensions() -> None:
    used = {meaning.slot for meanings in ENGLISH.phrases.values() for meaning in meanings}
    assert used <= SLOTS
    assert {ACTOR, APPROACH, COLOR, OBJECT} <= used


def test_no_words_have_two_meanings_in_one_slot() -> None:
    for words, meanings in ENGLISH.phrases.items():
        slots = [meaning.slot for meaning in meanings]
        assert len(set(slots)) == len(slots), f"{words}: {meanings}"


def test_a_word_for_structure_is_no_phrase_of_its_own() -> None:
    for words in (ENGLISH.joining, ENGLISH.negations, ENGLISH.that_is):
        assert not {word for word in words if (word,) in ENGLISH.phrases}


def test_opposites_hold_both_ways_and_covers_one_way() -> None:
    assert (ACTOR, "left", "right") in ENGLISH.opposites
    assert {(slot, b, a) for slot, a, b in ENGLISH.opposites} == ENGLISH.opposites
    assert (APPROACH, "side", "left") in ENGLISH.covers
    assert (APPROACH, "left", "side") not in ENGLISH.covers


@pytest.mark.parametrize(
    ("name", "plural"), [("cup", "cups"), ("box", "boxes"), ("brush", "brushes"), ("berry", "berries"), ("key", "keys")]
)
def test_a_scene_adds_its_own_objects_with_their_plurals(name: str, plural: str) -> None:
    lexicon = ENGLISH.with_objects([f"odd {name}"])
    assert lexicon.phrases["odd", name] == (Meaning(OBJECT, f"odd {name}"),)
    assert lexicon.phrases["odd", plural] == (Meaning(OBJECT, f"odd {name}"),)
    assert ("odd", name) not in ENGLISH.phrases, "the lexicon itself does not change"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("active_actor.actor:", "active_actor.actors:", "FV-FEA-011"),
        ("target_object.color:", "colour:", "FV-FEA-011"),
        ("red: [red]", "red: [Red]", "FV-FEA-011"),
        ("[[left, right]]", "[[left, rigth]]", "FV-CFG-007"),
        ("[[left, right]]", "[[left, right, both]]", "FV-FEA-011"),
        ("{side: [left,", "{sideways: [left,", "FV-FEA-011"),
        ("negations: [not,", "negatoins: [not,", "FV-CFG-003"),
        ("lexicon: english", "lexicon: german", "FV-CFG-007"),
    ],
)
def test_a_mistake_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    text = (LEXICONS / "english.yaml").read_text()
    assert old in text
    path = tmp_path / "english.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SetupError, match=r"english\.yaml:\d+") as caught:
        load_lexicon(path)
    assert caught.value.code == code
