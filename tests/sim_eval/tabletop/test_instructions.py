"""Texts: raw ones never tell how, paired ones differ in the factor alone, held-out ones use known words."""

from __future__ import annotations

import pytest

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop.catalog import FAMILIES, evaluation_variants, instruction, training_variants, vocabulary

_FACTOR_WORDS = {
    "colour": {"red", "blue"},
    "pose": {"standing", "lying"},
    "approach": {"above", "side"},
    "rotate": {"clockwise", "counterclockwise"},
    "arm": {"left", "right"},
    "left_to_right": {"left", "right"},
}


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace(":", " ").split()


def test_held_out_texts_use_only_words_that_training_has_seen() -> None:
    assert vocabulary("heldout") <= vocabulary("train")
    assert len(vocabulary("train")) < 200


@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_is_in_both_splits_and_there_are_enough_of_each(family: str) -> None:
    phrases = FAMILIES[family].phrases
    for train, heldout in (
        (phrases.raw_train, phrases.raw_heldout),
        (phrases.fine_train, phrases.fine_heldout),
    ):
        assert len(set(train)) >= 6
        assert len(set(heldout)) >= 3
        assert not set(train) & set(heldout)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_raw_texts_are_the_same_for_all_variants_and_never_name_the_factor(family: str, split: str) -> None:
    item = FAMILIES[family]
    texts = {item.phrases.texts(variant, "raw", split) for variant in {*item.variants, *item.demo_variants}}
    assert len(texts) == 1
    for text in texts.pop():
        assert not set(_words(text)) & _FACTOR_WORDS.get(family, set())


@pytest.mark.parametrize("family", _FACTOR_WORDS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_paired_fine_grained_texts_differ_in_factor_words_only(family: str, split: str) -> None:
    item = FAMILIES[family]
    one, two = (item.phrases.texts(variant, "fine_grained", split) for variant in item.demo_variants)
    factor = _FACTOR_WORDS[family]
    for first, second in zip(one, two, strict=True):
        assert first != second
        assert [w for w in _words(first) if w not in factor | {"the"}] == [
            w for w in _words(second) if w not in factor | {"the"}
        ]


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_grained_texts_have_8_to_40_words(family: str) -> None:
    item = FAMILIES[family]
    for variant in item.demo_variants:
        for split in ("train", "heldout"):
            for text in item.phrases.texts(variant, "fine_grained", split):
                assert 8 <= len(_words(text)) <= 40


def test_a_seed_gives_paired_variants_the_same_paraphrase() -> None:
    for seed in range(20):
        red = instruction("colour", "red", "fine_grained", "heldout", seed)
        assert instruction("colour", "blue", "fine_grained", "heldout", seed) == red.replace("red", "blue")


def test_the_probe_is_asked_for_but_never_demonstrated() -> None:
    assert ("left_to_right", "left_to_right_bowl") in set(evaluation_variants())
    assert ("left_to_right", "left_to_right_bowl") not in set(training_variants())


def test_unknown_names_are_refused_with_the_nearest_match() -> None:
    with pytest.raises(SetupError, match="FV-SIM-003"):
        instruction("colour", "green", "raw", "train", 0)
    with pytest.raises(SetupError, match=r"FV-SIM-004.*'fine_grained'"):
        instruction("colour", "red", "fine_grain", "train", 0)
    with pytest.raises(SetupError, match="FV-SIM-004"):
        vocabulary("test")
