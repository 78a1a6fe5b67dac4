"""Whatever is asked of it and whenever, a follower keeps to its limits and can still stop inside the ranges."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.follower import Follower
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from tests.motion.motions import LIMITS, TICKS, positions, speeds

FOLLOWER = Follower(LIMITS)
GOALS = st.lists(st.tuples(positions(margin=0.5), speeds(), TICKS, st.booleans()), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(start=positions(), goals=GOALS)
def test_any_goals_at_any_times_keep_every_limit(
    start: JointArray, goals: list[tuple[JointArray, JointArray, float, bool]]
) -> None:
    state = Setpoint.at_rest(start)
    for place, speed, dt_s, braking in goals:
        before = state
        goal = Setpoint(place, speed, np.zeros(DOF))
        state = FOLLOWER.brake(state, dt_s) if braking else FOLLOWER.step(state, goal, dt_s)
        assert LIMITS.position_kept(state.position).all()
        assert LIMITS.rates_kept(state).all()
        assert LIMITS.continuous(before, state, dt_s).all()
        assert FOLLOWER.can_stop(state).all()


@settings(max_examples=50, deadline=None)
@given(start=positions(), place=positions())
def test_a_goal_that_stands_still_is_reached_and_kept(start: JointArray, place: JointArray) -> None:
    state = Setpoint.at_rest(start)
    goal = Setpoint.at_rest(place)
    for _ in range(2000):
        state = FOLLOWER.step(state, goal, 0.005)
    np.testing.assert_allclose(state.position, place, atol=1e-9)
    np.testing.assert_allclose(state.velocity, 0.0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(start=positions(), goal=positions())
def test_the_path_to_rest_ends_where_braking_ends(start: JointArray, goal: JointArray) -> None:
    state = Setpoint.at_rest(start)
    for _ in range(20):
        state = FOLLOWER.step(state, Setpoint.at_rest(goal), 0.01)
    path = FOLLOWER.stop_path(state, 9)
    rest = FOLLOWER.brake(state, FOLLOWER.stop_s(state))
    assert path.shape == (9, DOF)
    np.testing.assert_allclose(path[0], state.position)
    np.testing.assert_allclose(path[-1], rest.position, atol=1e-9)
    np.testing.assert_allclose(rest.velocity, 0.0, atol=1e-9)


def test_a_goal_outside_the_range_means_its_end() -> None:
    state = Setpoint.at_rest((LIMITS.lower + LIMITS.upper) / 2)
    goal = Setpoint(LIMITS.upper + 1.0, LIMITS.velocity, np.zeros(DOF))
    for _ in range(2000):
        state = FOLLOWER.step(state, goal, 0.005)
    np.testing.assert_allclose(state.position, LIMITS.upper, atol=1e-6)
