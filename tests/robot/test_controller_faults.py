"""What goes wrong in front of a robot, and what the controller promises then (docs/robot.md lists the same rows)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.executor import Phase
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.verdict import Outcome, Reason
from tests.robot.rig import EXECUTION, STEP_S, TICK_S, TICKET, Robot, assert_smooth
from tests.safety.situations import MIDDLE, PROFILE, Wall


def codes(robot: Robot) -> set[str]:
    return {reason.code for reason in robot.controller.state().reasons}


def test_a_chunk_moves_the_body_to_its_last_row() -> None:
    robot = Robot()
    chunk = robot.chunk(rows=8, rate=0.05)
    assert robot.offer(chunk) is None
    command = robot.run(0.95)
    assert command.verdict.outcome is Outcome.PASS
    assert command.setpoint.position == pytest.approx(chunk.positions[-1], abs=1e-6)
    assert_smooth(robot)


def test_server_dies_mid_chunk_finishes_the_valid_part_then_brakes_and_holds() -> None:
    robot = Robot(profile=replace(PROFILE, observation_age_s=0.5))
    robot.offer(robot.chunk(rows=16, rate=0.3))
    moving = robot.run(0.45)
    assert moving.phase is Phase.MOVING
    robot.run(0.4)
    standing = robot.run(0.3)
    assert standing.phase is Phase.HOLDING
    assert standing.setpoint.is_at_rest
    assert codes(robot) == {"FV-SAF-009"}
    assert_smooth(robot)
    # Nothing latches: when the server is back, a fresh chunk moves on.
    assert robot.controller.guard.latched is None
    assert robot.offer(robot.chunk(rate=0.1)) is None
    assert robot.run(0.1).phase is Phase.MOVING


@settings(max_examples=20)
@given(st.floats(0.0, 3.0), st.floats(-0.3, 0.3))
def test_slow_server_holds_and_goes_on_without_a_jump(delay_s: float, rate: float) -> None:
    robot = Robot(execution=replace(EXECUTION, longest_age_s=5.0), profile=replace(PROFILE, observation_age_s=0.7))
    robot.offer(robot.chunk(rows=6, rate=rate))
    asked = robot.chunk(rows=8, rate=rate)
    robot.run(delay_s)
    refused = robot.offer(replace(asked, capture_time_ns=asked.capture_time_ns + 1, chunk_id="late"))
    if delay_s > 0.8:
        # The body has held since that observation, which says nothing any more.
        assert refused is not None
        assert refused.code in ("FV-CHK-008", "FV-CHK-006")
    robot.run(0.1)
    robot.offer(robot.chunk(rows=8, rate=rate))
    robot.run(0.3)
    assert_smooth(robot)


def test_late_rows_are_dropped_and_counted() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.2))
    late = robot.chunk(rate=0.2)
    robot.run(0.33)
    robot.offer(replace(late, capture_time_ns=late.capture_time_ns + 1))
    assert robot.controller.state().rows_late == 3
    assert_smooth(robot)


def test_stale_joint_feedback_holds_and_stops_when_it_lasts() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.2))
    robot.run(0.2)
    robot.heard = False
    robot.run(0.5)
    assert robot.commands[-1].phase is Phase.HOLDING
    assert robot.commands[-1].setpoint.is_at_rest
    assert codes(robot) == {"FV-SAF-008"}
    assert robot.run(PROFILE.patience_s).phase is Phase.STOPPED
    assert_smooth(robot)


def test_not_finite_feedback_stops() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.2))
    robot.run(0.2)
    robot.measured, robot.follows = robot.measured.copy(), False
    robot.measured[9] = np.nan
    command = robot.run(0.5)
    assert command.phase is Phase.STOPPED
    assert command.setpoint.is_at_rest
    [reason] = command.reasons
    assert reason.code == "FV-SAF-005"
    assert "right_j3" in reason.text
    assert_smooth(robot)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_chunk_with_a_value_that_is_not_finite_cannot_even_be_made(value: float) -> None:
    positions = np.zeros((8, DOF), dtype=np.float32)
    positions[3, 5] = value
    with pytest.raises(PolicyError, match="FV-ACT-003"):
        ActionChunk("c", positions, 0, STEP_S, 0, "policy", "1")


def test_first_command_far_from_the_body_is_refused_until_an_operator_allows_a_slow_approach() -> None:
    robot = Robot()
    robot.offer(robot.chunk(away=0.4, rate=0.0))
    robot.run(1.0)
    assert robot.path() == pytest.approx(np.tile(MIDDLE, (200, 1)))
    assert codes(robot) == {"FV-SAF-015"}
    robot.controller.allow_approach()
    goal = robot.chunk(away=0.4, rate=0.0)
    assert robot.offer(goal) is None
    phases = [command.phase for command in robot.ticks(12.0)]
    assert phases[0] is Phase.APPROACHING
    assert phases[-1] is Phase.WAITING
    assert robot.measured == pytest.approx(goal.positions[0], abs=1e-6)
    # Up to the start tolerance the approach is slow; the last bit is an ordinary motion.
    approaching = np.array([c.setpoint.position for c in robot.commands if c.phase is Phase.APPROACHING])
    far = np.abs(approaching - goal.positions[0]).max(axis=1) > PROFILE.start.max() + 0.01
    slow = np.abs(np.diff(approaching[far], axis=0)).max(axis=0) / TICK_S
    assert (slow <= PROFILE.approach_share * PROFILE.limits.velocity * (1 + 1e-6)).all()
    assert_smooth(robot)
    # The consent was for one approach.
    robot.offer(robot.chunk(away=0.4, rate=0.0))
    assert robot.run(0.1).phase is Phase.HOLDING


def test_consent_to_an_approach_ends_with_its_episode() -> None:
    robot = Robot()
    robot.controller.allow_approach()
    robot.controller.end()
    assert robot.controller.begin(Ticket("next", 0), robot.now_ns) is None
    robot.offer(robot.chunk(away=0.4, rate=0.0), Ticket("next", 0))
    assert robot.run(0.1).phase is Phase.HOLDING
    assert codes(robot) == {"FV-SAF-015"}


@settings(max_examples=20)
@given(st.sampled_from([0.0, 0.02, 0.1, 0.3]), st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=6))
def test_seams_between_chunks_are_smooth_whatever_the_chunks_say(blend_s: float, jumps: list[float]) -> None:
    robot = Robot(execution=replace(EXECUTION, blend_s=blend_s))
    for jump in jumps:
        robot.offer(robot.chunk(rate=0.2, away=jump / 4 if not robot.commands else jump))
        robot.run(0.25)
    assert_smooth(robot)


def test_the_jump_at_a_seam_is_recorded() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.0))
    robot.run(0.3)
    robot.offer(robot.chunk(rate=0.0, away=0.05))
    robot.run(0.3)
    assert robot.controller.state().largest_seam == pytest.approx(0.0, abs=1e-6)
    robot.offer(robot.chunk(rate=0.0, age_s=0.15, away=0.08))
    assert 0.02 < robot.controller.state().largest_seam < 0.12


def test_a_wall_is_never_touched_and_the_hold_names_it() -> None:
    highest = float(MIDDLE[3]) + 0.15
    robot = Robot(space=Wall(3, highest))
    robot.offer(robot.chunk(rows=16, rate=0.5))
    robot.run(0.9)
    assert robot.path()[:, 3].max() <= highest
    assert codes(robot) == {"FV-SAF-100"}


def test_a_policy_that_wants_through_the_wall_again_and_again_is_stopped() -> None:
    highest = float(MIDDLE[3]) + 0.15
    robot = Robot(space=Wall(3, highest))
    for command in robot.ticks(3.0 * PROFILE.patience_s):
        if command.phase in (Phase.WAITING, Phase.HOLDING):
            robot.offer(robot.chunk(rows=16, rate=0.5))
    assert robot.commands[-1].phase is Phase.STOPPED
    assert codes(robot) == {"FV-SAF-013"}
    assert robot.path()[:, 3].max() <= highest
    assert_smooth(robot)


def test_consent_before_an_episode_is_none_within_it() -> None:
    robot = Robot()
    robot.controller.allow_approach()
    assert robot.controller.begin(Ticket("next", 0), robot.now_ns) is None
    robot.offer(robot.chunk(away=0.4, rate=0.0), Ticket("next", 0))
    assert robot.run(0.1).phase is Phase.HOLDING


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_foreign_duplicate_and_shuffled_chunks_never_disturb_the_motion(random: object) -> None:
    robot = Robot()
    tickets = (TICKET, Ticket("other", 0), Ticket("episode", 7))
    for _ in range(12):
        chunk = robot.chunk(rate=0.2, age_s=random.choice([0.0, 0.05, 0.3]))  # type: ignore[attr-defined]
        for ticket in random.sample(tickets, 3):  # type: ignore[attr-defined]
            robot.offer(chunk, ticket)
        robot.run(0.1)
    state = robot.controller.state()
    assert state.refused["FV-CHK-002"] == 24
    assert_smooth(robot)


def test_a_clock_that_goes_back_stops() -> None:
    robot = Robot()
    robot.offer()
    robot.run(0.1)
    assert robot.tick(-1.0).phase is Phase.STOPPED
    assert codes(robot) == {"FV-SAF-002"}


def test_a_chunk_stamped_by_another_clock_is_refused() -> None:
    robot = Robot()
    refused = robot.offer(robot.chunk(age_s=-3600.0))
    assert refused is not None
    assert refused.code == "FV-CHK-004"


def test_overruns_are_counted_and_hold_when_they_go_on() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.1))
    robot.run(0.1)
    for _ in range(PROFILE.late_ticks + 1):
        command = robot.tick(2 * PROFILE.longest_tick_s)
    assert command.phase is Phase.HOLDING
    assert codes(robot) == {"FV-SAF-014"}
    assert robot.controller.state().lateness.missed >= 19 * PROFILE.late_ticks


def test_a_guard_that_raises_is_a_stop_and_stays_one() -> None:
    class Broken:
        def breach(self, path: JointArray) -> Reason | None:
            raise ValueError("no geometry")

    robot = Robot(space=Broken())
    robot.offer()
    command = robot.run(0.5)
    assert command.phase is Phase.STOPPED
    assert command.setpoint.position == pytest.approx(MIDDLE)
    refused = robot.offer()
    assert refused is not None
    assert refused.code == "FV-CHK-009"


def test_operator_gone_holds_within_the_time_and_resumes_only_when_begun_again() -> None:
    robot = Robot(deadman_s=0.2)
    robot.offer(robot.chunk(rate=0.2))
    for _ in range(40):
        robot.controller.operator_is_there(robot.now_ns)
        robot.tick()
    assert robot.commands[-1].phase is Phase.MOVING
    robot.run(0.21)
    assert robot.commands[-1].phase is Phase.WAITING
    robot.run(0.4)
    assert robot.commands[-1].setpoint.is_at_rest
    assert codes(robot) == {"FV-SAF-021"}
    robot.controller.operator_is_there(robot.now_ns)
    assert robot.offer() is not None
    assert robot.controller.begin(TICKET, robot.now_ns) is None
    assert robot.offer() is None
    assert_smooth(robot)


def test_a_session_that_is_gone_ends_its_episode_and_its_return_alone_moves_nothing() -> None:
    robot = Robot(session_s=0.3)
    for _ in range(120):
        robot.controller.session_is_there(robot.now_ns)
        if not len(robot.commands) % 40:
            robot.offer(robot.chunk(rate=0.1))
        robot.tick()
    assert robot.commands[-1].phase is Phase.MOVING
    robot.run(0.31)
    assert robot.run(0.4).setpoint.is_at_rest
    assert codes(robot) == {"FV-SAF-025"}
    robot.controller.session_is_there(robot.now_ns)
    assert robot.offer() is not None
    assert_smooth(robot)


def test_arm_status_that_is_not_ok_stops_and_names_the_arm() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.2))
    robot.run(0.2)
    robot.controller.arm_fault(1, "code 7, collision")
    assert robot.run(0.4).phase is Phase.STOPPED
    [reason] = robot.controller.state().reasons
    assert reason.code == "FV-SAF-004"
    assert "right arm: code 7, collision" in reason.text
    # The fault is still there, so it cannot be reset.
    assert robot.controller.start(robot.now_ns) is not None
    robot.controller.arm_fault(1, "")
    assert robot.controller.start(robot.now_ns) is None


def test_stop_brakes_within_the_limits_stays_latched_and_begins_where_the_body_stands() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.3))
    robot.run(0.4)
    robot.controller.stop(Reason("FV-SAF-022", "stop was pressed."))
    robot.run(0.5)
    stood = robot.measured.copy()
    assert robot.commands[-1].setpoint.is_at_rest
    assert robot.controller.begin(TICKET, robot.now_ns) is not None
    assert robot.controller.start(robot.now_ns) is None
    assert robot.controller.begin(TICKET, robot.now_ns) is None
    robot.run(0.2)
    assert robot.measured == pytest.approx(stood)
    assert_smooth(robot)


def test_a_changed_instruction_drops_what_the_old_one_wanted() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.3))
    robot.run(0.3)
    assert robot.controller.begin(Ticket("episode", 1), robot.now_ns) is None
    refused = robot.offer()
    assert refused is not None
    assert refused.code == "FV-CHK-002"
    assert robot.run(0.5).phase is Phase.WAITING
    assert robot.offer(ticket=Ticket("episode", 1)) is None
    assert robot.run(0.1).phase is Phase.MOVING
    assert_smooth(robot)


def test_synchronous_execution_stands_still_between_chunks() -> None:
    robot = Robot(execution=Execution(Strategy.SYNCHRONOUS, execution_rows=4))
    chunk = robot.chunk(rate=0.05)
    robot.offer(chunk)
    command = robot.run(0.6)
    assert command.phase is Phase.WAITING
    assert command.rows_left == 0
    assert command.setpoint.position == pytest.approx(chunk.positions[3], abs=1e-6)
    assert_smooth(robot)


def test_silence_of_an_arm_is_no_start() -> None:
    robot = Robot()
    fresh = type(robot.controller)(PROFILE, EXECUTION, STEP_S, TICK_S)
    fresh.feedback(0, MIDDLE[:7], robot.now_ns)
    problem = fresh.start(robot.now_ns)
    assert problem is not None
    assert "right arm" in problem.text
    assert fresh.tick(robot.now_ns) is None


def test_an_emergency_button_stops_and_nothing_starts_before_it_is_released() -> None:
    robot = Robot()
    robot.offer(robot.chunk(rate=0.3))
    robot.run(0.4)
    robot.controller.emergency_button(True)
    assert robot.run(0.5).phase is Phase.STOPPED
    assert codes(robot) == {"FV-SAF-022"}
    refused = robot.controller.start(robot.now_ns)
    assert refused is not None
    assert refused.code == "FV-SAF-024"
    # Releasing it starts nothing by itself.
    robot.controller.emergency_button(False)
    assert robot.run(0.1).phase is Phase.STOPPED
    assert robot.controller.start(robot.now_ns) is None
    assert_smooth(robot)
