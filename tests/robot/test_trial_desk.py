"""One trial at a time, of one instruction, and its log is written whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.robot.trial_desk import EpisodeNote, RobotTrial, TrialDesk, bag_name, write_log

TRIAL = RobotTrial("colour/red/1", "red", "colour", "pick up the red cube", "fine_grained", 7)
NO_TRIAL = replace(TRIAL, trial_id="")
NOTE = EpisodeNote("e1", "timeout", "", "", 600, 20, 20.0)


def desk() -> TrialDesk:
    made = TrialDesk()
    made.begin(TRIAL, "2026-01-02T03:04:05.678+00:00")
    return made


def code(error: pytest.ExceptionInfo[SetupError]) -> str:
    return error.value.code


def test_a_second_trial_is_refused_until_the_first_is_ended() -> None:
    made = desk()
    with pytest.raises(SetupError, match=r"colour/red/1.*end it first") as error:
        made.begin(replace(TRIAL, trial_id="next"), "later")
    assert code(error) == "FV-TRI-002"
    made.end("colour/red/1", "later", "")
    made.begin(replace(TRIAL, trial_id="next"), "later")
    assert made.open is not None


def test_a_trial_without_a_name_is_refused() -> None:
    with pytest.raises(SetupError) as error:
        TrialDesk().require_free(" ")
    assert code(error) == "FV-TRI-001"


def test_without_a_trial_only_an_episode_without_a_trial_fits() -> None:
    TrialDesk().require_fits(NO_TRIAL)
    with pytest.raises(SetupError, match="no trial is open") as error:
        TrialDesk().require_fits(TRIAL)
    assert code(error) == "FV-TRI-003"


def test_an_episode_of_no_trial_or_of_another_does_not_fit_an_open_one() -> None:
    desk().require_fits(TRIAL)
    for other in (NO_TRIAL, replace(TRIAL, trial_id="colour/red/2")):
        with pytest.raises(SetupError) as error:
            desk().require_fits(other)
        assert code(error) == "FV-TRI-003"


@pytest.mark.parametrize("change", [{"variant_id": "blue"}, {"instruction": "x"}, {"kind": "raw"}, {"seed": 8}])
def test_an_episode_with_the_trials_name_and_something_else_in_it_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(SetupError, match=next(iter(change))) as error:
        desk().require_fits(replace(TRIAL, **change))
    assert code(error) == "FV-TRI-004"


def test_a_trial_whose_recording_failed_takes_no_further_episode() -> None:
    made = desk()
    made.mark("FV-REC-032: the disk is full")
    made.mark("something later")
    with pytest.raises(SetupError, match="the disk is full") as error:
        made.require_fits(TRIAL)
    assert code(error) == "FV-TRI-005"


def test_a_trial_is_of_one_instruction() -> None:
    TrialDesk().require_changeable()
    with pytest.raises(SetupError) as error:
        desk().require_changeable()
    assert code(error) == "FV-TRI-006"


def test_only_the_open_trial_is_ended() -> None:
    for made, name in ((TrialDesk(), "colour/red/1"), (desk(), "other")):
        with pytest.raises(SetupError) as error:
            made.end(name, "later", "")
        assert code(error) == "FV-TRI-003"


def test_the_log_says_what_was_asked_for_and_what_became_of_it(tmp_path: Path) -> None:
    made = desk()
    made.add(NOTE)
    made.mark("FV-REC-032: the disk is full")
    log = made.end("colour/red/1", "2026-01-02T03:05:00+00:00", "der Würfel fiel")
    path = write_log(tmp_path, log)
    assert [item.name for item in tmp_path.iterdir()] == ["trial.json"]
    read = json.loads(path.read_text())
    assert read["trial"]["instruction"] == "pick up the red cube"
    assert read["episodes"][0]["outcome"] == "timeout"
    assert read["problem"] == "FV-REC-032: the disk is full"
    assert read["note"] == "der Würfel fiel"
    assert made.open is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    log = desk().end("colour/red/1", "later", "")
    with pytest.raises(SetupError) as error:
        write_log(tmp_path / "elsewhere", log)
    assert code(error) == "FV-TRI-007"


def test_names_of_bags_are_names_of_folders_and_tell_repetitions_apart() -> None:
    assert bag_name("colour/red/1", "2026-01-02T03:04:05.678+00:00") == "colour_red_1.20260102T030405"
    assert bag_name("../..", "2026-01-02T03:04:05+00:00").startswith("trial.20260102T030405")
    assert bag_name("a", "2026-01-02T03:04:05.1+00:00") != bag_name("a", "2026-01-02T03:04:06.1+00:00")
