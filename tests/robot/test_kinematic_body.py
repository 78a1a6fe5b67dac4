"""The kinematic body follows its targets within its limits, whatever slices time comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.robot.kinematic_body import DRIVE_RAD_S
from tests.robot.bodies import embodiment, kinematic_body

HOME = np.array([joint.home for joint in embodiment().joints])
LOWER = np.array([joint.lower for joint in embodiment().joints])
UPPER = np.array([joint.upper for joint in embodiment().joints])
SPEED = np.array([joint.velocity_s for joint in embodiment().joints])
WISHES = hnp.arrays(np.float64, 14, elements=st.floats(-10.0, 10.0))


def test_it_stands_at_home_and_is_well() -> None:
    body = kinematic_body()
    assert np.array_equal(body.measured(), HOME)
    assert body.status() == 0


def test_it_arrives_at_a_target_and_stays_there() -> None:
    body, goal = kinematic_body(), HOME + 0.1 * (HOME < UPPER - 0.2)
    body.advance(goal, 1.0)
    assert np.allclose(body.measured(), goal, atol=1e-4)
    body.advance(goal, 1.0)
    assert np.allclose(body.measured(), goal, atol=1e-6)


@given(st.lists(st.tuples(WISHES, st.floats(0.0, 0.2)), max_size=20))
def test_no_joint_leaves_its_range_or_is_faster_than_it_may_be(motion: list[tuple[np.ndarray, float]]) -> None:
    body = kinematic_body()
    before = body.measured()
    for target, dt_s in motion:
        body.advance(target, dt_s)
        after = body.measured()
        # What was left of the slices before may add one substep to this one.
        assert (np.abs(after - before) <= SPEED * (dt_s + 1 / 500) + 1e-9).all()
        assert ((after >= LOWER - 1e-9) & (after <= UPPER + 1e-9)).all()
        before = after


@given(st.lists(st.floats(0.0, 0.05), min_size=1, max_size=40))
def test_the_motion_towards_a_target_does_not_depend_on_the_slices(slices: list[float]) -> None:
    whole, sliced = kinematic_body(), kinematic_body()
    goal = np.zeros(14)
    for dt_s in slices:
        sliced.advance(goal, dt_s)
    whole.advance(goal, sum(slices))
    # Rounding may move one substep from one slice to the next.
    assert (np.abs(whole.measured() - sliced.measured()) <= SPEED / 500 + 1e-9).all()


def test_at_a_steady_speed_it_lags_behind_as_its_drive_says() -> None:
    body, speed = kinematic_body(), np.zeros(14)
    speed[7] = 0.5
    for tick in range(1, 401):
        body.advance(HOME + speed * tick * 0.005, 0.005)
    lag = (HOME + speed * 2.0 - body.measured())[7]
    assert lag == pytest.approx(2.0 / DRIVE_RAD_S * 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("target", "dt_s"),
    [(np.full(14, np.nan), 0.1), (np.append(np.zeros(13), np.inf), 0.1), (np.zeros(13), 0.1), (HOME, -0.1)],
)
def test_what_no_drive_can_follow_is_refused_and_nothing_moves(target: np.ndarray, dt_s: float) -> None:
    body = kinematic_body()
    with pytest.raises(BodyError, match="FV-BDY-004"):
        body.advance(target, dt_s)
    body.advance(HOME, 0.1)
    assert np.array_equal(body.measured(), HOME)


def test_a_reset_leaves_nothing_of_what_was_before() -> None:
    fresh, used = kinematic_body(), kinematic_body()
    used.advance(np.zeros(14), 0.1234)
    used.reset("empty")
    for body in (fresh, used):
        body.advance(np.zeros(14), 0.05)
    assert np.array_equal(fresh.measured(), used.measured())
    assert all(np.array_equal(image, used.images()[name]) for name, image in fresh.images().items())


def test_a_scene_it_does_not_have_is_refused() -> None:
    with pytest.raises(SetupError, match=r"FV-BDY-003.*'colour/3'.*Known: empty"):
        kinematic_body().reset("colour/3")


def test_it_says_that_it_cannot_judge() -> None:
    with pytest.raises(SetupError, match="FV-BDY-005"):
        kinematic_body().judge("red", "raw")


def test_images_have_the_sizes_of_the_embodiment() -> None:
    sizes = {camera.name: (camera.height, camera.width, 3) for camera in embodiment().cameras}
    images = kinematic_body().images()
    assert {name: image.shape for name, image in images.items()} == sizes
    assert {image.dtype for image in images.values()} == {np.dtype(np.uint8)}


def test_images_change_with_time_and_with_nothing_else() -> None:
    body = kinematic_body()
    first = body.images()
    assert all(np.array_equal(image, body.images()[name]) for name, image in first.items())
    seen = [first]
    for _ in range(20):
        body.advance(HOME, 0.005)
        seen.append(body.images())
    for name in first:
        assert len({images[name].tobytes() for images in seen}) == len(seen)
