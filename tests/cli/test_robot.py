"""`finevla robot`: what needs no robot works everywhere, and what needs one says how to get there."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from finevla_runtime.cli import robot as command
from finevla_runtime.cli.robot import WITH_ROS, robot
from finevla_runtime.contracts.errors import SetupError

ROOT = Path(__file__).resolve().parents[2]
CUBE = "pick up the red cube with the left arm"


@pytest.fixture
def without_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.util, "find_spec", lambda name: None)


def check(instruction: str, scene: str = "tabletop_arm") -> int:
    return robot(["check", "--instruction", instruction, "--scene", scene, "--kind", "raw"])


def test_check_shows_what_was_understood(without_ros: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(CUBE) == 0
    shown = capsys.readouterr().out
    assert "actor: left (left arm)" in shown
    assert "target_object: red cube" in shown
    assert shown.endswith("nothing speaks against it\n")


def test_check_shows_what_is_refused_and_fails(without_ros: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("pick up the green banana") == 1
    assert "refused: FV-FEA-004: 'green banana' is not in scene tabletop_arm" in capsys.readouterr().out


def test_check_of_an_unknown_scene_names_the_nearest(without_ros: None) -> None:
    with pytest.raises(SetupError, match="Did you mean 'tabletop_arm'") as error:
        check(CUBE, "tabletop_arms")
    assert error.value.code == "FV-FEA-013"


@pytest.mark.parametrize("verb", sorted(WITH_ROS))
def test_what_needs_ros_says_how_to_get_it(without_ros: None, verb: str) -> None:
    with pytest.raises(SetupError, match=r"source ros2_ws/install/setup\.bash.*docs/robot\.md") as error:
        robot([verb, "--sim"])
    assert error.value.code == "FV-OPR-003"


def test_help_is_the_same_without_ros(without_ros: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert robot(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in ("check", *WITH_ROS))
    assert "Ctrl-C cancels" in shown


def test_a_registered_subverb_is_imported_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
        assert group == "finevla.robot_verbs"
        return (
            metadata.EntryPoint("stop", "tests.cli.registered_verb:stop", group),
            metadata.EntryPoint("broken", "no_such_module:verb", group),
        )

    monkeypatch.setattr(command.util, "find_spec", lambda name: object())
    monkeypatch.setattr(command.metadata, "entry_points", entry_points)
    assert robot(["stop", "--now"]) == 7
    with pytest.raises(ModuleNotFoundError):
        robot(["broken"])


def test_the_verb_is_registered_by_the_distribution() -> None:
    lines = (ROOT / "pyproject.toml").read_text()
    assert re.search(r"^robot = \"finevla_runtime\.cli\.robot:robot\"$", lines, re.MULTILINE)
