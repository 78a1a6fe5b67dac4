"""What looks at commands from outside passes every motion of the follower and catches each limit that is broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.motion.follower import Follower
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from tests.ros.commands import assert_smooth
from tests.ros.robot import HOME, SAFETY, WRISTS

LIMITS = SAFETY.limits


def times(gaps: list[float]) -> JointArray:
    return np.concatenate([[0.0], np.cumsum(gaps)])


def wrist(values: JointArray) -> JointArray:
    """Commands float64[n, 14] in which one hand turns by so much from home."""
    path = np.tile(HOME, (len(values), 1))
    path[:, WRISTS[0]] += values
    return path


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.001, 0.05), min_size=40, max_size=80),
    st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3),
    st.sets(st.integers(0, 39), max_size=10),
)
def test_the_fastest_legal_motion_passes_however_irregular_its_ticks_and_with_messages_missed(
    gaps: list[float], goals: list[float], missed: set[int]
) -> None:
    follower, state = Follower(LIMITS), Setpoint.at_rest(HOME)
    path = [state.position]
    for index, gap in enumerate(gaps):
        goal = HOME.copy()
        goal[WRISTS] += goals[index * len(goals) // len(gaps)]
        state = follower.step(state, Setpoint.at_rest(goal), gap)
        path.append(state.position)
    heard = [index for index in range(len(path)) if index not in missed]
    assert_smooth(times(gaps)[heard], np.array(path)[heard], SAFETY)


def turned(*pieces: tuple[float, float]) -> tuple[JointArray, JointArray]:
    """A turn of a hand from rest, given as pieces of constant jerk (units per second cubed, seconds)."""
    p = v = a = 0.0
    places = [0.0]
    for jerk, lasting_s in pieces:
        for _ in range(round(lasting_s / 0.005)):
            t = 0.005
            p, v, a = p + v * t + a * t**2 / 2 + jerk * t**3 / 6, v + a * t + jerk * t**2 / 2, a + jerk * t
            places.append(p)
    return np.arange(len(places)) * 0.005, wrist(np.array(places))


# The hand may have 400 units per second cubed, 20 per second squared and 3.92 per second.
BROKEN = {
    "jerk": ((-350.0, 0.055), (600.0, 0.065), (-350.0, 0.055)),
    "acceleration": ((390.0, 0.08), (-390.0, 0.16), (390.0, 0.08)),
    "leaps": ((390.0, 0.05), (0.0, 0.2), (-390.0, 0.05), (0.0, 0.1)),
}
KEPT = {
    "jerk": ((-350.0, 0.055), (395.0, 0.095), (-350.0, 0.055)),
    "acceleration": ((390.0, 0.05), (-390.0, 0.1), (390.0, 0.05)),
    "leaps": ((390.0, 0.05), (0.0, 0.1), (-390.0, 0.05), (0.0, 0.1)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_limit_that_is_broken_alone_is_named(what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        assert_smooth(*turned(*BROKEN[what]), SAFETY)
    assert_smooth(*turned(*KEPT[what]), SAFETY)


def test_a_leap_a_lost_range_and_a_repeated_stamp_are_caught() -> None:
    at = np.arange(100) * 0.005
    leap = wrist(np.where(np.arange(100) < 50, 0.0, 0.05))
    with pytest.raises(AssertionError, match="leaps"):
        assert_smooth(at, leap, SAFETY)
    beyond = np.tile(LIMITS.upper + 0.01, (100, 1))
    with pytest.raises(AssertionError):
        assert_smooth(at, beyond, SAFETY)
    with pytest.raises(AssertionError, match="one stamp"):
        assert_smooth(np.where(np.arange(100) == 50, at[49], at), np.tile(HOME, (100, 1)), SAFETY)
