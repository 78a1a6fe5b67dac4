"""Promises of the guard: nothing leaves it that breaks a limit, nothing legal is changed, and faults hold or stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.follower import Follower
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.guard import Guard
from finevla_runtime.safety.verdict import Outcome, Reason
from tests.motion.motions import LIMITS, positions, speeds
from tests.safety.situations import MIDDLE, PROFILE, TICK_S, Rig, Wall

FOLLOWER = Follower(LIMITS)
ODD = st.sampled_from([np.nan, np.inf, -np.inf, 1e300])


def arrays() -> st.SearchStrategy[JointArray]:
    """Anything a confused program may send: legal, far outside, not finite."""
    plain = positions(margin=2.0)
    spoilt = st.tuples(plain, st.integers(0, DOF - 1), ODD).map(lambda t: np.where(np.arange(DOF) == t[1], t[2], t[0]))
    return st.one_of(plain, plain, plain, spoilt)


WANTED = st.one_of(
    st.none(),
    st.builds(Setpoint, arrays(), st.one_of(speeds(), arrays()), st.one_of(speeds().map(lambda v: v * 4), arrays())),
)
TICKS = st.one_of(st.floats(0.0, 0.02), st.floats(0.0, 3.0), st.floats(-0.01, 0.0))


@settings(max_examples=200, deadline=None)
@given(start=positions(), asked=st.lists(st.tuples(WANTED, TICKS, st.booleans()), min_size=1, max_size=20))
def test_whatever_is_asked_and_whenever_no_command_breaks_a_limit(
    start: JointArray, asked: list[tuple[Setpoint | None, float, bool]]
) -> None:
    rig = Rig(replace(PROFILE, start=np.full(DOF, np.inf)), at=start)
    latest_ns = rig.now_ns
    for wanted, dt_s, stale in asked:
        before = rig.guard.command
        assert before is not None
        ages = {"measured_ns": 0} if stale else {}
        command = rig.tick(wanted, dt_s, **ages).command
        # Time that ran backwards has to come back before it counts again.
        counted_s = float(np.clip((rig.now_ns - latest_ns) / 1e9, 0.0, PROFILE.longest_tick_s))
        latest_ns = max(latest_ns, rig.now_ns)
        assert LIMITS.position_kept(command.position).all()
        assert LIMITS.rates_kept(command).all()
        assert LIMITS.continuous(before, command, counted_s).all()
        assert FOLLOWER.can_stop(command).all()


@settings(max_examples=100, deadline=None)
@given(
    start=positions(), goals=st.lists(st.tuples(positions(), speeds(), st.floats(1e-4, 0.05)), min_size=1, max_size=20)
)
def test_a_legal_motion_passes_unchanged(start: JointArray, goals: list[tuple[JointArray, JointArray, float]]) -> None:
    rig = Rig(at=start)
    state = Setpoint.at_rest(start)
    for place, speed, dt_s in goals:
        dt_s = round(dt_s * 1e9) / 1e9
        state = FOLLOWER.step(state, Setpoint(place, speed, np.zeros(DOF)), dt_s)
        verdict = rig.tick(state, dt_s)
        assert verdict.outcome is Outcome.PASS, verdict.reasons
        assert verdict.command is state


def moving(rig: Rig) -> Setpoint:
    """Get the body to move and return the goal it moves to."""
    goal = Setpoint.at_rest(MIDDLE + 0.09)
    verdict = rig.run(goal, 0.05)
    assert verdict.outcome is Outcome.LIMIT
    assert not verdict.command.is_at_rest
    return goal


def rests(rig: Rig, goal: Setpoint | None, **changes: object) -> bool:
    """Whether the body comes to rest within the time that braking takes."""
    return bool(np.abs(rig.run(goal, 1.0, **changes).command.velocity).max() < 1e-9)


def test_a_goal_out_of_reach_in_one_tick_is_approached_at_the_limits_and_reached() -> None:
    rig = Rig()
    goal = moving(rig)
    verdict = rig.run(goal, 2.0)
    assert verdict.outcome is Outcome.PASS
    np.testing.assert_allclose(verdict.command.position, goal.position, atol=1e-9)


def test_the_reason_of_a_limit_names_the_joint() -> None:
    rig = Rig()
    place = MIDDLE.copy()
    place[3] += 0.05
    (reason,) = rig.tick(Setpoint.at_rest(place)).reasons
    assert str(reason) == "FV-SAF-018: left_j4 is wanted further than it can go in this tick."


def test_a_number_that_is_not_finite_stops_and_stays_stopped() -> None:
    rig = Rig()
    goal = moving(rig)
    spoilt = goal.position.copy()
    spoilt[9] = np.nan
    verdict = rig.tick(Setpoint(spoilt, goal.velocity, goal.acceleration))
    assert verdict.outcome is Outcome.STOP
    assert "FV-SAF-003: right_j3" in str(verdict.reasons[0])
    assert rests(rig, goal)
    assert rig.tick(goal).outcome is Outcome.STOP


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"measured_ns": 0}, "FV-SAF-008"),
        ({"observation_ns": 0}, "FV-SAF-009"),
    ],
)
def test_a_stale_observation_holds_says_so_and_motion_goes_on_when_it_ends(changes: dict[str, int], code: str) -> None:
    rig = Rig()
    goal = moving(rig)
    assert rests(rig, goal, **changes)
    held = rig.tick(goal, **changes)
    assert (held.outcome, held.reasons[0].code) == (Outcome.HOLD, code)
    assert rig.tick(goal).outcome is Outcome.LIMIT
    assert rig.run(goal, 2.0).outcome is Outcome.PASS


def test_a_hold_that_lasts_becomes_a_stop() -> None:
    rig = Rig()
    goal = moving(rig)
    verdict = rig.run(goal, PROFILE.patience_s + 0.1, measured_ns=0)
    assert verdict.outcome is Outcome.STOP
    assert "FV-SAF-013" in str(verdict.reasons[0])
    assert "FV-SAF-008" in str(verdict.reasons[0])


def test_waiting_for_work_is_no_fault_and_may_last() -> None:
    rig = Rig()
    assert rig.run(None, PROFILE.patience_s + 1.0).outcome is Outcome.HOLD


def test_a_first_command_far_from_the_pose_is_refused_until_an_operator_allows_a_slow_approach() -> None:
    rig = Rig()
    goal = Setpoint.at_rest(MIDDLE + 0.4)
    refused = rig.run(goal, PROFILE.patience_s + 0.5)
    assert (refused.outcome, refused.reasons[0].code) == (Outcome.HOLD, "FV-SAF-015")
    assert np.array_equal(refused.command.position, MIDDLE)
    rig.guard.allow_approach()
    fastest = 0.0
    for _ in range(2000):
        verdict = rig.tick(goal)
        if verdict.reasons and verdict.reasons[0].code == "FV-SAF-015":
            assert verdict.outcome is Outcome.LIMIT
            fastest = max(fastest, float((np.abs(verdict.command.velocity) / LIMITS.velocity).max()))
    assert 0.05 < fastest <= PROFILE.approach_share + 1e-9
    assert verdict.outcome is Outcome.PASS


def test_an_arm_that_does_not_follow_stops() -> None:
    rig = Rig()
    goal = moving(rig)
    stuck = rig.measured.copy()
    stuck[0] -= 0.6
    verdict = rig.tick(goal, measured=stuck)
    assert verdict.outcome is Outcome.STOP
    assert "FV-SAF-006: left_j1" in str(verdict.reasons[0])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fault": "joint 3 over-current"}, "FV-SAF-004"),
        ({"measured": np.full(DOF, np.nan)}, "FV-SAF-005"),
        ({"measured": LIMITS.upper + 0.2}, "FV-SAF-007"),
        ({"measured": np.zeros(3)}, "FV-SAF-001"),
    ],
)
def test_a_body_that_is_not_well_stops_in_a_controlled_way(changes: dict[str, object], code: str) -> None:
    rig = Rig()
    goal = moving(rig)
    verdict = rig.tick(goal, **changes)
    assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.STOP, code)
    assert not verdict.command.is_at_rest
    assert rests(rig, goal)


def test_a_clock_that_goes_back_stops() -> None:
    rig = Rig()
    goal = moving(rig)
    assert rig.tick(goal, -0.5).reasons[0].code == "FV-SAF-002"


def test_one_late_tick_makes_no_leap_and_several_hold() -> None:
    rig = Rig()
    goal = moving(rig)
    before = rig.guard.command
    assert before is not None
    late = rig.tick(goal, 0.4)
    assert late.outcome is not Outcome.HOLD
    assert LIMITS.continuous(before, late.command, PROFILE.longest_tick_s).all()
    outcomes = [rig.tick(goal, 0.06).outcome for _ in range(PROFILE.late_ticks)]
    assert outcomes[-1] is Outcome.HOLD


def test_the_body_stops_before_a_wall_it_is_driven_against_and_may_leave_it_again() -> None:
    wall = Wall(2, float(MIDDLE[2]) + 0.05)
    rig = Rig(space=wall)
    into = Setpoint.at_rest(MIDDLE + 0.09)
    highest = -np.inf
    for _ in range(200):
        verdict = rig.tick(into)
        highest = max(highest, float(verdict.command.position[2]))
    assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.HOLD, "FV-SAF-100")
    assert float(MIDDLE[2]) + 0.01 < highest <= wall.highest
    away = rig.run(Setpoint.at_rest(MIDDLE), 2.0)
    assert away.outcome is Outcome.PASS


def test_a_guard_that_fails_inside_stops_and_the_wanted_command_does_not_leave() -> None:
    class Broken:
        def breach(self, path: JointArray) -> Reason | None:
            raise ZeroDivisionError("no such plane")

    rig = Rig(space=Broken())
    verdict = rig.tick(Setpoint.at_rest(MIDDLE + 0.05))
    assert verdict.outcome is Outcome.STOP
    assert "FV-SAF-001" in str(verdict.reasons[0])
    assert "no such plane" in str(verdict.reasons[0])
    assert np.array_equal(verdict.command.position, MIDDLE)


def test_a_guard_whose_brake_fails_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    goal = moving(rig)
    before = rig.guard.command

    def broken(*_: object) -> Setpoint:
        raise RuntimeError("no plan")

    monkeypatch.setattr(Follower, "brake", broken)
    monkeypatch.setattr(Follower, "step", broken)
    verdict = rig.tick(goal)
    assert verdict.outcome is Outcome.STOP
    assert before is not None
    assert np.array_equal(verdict.command.position, before.position)


def test_a_stop_is_taken_back_only_when_the_body_stands_and_is_well() -> None:
    rig = Rig()
    goal = moving(rig)
    rig.guard.stop(Reason("FV-SAF-200", "emergency button"))
    assert rig.tick(goal).outcome is Outcome.STOP
    early = rig.guard.start(rig.seen())
    assert early is not None
    assert early.code == "FV-SAF-010"
    assert rests(rig, goal)
    sick = rig.guard.start(rig.seen(fault="brake"))
    assert sick is not None
    assert rig.guard.latched is not None
    assert rig.guard.start(rig.seen()) is None
    assert rig.guard.latched is None
    assert rig.tick(Setpoint.at_rest(rig.measured)).outcome is Outcome.PASS


def test_nothing_is_commanded_before_the_start() -> None:
    guard = Guard(PROFILE)
    seen = Rig().seen()
    verdict = guard.tick(Setpoint.at_rest(MIDDLE + 0.5), seen)
    assert (verdict.outcome, verdict.reasons[0].code) == (Outcome.STOP, "FV-SAF-011")
    assert np.array_equal(verdict.command.position, seen.measured)


def test_between_ticks_nothing_depends_on_how_often_somebody_looks() -> None:
    ends = []
    for dt_s in (TICK_S, 4 * TICK_S):
        rig = Rig()
        for _ in range(round(3.0 / dt_s)):
            verdict = rig.tick(Setpoint.at_rest(MIDDLE + 0.09), dt_s)
        ends.append(verdict.command.position)
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)
