"""Promises of the check before motion: plain contradictions are refused with a reason, and doubts pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.safety.feasibility import Explanation, explain, require_feasible
from finevla_runtime.safety.scene_declaration import SceneDeclaration, load_scene_declaration
from finevla_runtime.safety.understood import read

SCENES = HW_CONFIGS / "scenes"
BENCH = load_scene_declaration(SCENES / "workbench.yaml")


def codes(text: str, scene: SceneDeclaration = BENCH) -> list[str]:
    return [refusal.code for refusal in explain(text, scene).refusals]


@pytest.mark.parametrize("path", sorted(SCENES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scene_loads(path: Path) -> None:
    assert load_scene_declaration(path).name == path.stem


@pytest.mark.parametrize(
    "text",
    [
        # Two arms with an action each.
        "with the left arm pick up the cup, then with the right arm put the sponge on the tray",
        "Use the left hand to hold the bottle. Use the right hand to take the cup.",
        "hold the tray with the left gripper and push the sponge with the right gripper",
        "hold the tray with the left arm while the right arm wipes it with the sponge",
        "first the left arm, then the right arm: pick up the cup",
        "with the left arm on the left, the right arm on the right, lift the tray",
        "lift the tray with both arms",
        "use the left and right arms to lift the tray",
        # An arm that is a place or is told not to act.
        "pass the sponge from the left hand to the right hand",
        "hand the cup with the left arm over to the right arm",
        "use the left arm, not the right arm, to grasp the cup",
        "grasp the cup with the left arm without using the right arm",
        "move the left arm away from the right arm",
        # Sides are no arms, and places are no ways to come.
        "put the cup on the right with the left arm",
        "take the cup with the left arm from the right side of the tray",
        "move the cup from the left to the right",
        # Two ways, of which one is not asked for, or each for its own action.
        "turn the bottle clockwise, not counterclockwise",
        "turn the bottle clockwise and then counter-clockwise",
        "grasp the cup from above instead of from the side",
        "approach the bottle from the left side and lower the cup from above",
        # What is not there may be named where it is not asked for.
        "take the cup, not the mug",
        "do not throw the cup",
        "put the cup down without touching the green bowl",
        # Properties that nobody declared may be true.
        "take the large red cup",
        "take the blue sponge",
        "take the one on the left",
        "pick up the cup that is red",
        "grasp the glass bottle from the left side",
        # What is not understood passes.
        "frobnicate the doohickey",
        "抓住杯子",  # "Grasp the cup."
        "Pick!",
    ],
)
def test_what_may_be_done_passes(text: str) -> None:
    assert codes(text) == [], explain(text, BENCH).refusals


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("use the left arm to grasp the cup with the right hand", "FV-FEA-001"),
        ("with the left arm, grasp the cup with the right hand", "FV-FEA-001"),
        ("take the sponge. Use the right arm to pick up the cup with the left gripper.", "FV-FEA-001"),
        ("grasp the cup from above from the side", "FV-FEA-001"),
        ("turn the cup clockwise counter-clockwise", "FV-FEA-001"),
        ("use the third arm to grasp the cup", "FV-FEA-002"),
        ("with the middle gripper, take the cup", "FV-FEA-002"),
        ("grasp the green mug", "FV-FEA-004"),
        ("put the cup into the blue bowl", "FV-FEA-004"),
        ("pick up the bananas", "FV-FEA-004"),
        ("take the orange", "FV-FEA-004"),
        ("grasp the green cup", "FV-FEA-005"),
        ("take the cup which is blue", "FV-FEA-005"),
        ("take the metal bottle", "FV-FEA-005"),
        ("take the orange plastic cup", "FV-FEA-005"),
        ("take the purple cup on the left", "FV-FEA-005"),
        ("grasp the bottle from above", "FV-FEA-006"),
        ("Pick up the bottle. Grasp it from above.", "FV-FEA-006"),
        ("throw the sponge onto the tray", "FV-FEA-007"),
    ],
)
def test_what_contradicts_itself_the_robot_or_the_scene_is_refused(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_the_code_and_all_reasons_are_raised_before_motion() -> None:
    with pytest.raises(SetupError) as caught:
        require_feasible("use the third arm to grasp the green cup", BENCH)
    assert caught.value.code == "FV-FEA-002"
    assert "left and right" in caught.value.message
    assert "'green cup'" in caught.value.message
    assert "red" in caught.value.message
    assert require_feasible("take the cup", BENCH).objects[0].name == "cup"


@pytest.mark.parametrize(("arm", "other"), [("left", "right"), ("right", "left")])
def test_an_arm_that_the_scene_does_not_allow_is_refused(arm: str, other: str) -> None:
    scene = replace(BENCH, arms=(other,))
    assert codes(f"take the cup with the {arm} arm", scene) == ["FV-FEA-003"]
    assert codes("lift the tray with both hands", scene) == ["FV-FEA-003"]
    assert codes(f"take the cup with the {other} arm", scene) == []
    assert codes("take the cup with the nearest arm", scene) == []


def test_a_strict_scene_refuses_what_it_does_not_understand_and_names_it() -> None:
    strict = replace(BENCH, strict=True)
    assert codes("gently take the cup with the left arm", strict) == []
    found = explain("frobnicate the cup", strict)
    assert [refusal.code for refusal in found.refusals] == ["FV-FEA-008"]
    assert "'frobnicate'" in found.refusals[0].text
    assert codes("抓住杯子", strict) == ["FV-FEA-008"]
    assert explain("frobnicate the cup", BENCH).understood.notes == ("not understood, so not checked: frobnicate",)


def test_what_was_understood_is_told_in_the_slots_of_the_ten_dimensions() -> None:
    found = explain("Grasp the red cup from above with the left arm and turn it clockwise.", BENCH)
    assert found.feasible
    assert found.lines() == (
        "action_sequence.primitive_action: grasp (grasp)",
        "contact_and_approach.approach_direction: above (from above)",
        "active_actor.actor: left (left arm)",
        "action_sequence.primitive_action: rotate (turn)",
        "trajectory_and_orientation.rotation_direction: clockwise (clockwise)",
        "target_object: red cup",
    )
    assert found.understood.clauses == ("grasp the red cup from above with the left arm", "turn it clockwise")


@given(st.text(max_size=200))
def test_any_text_can_be_read_and_reads_the_same_twice(text: str) -> None:
    first = explain(text, BENCH)
    assert isinstance(first, Explanation)
    assert explain(text, BENCH) == first
    assert all(refusal.code.startswith("FV-FEA-") for refusal in first.refusals)


WORDS = st.sampled_from(
    [
        *("use", "with", "the", "left", "right", "arm", "hand", "grasp", "take", "cup", "mug", "red", "green"),
        *("from", "above", "side", "and", "then", "not", ",", ".", "into", "it"),
    ]
)


@given(st.lists(WORDS, max_size=25).map(" ".join))
def test_clauses_cut_the_text_and_lose_nothing_but_signs_and_joining_words(text: str) -> None:
    kept = " ".join(read(text, BENCH.lexicon).clauses).split()
    assert kept == [word for word in text.split() if word not in {",", ".", "and", "then"}]


@given(st.lists(WORDS, max_size=25).map(" ".join))
def test_capital_letters_change_nothing(text: str) -> None:
    assert explain(text.upper(), BENCH) == explain(text, BENCH)


@given(first=st.sampled_from(["left", "right"]), second=st.sampled_from(["left", "right"]))
def test_one_action_has_one_arm_and_two_actions_may_have_two(first: str, second: str) -> None:
    one = f"use the {first} arm to grasp the cup with the {second} hand"
    assert (codes(one) == ["FV-FEA-001"]) == (first != second)
    assert codes(f"grasp the cup with the {first} arm and take the sponge with the {second} hand") == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("arms: [left, right]", "arms: [left, rigth]", "FV-CFG-007"),
        ("arms: [left, right]", "arms: []", "FV-FEA-012"),
        ("arms: [left, right]", "arms: [left, left]", "FV-FEA-012"),
        ("lexicon: english", "lexicon: englsh", "FV-FEA-010"),
        ("colours: [red]", "colours: [crimson]", "FV-CFG-007"),
        ("approach: [side]", "approach: [sideways]", "FV-CFG-007"),
        ("approach: [side]", "aproach: [side]", "FV-CFG-003"),
        ("name: bottle", "name: red_cup", "FV-FEA-012"),
        ("words: [bottle]", "words: []", "FV-FEA-012"),
        ("strict: false", "strict: sometimes", "FV-CFG-006"),
        ("scene: workbench", "scene: kitchen", "FV-CFG-007"),
    ],
)
def test_a_doubtful_declaration_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    text = (SCENES / "workbench.yaml").read_text()
    assert old in text
    path = tmp_path / "workbench.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SetupError) as caught:
        load_scene_declaration(path)
    assert caught.value.code == code
