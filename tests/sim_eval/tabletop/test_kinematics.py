"""The closed-form kinematics agree with themselves and with the simulated robot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.world import TabletopWorld

_JOINTS = st.tuples(*(st.floats(low, high) for low, high in zip(km.LOWER, km.UPPER, strict=True)))


@settings(deadline=None)
@given(joints=_JOINTS, arm=st.sampled_from((0, 1)))
def test_inverse_reaches_whatever_pose_forward_names(joints: tuple[float, ...], arm: int) -> None:
    position, rotation = km.forward(arm, np.array(joints))
    try:
        answer = km.inverse(arm, position, rotation)
    except km.Unreachable:
        return  # Another branch than elbow-up made this pose; the experts never ask for it.
    again, turn = km.forward(arm, answer)
    assert np.allclose(again, position, atol=1e-6)
    assert np.allclose(turn, rotation, atol=1e-5)
    assert np.all(answer >= km.LOWER)
    assert np.all(answer <= km.UPPER)


@pytest.mark.parametrize("arm", [0, 1])
def test_straight_down_over_the_shared_area_is_reachable_by_both_arms(arm: int) -> None:
    for x in np.linspace(-0.05, 0.05, 5):
        for y in np.linspace(-0.23, 0.0, 7):
            joints = km.inverse(arm, np.array([x, y, 0.76]), km.downward(0.0))
            assert abs(joints[3]) < 1e-6


def test_a_pose_behind_the_reach_is_refused() -> None:
    with pytest.raises(km.Unreachable, match="reach"):
        km.inverse(0, np.array([0.6, 0.6, 0.8]), km.downward(0.0))


def test_the_simulated_hands_are_where_the_closed_form_says() -> None:
    world = TabletopWorld(render=False)
    world.reset(sample_scene("colour", 0))
    trace = world.trace()
    for arm, hand in enumerate(world.hand_poses()):
        position, rotation = km.forward(arm, km.home_joints()[arm])
        assert np.allclose(hand[:3] + km.HAND * rotation[:, 0], position, atol=1e-4)
        assert np.allclose(np.abs(hand[3:] @ km.quaternion(rotation)), 1.0, atol=1e-4)
        assert np.allclose(trace.tcp_pose[0, arm, :3], position, atol=1e-4)


@given(angle=st.floats(-3.0, 3.0), pitch=st.floats(-1.5, 1.5))
def test_quaternions_are_unit_and_turn_the_axes_like_the_matrix(angle: float, pitch: float) -> None:
    matrix = km.pitched(angle, pitch)
    w, x, y, z = km.quaternion(matrix)
    first = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)])
    assert np.isclose(w * w + x * x + y * y + z * z, 1.0)
    assert np.allclose(first, matrix[:, 0], atol=1e-9)
