from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.rubric import Rubric, fill, question
from finevla_runtime.contracts.rubric_file import load_rubric

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "hw_configs" / "rubrics" / "tabletop.yaml"

SMALL = """\
rubric: 1
defaults: {time_limit_s: 60, hold_s: 0.3, settle_s: 0.5, weight: 1}
families:
- id: colour
  title: Colour
  raw: "Put a cube on the mat."
  fine_grained: "Put the {level} cube on the mat."
  objects: [red_cube, blue_cube, mat]
  factor: {dimensions: [target_object.color], levels: [red, blue]}
  observe:
  - {id: colour, ask: "Which?", sim: "first_held([red_cube, blue_cube])", violation: wrong_object,
     answers: {red_cube: red, blue_cube: blue}}
  subgoals:
  - {id: hold, ask: "Was {level} held?", sim: "held({level}_cube)"}
  - {id: leave, ask: "Was {other} left alone?", sim: "not moved({other}_cube, 0.02)", weight: 2}
  goal: {ask: "On the mat?", sim: "on(red_cube, mat)"}
violations:
  instruction: {wrong_object: {}}
  safety: {drop: {ask: "Dropped?", sim: "dropped(0.05)"}}
  protocol: {camera_lost: {ask: "Camera lost?"}}
"""


@pytest.fixture(scope="module")
def shipped() -> Rubric:
    return load_rubric(SHIPPED)


def load(tmp_path: Path, text: str) -> Rubric:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rubric(path)


def test_shipped_rubric_has_the_eight_columns_of_the_suite(shipped: Rubric) -> None:
    assert {family.id: family.variants for family in shipped.families} == {
        "clean_table": ("default",),
        "stack_block": ("default",),
        "colour": ("red", "blue"),
        "pose": ("standing", "lying"),
        "approach": ("above", "side"),
        "rotate": ("clockwise", "counterclockwise"),
        "arm": ("left", "right"),
        "left_to_right": ("left_to_right_bowl", "left_to_left_bowl", "right_to_right_bowl"),
    }
    assert [family.id for family in shipped.families if family.ood] == ["left_to_right"]


def test_every_family_scores_in_steps_of_twenty_points(shipped: Rubric) -> None:
    for family in shipped.families:
        assert [subgoal.weight for subgoal in family.subgoals] == [1.0] * 5


def test_needs_default_to_all_earlier_subgoals(shipped: Rubric) -> None:
    for family in shipped.families:
        names = [subgoal.id for subgoal in family.subgoals]
        assert [list(subgoal.needs) for subgoal in family.subgoals] == [names[:i] for i in range(5)]


def test_what_is_observed_is_asked_without_the_requested_level(shipped: Rubric) -> None:
    for family in shipped.families:
        for item in family.observe:
            assert "{" not in item.ask + item.sim + family.goal_ask + family.goal_any + family.raw


def test_paired_variants_of_the_fine_grained_example_differ_in_the_level_alone(shipped: Rubric) -> None:
    for family in shipped.families:
        texts = {question(family.fine_grained, family.bindings(variant)) for variant in family.variants}
        assert len(texts) == len(family.variants)


def test_probe_names_its_seen_controls_and_bears_arm_and_bowl_apart(shipped: Rubric) -> None:
    probe = shipped.family("left_to_right")
    assert probe.factor is not None
    assert probe.factor.seen_controls == ("left_to_left_bowl", "right_to_right_bowl")
    assert probe.requested("left_to_right_bowl") == {"arm": "left", "bowl": "right_bowl"}
    bears = {subgoal.id: subgoal.bears for subgoal in probe.subgoals}
    assert bears == {"reach": ("arm",), "hold": ("arm",), "lift": ("arm",), "over": ("bowl",), "in": ("bowl",)}


def test_placeholders_stand_for_the_requested_and_the_other_level(tmp_path: Path) -> None:
    family = load(tmp_path, SMALL).family("colour")
    assert family.bindings("red") == {"colour": "red", "other_colour": "blue", "level": "red", "other": "blue"}
    assert fill("held({level}_cube)", family.bindings("blue")) == "held(blue_cube)"
    assert family.subgoals[1].weight == 2.0
    with pytest.raises(SetupError, match="FV-RUB-007"):
        fill("held({levle}_cube)", family.bindings("blue"))


def test_digest_changes_with_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL).digest != load(tmp_path, SMALL + "# a remark\n").digest


def test_unknown_family_and_variant_name_the_nearest(shipped: Rubric) -> None:
    with pytest.raises(SetupError, match=r"FV-RUB-009.*Did you mean 'colour'"):
        shipped.family("color")
    with pytest.raises(SetupError, match=r"FV-RUB-010.*Did you mean 'standing'"):
        shipped.family("pose").requested("standin")
    with pytest.raises(SetupError, match=r"FV-RUB-011.*Did you mean 'drop'"):
        shipped.family("pose").violation("drops")


MISTAKES = [
    ("rubric: 1", "rubric: 2", "FV-RUB-001", 1),
    ("  title: Colour", "  titel: Colour", "FV-CFG-003", 5),
    ("id: leave", "id: hold", "FV-RUB-002", 14),
    ("id: leave", "id: Leave it", "FV-RUB-002", 15),
    ("id: leave", "id: goal", "FV-RUB-002", 15),
    ("target_object.color", "target_object.colour", "FV-RUB-003", 9),
    ("[target_object.color]", "[target_object.color, active_actor.actor]", "FV-RUB-004", 9),
    ("weight: 2", "needs: [lift]", "FV-RUB-005", 15),
    ("weight: 2", "weight: 0", "FV-RUB-006", 15),
    ("weight: 2", "weight: .nan", "FV-CFG-006", 15),
    ("hold_s: 0.3", "hold_s: -1", "FV-RUB-006", 2),
    ("held({level}_cube)", "held({levl}_cube)", "FV-RUB-007", 14),
    ('ask: "Which?"', 'ask: "Was {level} held?"', "FV-RUB-007", 11),
    ('sim: "on(red_cube, mat)"', 'sim: "on({level}_cube, mat)"', "FV-RUB-007", 16),
    ('raw: "Put a cube', 'raw: "Put the {level} cube', "FV-RUB-007", 6),
    ("levels: [red, blue]", "levels: [red]", "FV-RUB-008", 11),
    ("levels: [red, blue]", "levels: [red, none]", "FV-RUB-008", 11),
    ("blue_cube: blue", "blue_cube: bleu", "FV-CFG-007", 12),
    ("violation: wrong_object", "violation: wrong_objekt", "FV-RUB-011", 11),
    ("safety: {drop", "safty: {drop", "FV-CFG-003", 19),
    ("protocol: {camera_lost", "protocol: {drop", "FV-RUB-002", 18),
]


@pytest.mark.parametrize(("right", "wrong", "code", "line"), MISTAKES)
def test_a_mistake_is_refused_with_its_code_and_line(
    tmp_path: Path, right: str, wrong: str, code: str, line: int
) -> None:
    assert right in SMALL
    with pytest.raises(SetupError) as caught:
        load(tmp_path, SMALL.replace(right, wrong, 1))
    assert caught.value.code == code
    assert f"small.yaml:{line} " in str(caught.value)


def test_misspelt_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Did you mean 'title'"):
        load(tmp_path, SMALL.replace("title:", "titel:"))


def test_a_factor_that_no_subgoal_bears_is_refused(tmp_path: Path) -> None:
    deaf = SMALL.replace("{level}", "red").replace("{other}", "blue")
    deaf = deaf.replace('fine_grained: "Put the red', 'fine_grained: "Put the {level}')
    with pytest.raises(SetupError, match="FV-RUB-004"):
        load(tmp_path, deaf)


def test_questions_without_a_factor_are_refused(tmp_path: Path) -> None:
    text = SMALL.replace("  factor: {dimensions: [target_object.color], levels: [red, blue]}\n", "")
    with pytest.raises(SetupError, match="FV-RUB-004"):
        load(tmp_path, text)
