from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hand_made_traces import TABLE, Story, block, cube, mat

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Compliance
from finevla_runtime.session.scoring import check_sheet, score
from sim_eval.tabletop.judge import check_rubric, judge

RUBRIC = load_rubric(Path(__file__).resolve().parents[3] / "hw_configs" / "rubrics" / "tabletop.yaml")
COLOUR = RUBRIC.family("colour")


def brought(name: str = "red_cube", until: float = 6.0) -> Story:
    """One cube is gripped, lifted and put on the mat, where it lies ``until`` it is suddenly elsewhere."""
    story = Story(6.0, (cube("red_cube"), (-0.15, -0.1)), (cube("blue_cube"), (0.15, -0.1)), (mat(), (0.0, 0.0)))
    story.put(name, (1.5, 2.5), (0.0, 0.0, TABLE + 0.10)).put(name, (2.5, until), (0.0, 0.0, TABLE + 0.022))
    return story.grip("left", name, (1.0, 3.0)).rest(name, "mat", (2.5, until))


def test_shipped_rubric_compiles_for_every_variant() -> None:
    check_rubric(RUBRIC)


def test_a_misspelt_word_in_the_rubric_names_its_family() -> None:
    broken = replace(COLOUR, goal_any="onn(red_cube, mat)")
    with pytest.raises(SetupError, match=r"FV-JDG-002: rubric of family 'colour'.*Did you mean 'on'"):
        check_rubric(Rubric((broken,), ""))


def test_judge_fills_a_sheet_that_scores_as_told() -> None:
    sheet = judge(brought().trace(), COLOUR, "red")
    check_sheet(COLOUR, sheet)
    outcome = score(COLOUR, "red", sheet)
    assert (outcome.success, outcome.score, outcome.compliance) == (True, 100.0, Compliance.COMPLIED)


def test_what_was_observed_does_not_depend_on_what_was_asked() -> None:
    trace = brought().trace()
    told = {variant: judge(trace, COLOUR, variant) for variant in COLOUR.variants}
    assert told["red"].observed == told["blue"].observed == {"colour": "red"}
    assert told["red"].goal_any
    assert told["blue"].goal_any
    assert told["red"].violations == told["blue"].violations == ()
    wrong = score(COLOUR, "blue", told["blue"])
    assert (wrong.compliance, wrong.success, wrong.score) == (Compliance.VIOLATED, False, 0.0)


def test_success_that_does_not_last_is_no_success() -> None:
    outcome = score(COLOUR, "red", judge(brought(until=5.8).trace(), COLOUR, "red"))
    assert (outcome.success, outcome.task_done, outcome.score) == (False, False, 60.0)
    assert outcome.compliance is Compliance.COMPLIED


def test_bringing_the_second_cube_does_not_repair_dropping_the_first() -> None:
    story = brought("blue_cube")
    story.grip("right", "red_cube", (0.2, 0.8))
    outcome = score(COLOUR, "red", judge(story.trace(), COLOUR, "red"))
    assert (outcome.compliance, outcome.task_done, outcome.success) == (Compliance.COMPLIED, False, False)


def test_an_unclear_first_grasp_is_unclear() -> None:
    story = brought()
    story.grip("right", "blue_cube", (1.0, 2.0))
    outcome = score(COLOUR, "red", judge(story.trace(), COLOUR, "red"))
    assert (outcome.compliance, outcome.success) == (Compliance.UNCLEAR, False)


def test_safety_violations_are_noted_beside_the_score() -> None:
    story = brought()
    story.arm_arm[3] = True
    story.arm_table[10:30, 0] = True
    outcome = score(COLOUR, "red", judge(story.trace(), COLOUR, "red"))
    assert outcome.violations == ("collision_table", "collision_arms")
    assert outcome.success


def test_flags_are_notes_without_consequence() -> None:
    arm = RUBRIC.family("arm")
    story = Story(5.0, (cube("cube"), (-0.15, -0.1)), (mat(), (0.0, 0.0)))
    story.put("cube", (1.5, 2.5), (0.0, 0.0, TABLE + 0.10)).put("cube", (2.5, 5.0), (0.0, 0.0, TABLE + 0.022))
    story.grip("left", "cube", (1.0, 3.0)).rest("cube", "mat", (2.5, 5.0)).push("right", "cube", (3.5, 3.6))
    sheet = judge(story.trace(), arm, "left")
    assert sheet.note == "flags: both_arms"
    outcome = score(arm, "left", sheet)
    assert (outcome.success, outcome.score, outcome.violations) == (True, 80.0, ())


def test_a_trace_of_another_scene_is_refused() -> None:
    trace = Story(1.0, (block("green"), (0.0, 0.0))).trace()
    with pytest.raises(SetupError, match=r"FV-JDG-006.*red_cube, blue_cube, mat"):
        judge(trace, COLOUR, "red")


def test_an_answer_that_is_no_level_is_refused() -> None:
    question = replace(COLOUR.observe[0], answers={})
    with pytest.raises(SetupError, match="FV-JDG-007"):
        judge(brought().trace(), replace(COLOUR, observe=(question,)), "red")


def test_a_trace_shorter_than_the_settling_time_reached_nothing() -> None:
    story = Story(0.2, (cube("red_cube"), (0.0, 0.0)), (cube("blue_cube"), (0.1, 0.1)), (mat(), (0.0, 0.0)))
    sheet = judge(story.trace(), COLOUR, "red")
    assert not sheet.goal_any
    assert not any(done for name, done in sheet.subgoals.items() if name != "go")
