"""Where the log goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from training.log_sinks import LOG, JsonLines, ProgressBar, Screen, TensorBoard, flat, open_sinks


def test_a_resumed_log_has_each_step_once_and_no_torn_line(tmp_path: Path) -> None:
    first = JsonLines(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, {"step": step, "l1": step / 100})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 40, "l')
    second = JsonLines(tmp_path, 20)
    second.write(30, {"step": 30, "l1": 0.5})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [{"step": 10, "l1": 0.1}, {"step": 20, "l1": 0.2}, {"step": 30, "l1": 0.5}]


def test_tensorboard_holds_the_numbers_and_hides_what_a_kill_made_void(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, steps in ((0, (1, 2, 3)), (2, (3,))):
        board = TensorBoard(tmp_path, begun)
        for step in steps:
            board.write(step, {"step": step, "l1": 1.0 / step, "lr": {"head": 0.1}, "note": "text"})
        board.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["l1", "lr/head"]
    assert [event.step for event in read.Scalars("l1")] == [1, 2, 3]


def test_the_screen_gets_lines_and_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    Screen(said.append).write(3, {"step": 3, "l1": 0.5})
    assert json.loads(said[0]) == {"step": 3, "l1": 0.5}
    bar = ProgressBar()
    bar.write(3, {"step": 3, "l1": 0.5, "choice": {"colour": 1.0}})
    bar.advance(3, 0.3)
    bar.close()
    assert "step 3: l1 0.5, choice/colour 1" in capsys.readouterr().err


def test_numbers_are_flat_and_texts_are_left_out() -> None:
    assert dict(flat({"a": 1, "b": {"c": 2.0, "d": "x"}, "e": "y"})) == {"a": 1.0, "b/c": 2.0}


def test_an_unknown_or_missing_logger_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    screen = Screen(lambda line: None)
    with pytest.raises(SetupError, match="Did you mean 'tensorboard'") as caught:
        open_sinks(tmp_path, ["tensorbord"], screen, 0, "run", {})
    assert caught.value.code == "FV-TRN-023"
    with pytest.raises(SetupError, match="pip install trackio") as caught:
        open_sinks(tmp_path, ["trackio"], screen, 0, "run", {})
    assert caught.value.code == "FV-TRN-023"
