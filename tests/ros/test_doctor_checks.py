"""What the doctor thinks of what it saw, and the remedy for each thing that is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finevla_cobot.doctor_checks import Source, judge_command, judge_disk, judge_node, judge_source

MS = 1_000_000
CAMERA = Source("cam_high", "/cam", ["/driver"], 30.0, [i * 33 * MS for i in range(60)], [0.02] * 60, 0.15)


def test_a_source_that_keeps_its_rate_and_its_stamps_is_well() -> None:
    check = judge_source(CAMERA)
    assert check.ok
    assert "30.3 Hz, 20 ms after its stamp" in check.detail


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"publishers": []}, "nobody publishes /cam"),
        ({"publishers": ["/driver", "/bag_player"]}, "has publishers /driver, /bag_player"),
        ({"arrivals_ns": []}, "nothing comes"),
        ({"arrivals_ns": [0, 100 * MS, 200 * MS]}, "comes at 10.0 Hz, expected 30"),
        ({"problem": "is bgr8"}, "is bgr8"),
        ({"offsets_s": [0.0, 0.4]}, "wanders by 0.40 s"),
    ],
)
def test_what_is_wrong_with_a_source_is_named_with_a_remedy(change: dict[str, object], detail: str) -> None:
    check = judge_source(replace(CAMERA, **change))
    assert (check.ok, check.needed) == (False, True)
    assert detail in check.detail
    assert check.remedy


def test_a_source_that_is_a_little_slow_is_a_note() -> None:
    check = judge_source(replace(CAMERA, arrivals_ns=[0, 50 * MS, 100 * MS]))
    assert (check.ok, check.needed) == (False, False)
    assert "comes at 20.0 Hz, expected 30" in check.detail


def test_single_late_messages_are_no_wandering_clock() -> None:
    assert judge_source(replace(CAMERA, offsets_s=[0.02] * 58 + [0.5] * 2)).ok


def test_another_clock_is_a_note_because_a_steady_offset_is_learnt() -> None:
    check = judge_source(replace(CAMERA, offsets_s=[3.0] * 60))
    assert (check.ok, check.needed) == (False, False)
    assert "NTP" in check.remedy


def test_a_stranger_on_a_command_topic_is_the_worst() -> None:
    check = judge_command("left", "/master/joint_left", ["/cell/arm_commander", "/leader"], ["/driver"])
    assert not check.ok
    assert check.detail.startswith("/leader also commands")
    assert judge_command("left", "/t", ["/cell/arm_commander"], ["/driver"]).ok
    assert not judge_command("left", "/t", ["/cell/arm_commander"], []).ok
    assert not judge_command("left", "/t", [], ["/driver"]).needed


def test_nodes_are_there_and_active() -> None:
    assert judge_node("session", True, None).ok
    assert judge_node("arm_commander", True, 3).ok
    assert "inactive: FV-SAF-008: silent" in judge_node("arm_commander", True, 2, "FV-SAF-008: silent").detail
    assert "robot up" in judge_node("session", False, None).remedy


def test_a_disk_without_room_is_wrong_before_a_trial_is_refused() -> None:
    assert judge_disk("bags", 2000, 1000, "idle").ok
    assert not judge_disk("bags", 1000, 1000, "idle").ok
