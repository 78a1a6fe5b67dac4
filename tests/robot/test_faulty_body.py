"""A fault is what it is called, on top of a body that is well, and goes away when it is taken back."""

from __future__ import annotations

import numpy as np
import pytest

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.robot.faulty_body import SLOW_DRIVE_S, Fault, FaultyBody
from tests.robot.bodies import kinematic_body

GOAL = np.zeros(14)


def moved(*faults: str) -> FaultyBody:
    """A body that got faults at home and has then aimed at GOAL for a tenth of a second."""
    body = FaultyBody(kinematic_body())
    for fault in faults:
        body.inject(fault)
    body.advance(GOAL, 0.1)
    return body


def test_without_a_fault_it_is_the_other_body() -> None:
    other, body = kinematic_body(), moved()
    other.advance(GOAL, 0.1)
    assert np.array_equal(body.measured(), other.measured())
    assert {name: image.tobytes() for name, image in body.images().items()} == {
        name: image.tobytes() for name, image in other.images().items()
    }
    assert body.status() == 0
    assert body.embodiment == other.embodiment


@pytest.mark.parametrize("fault", ["frozen_camera", "frozen_stamp"])
def test_a_frozen_camera_repeats_one_picture_while_the_others_go_on(fault: str) -> None:
    body = moved(f"{fault}/cam_high")
    first = body.images()
    body.advance(GOAL, 0.1)
    second = body.images()
    assert [name for name in first if np.array_equal(first[name], second[name])] == ["cam_high"]
    assert body.has(Fault(fault), "cam_high")
    assert not body.has(Fault(fault), "cam_left_wrist")


def test_a_silent_camera_delivers_nothing_and_the_others_do() -> None:
    assert list(moved("silent_camera/cam_high").images()) == ["cam_left_wrist", "cam_right_wrist"]
    assert dict(moved("silent_camera").images()) == {}


def test_stalled_feedback_repeats_a_position_that_the_body_has_left() -> None:
    body = moved("stalled_feedback")
    assert np.array_equal(body.measured(), kinematic_body().measured())
    body.inject("none")
    assert np.array_equal(body.measured(), moved().measured())


def test_feedback_that_is_not_a_number_has_one_such_joint() -> None:
    assert np.flatnonzero(np.isnan(moved("nan_feedback").measured())).tolist() == [0]


def test_silent_feedback_is_for_the_sender_to_keep() -> None:
    assert moved("silent_feedback").has(Fault.SILENT_FEEDBACK)
    assert not moved().has(Fault.SILENT_FEEDBACK)


@pytest.mark.parametrize(("fault", "code"), [("emergency_stop", 1), ("overspeed", 8)])
def test_arms_that_report_a_fault_stand_where_they_are(fault: str, code: int) -> None:
    body = moved(fault)
    assert body.status() == code
    assert np.allclose(body.measured(), kinematic_body().measured())


def test_a_slow_drive_falls_behind_what_a_good_one_does() -> None:
    slow, good = moved("slow_drive"), moved()
    went = np.abs(slow.measured() - kinematic_body().measured())
    assert 0.0 < went.max() <= SLOW_DRIVE_S * 0.1 + 1e-9
    assert np.abs(good.measured() - slow.measured()).max() > 0.1


def test_a_fault_outlasts_a_reset_and_the_arms_stand_at_home() -> None:
    body = FaultyBody(kinematic_body())
    body.advance(GOAL, 0.2)
    body.inject("emergency_stop")
    body.reset("empty")
    body.advance(GOAL, 0.2)
    assert body.status() == 1
    assert np.allclose(body.measured(), kinematic_body().measured())


def test_taking_faults_back_takes_all_back() -> None:
    body = moved("frozen_camera", "silent_camera/cam_high", "nan_feedback", "overspeed", "slow_drive")
    body.inject("none")
    body.reset("empty")
    body.advance(GOAL, 0.1)
    assert np.array_equal(body.measured(), moved().measured())
    assert body.status() == 0
    assert {name: image.tobytes() for name, image in body.images().items()} == {
        name: image.tobytes() for name, image in moved().images().items()
    }


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("frozen_camra", "Did you mean 'frozen_camera'"),
        ("frozen_camera/cam_hihg", "Did you mean 'cam_high'"),
        ("overspeed/cam_high", "not one of a camera"),
        ("", "Known: "),
    ],
)
def test_an_unknown_fault_is_refused(fault: str, words: str) -> None:
    with pytest.raises(SetupError, match="FV-BDY-007") as caught:
        FaultyBody(kinematic_body()).inject(fault)
    assert words in str(caught.value)


def test_a_target_that_is_not_finite_is_refused_under_every_fault() -> None:
    for fault in Fault:
        with pytest.raises(BodyError, match="FV-BDY-004"):
            moved(fault.value).advance(np.full(14, np.nan), 0.1)


def test_the_judge_sees_what_truly_happened() -> None:
    with pytest.raises(SetupError, match="FV-BDY-005"):
        moved("stalled_feedback").judge("red", "raw")
