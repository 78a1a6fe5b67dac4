"""Promises about the suite's instructions: none of them is refused in its scene, and every spoilt one is."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest

from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.safety.feasibility import explain
from finevla_runtime.safety.lexicon import ANY_OBJECT, COLOR, OBJECT, find_lexicon
from finevla_runtime.safety.scene_declaration import SceneDeclaration, load_scene_declaration
from sim_eval.tabletop.catalog import FAMILIES, sample_scene
from sim_eval.tabletop.instructions import KINDS, SPLITS

LEXICON = find_lexicon("english")
COLOURS = LEXICON.values(COLOR)
THINGS = [name for name in LEXICON.values(OBJECT) if name != ANY_OBJECT]
_ARM = re.compile(r"\b(left|right) (arm|hand|gripper)\b")


@cache
def scene_of(family: str) -> SceneDeclaration:
    return load_scene_declaration(HW_CONFIGS / "scenes" / f"tabletop_{family}.yaml")


def texts_of(family: str) -> list[str]:
    item = FAMILIES[family]
    variants = dict.fromkeys((*item.variants, *item.demo_variants))
    return [
        text
        for variant in variants
        for kind in KINDS
        for split in SPLITS
        for text in item.phrases.texts(variant, kind, split)
    ]


def codes(text: str, scene: SceneDeclaration) -> set[str]:
    return {refusal.code for refusal in explain(text, scene).refusals}


def test_no_text_of_the_suite_is_refused() -> None:
    texts = [(family, text) for family in FAMILIES for text in texts_of(family)]
    refused = [(family, text) for family, text in texts if codes(text, scene_of(family))]
    assert len(texts) >= 270
    assert refused == [], f"{len(refused)} of {len(texts)} texts of the suite are refused"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_word_of_the_suite_is_understood(family: str) -> None:
    strict = replace(scene_of(family), strict=True)
    assert [text for text in texts_of(family) if codes(text, strict)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_declaration_has_the_objects_of_its_scene(family: str) -> None:
    assert {item.name for item in scene_of(family).objects} == {item.name for item in sample_scene(family, 0).objects}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_object_exchanged_for_one_that_is_not_there_is_refused(family: str) -> None:
    scene = scene_of(family)
    there = {word for item in scene.objects for word in item.words}
    spoilt = 0
    for index, text in enumerate(dict.fromkeys(texts_of(family))):
        named = {item.name for item in explain(text, scene).understood.objects} - {ANY_OBJECT}
        for word in named:
            absent = [name for name in THINGS if name not in there]
            for thing in absent[index % 7 :: 7]:
                changed = re.sub(rf"\b{word}(es|s)?\b", thing, text)
                assert "FV-FEA-004" in codes(changed, scene), changed
                spoilt += 1
    assert spoilt > 100


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("clean_table", "pose", "rotate")])
def test_every_colour_exchanged_for_one_that_is_not_there_is_refused(family: str) -> None:
    scene = scene_of(family)
    there = {colour for item in scene.objects for colour in item.properties.get(COLOR, ())}
    spoilt = 0
    for text in dict.fromkeys(texts_of(family)):
        for colour in there & set(text.split()):
            for other in set(COLOURS) - there:
                changed = re.sub(rf"\b{colour}\b", other, text)
                assert "FV-FEA-005" in codes(changed, scene), changed
                spoilt += 1
    assert spoilt > 20


@pytest.mark.parametrize("family", [name for name in FAMILIES if any(map(_ARM.search, texts_of(name)))])
def test_every_arm_exchanged_for_one_that_is_not_there_is_refused(family: str) -> None:
    scene = scene_of(family)
    for text in filter(_ARM.search, texts_of(family)):
        assert "FV-FEA-002" in codes(_ARM.sub(r"third \2", text), scene), text
        for side in {match[1] for match in _ARM.finditer(text)}:
            other = "right" if side == "left" else "left"
            assert "FV-FEA-003" in codes(text, replace(scene, arms=(other,))), text


def test_a_second_arm_in_the_same_action_is_refused_wherever_one_is_named() -> None:
    spoilt = 0
    for family in FAMILIES:
        for text in texts_of(family):
            for match in _ARM.finditer(text):
                other = "right" if match[1] == "left" else "left"
                changed = f"{text[: match.end()]} with the {other} {match[2]}{text[match.end() :]}"
                assert "FV-FEA-001" in codes(changed, scene_of(family)), changed
                spoilt += 1
    assert spoilt > 70


def test_a_bimanual_text_of_the_suite_stays_one() -> None:
    scene = scene_of("clean_table")
    both = [text for text in texts_of("clean_table") if {"left", "right"} <= set(re.findall(r"\w+", text))]
    assert len(both) >= 3
    for text in both:
        assert {mention.meaning.value for mention in explain(text, scene).understood.of("active_actor.actor")} == {
            "left",
            "right",
        }, text
