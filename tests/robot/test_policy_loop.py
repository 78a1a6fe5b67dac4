"""When the policy is asked: with a controller, a clock and a policy that takes its time."""

from __future__ import annotations

import numpy as np
import pytest

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.executor import Phase
from finevla_runtime.motion.synchroniser import Synchronised
from finevla_runtime.robot.policy_loop import Body, Episode, Health, PolicyLoop, Question
from tests.robot.rig import STEP_S, TICKET, Robot, assert_smooth

TELL = Instruction("use the left arm", InstructionKind.FINE_GRAINED)
PATIENCE_S = 1.0
STATUS_TICKS = 10


class Pipeline:
    """A robot whose policy answers after ``delay_s`` with a slow drift away from what it saw."""

    def __init__(self, execution: Execution, delay_s: float = 0.02, rows: int = 16, continues: bool = False) -> None:
        self.robot = Robot(execution=execution)
        self.loop = PolicyLoop(execution, STEP_S, PATIENCE_S, continues)
        self.delay_s, self.rows = delay_s, rows
        self.fails_until_ns = 0
        self.error = PolicyError("FV-NET-002", "the server is away.")
        self.questions: list[Question] = []
        self.asked_ns: list[int] = []
        self.open: tuple[Question, int] | None = None
        self.body = Body(None, moving=False, rows_left=0, stamp_ns=0)
        self.loop.begin(Episode(TICKET, TELL, 1, self.robot.now_ns))

    def run(self, seconds: float) -> None:
        for index, _ in enumerate(self.robot.ticks(seconds)):
            now_ns = self.robot.now_ns
            if index % STATUS_TICKS == 0:
                state = self.robot.controller.state()
                moving = state.phase in (Phase.MOVING, Phase.APPROACHING)
                self.body = Body(state.ticket, moving, state.rows_left, now_ns)
            if self.open is not None and now_ns >= self.open[1]:
                self._answer(self.open[0], now_ns)
                self.open = None
            # Cameras at 30 Hz.
            capture_ns = now_ns - now_ns % 33_000_000
            seen = Synchronised({}, {}, self.robot.measured, capture_ns)
            question = self.loop.ask(seen, self.body)
            if question is not None:
                assert self.open is None
                self.questions.append(question)
                self.asked_ns.append(now_ns)
                self.open = (question, now_ns + round(self.delay_s * 1e9))

    def _answer(self, question: Question, now_ns: int) -> None:
        if now_ns < self.fails_until_ns:
            self.loop.fail(question, self.error, now_ns)
            return
        seen = question.observation
        ramp = 0.01 * np.arange(1, self.rows + 1)[:, None] * np.ones(DOF)
        rows = (seen.joint_position + ramp).astype(np.float32)
        step, capture_ns = seen.control_step, seen.capture_time_ns
        chunk = ActionChunk(f"chunk {capture_ns}", rows, step, STEP_S, capture_ns, "policy", "1")
        if self.loop.answer(question, chunk, now_ns):
            self.robot.controller.offer(question.ticket, chunk, now_ns)

    def captures_s(self) -> list[float]:
        return [question.observation.capture_time_ns / 1e9 for question in self.questions]


def test_asynchronous_asks_once_per_execution_horizon_and_the_body_never_stops() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    pipeline.run(5.0)
    gaps = np.diff(pipeline.captures_s())
    assert (np.abs(gaps[1:] - 4 * STEP_S) <= 0.035).all()
    assert {command.phase for command in pipeline.robot.commands[100:]} == {Phase.MOVING}
    assert_smooth(pipeline.robot)


def test_synchronous_asks_when_the_body_rests_with_an_observation_from_after_that() -> None:
    pipeline = Pipeline(Execution(Strategy.SYNCHRONOUS, execution_rows=4))
    pipeline.run(6.0)
    assert len(pipeline.questions) >= 5
    for question in pipeline.questions[1:]:
        capture_ns = question.observation.capture_time_ns
        index = (capture_ns - 5_000_000_000) // 5_000_000
        assert pipeline.robot.commands[index].setpoint.is_at_rest
    assert_smooth(pipeline.robot)


def test_slow_answers_make_it_ask_earlier_so_that_rows_do_not_run_out() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=8), delay_s=0.35, rows=9)
    pipeline.run(6.0)
    assert {command.phase for command in pipeline.robot.commands[400:]} == {Phase.MOVING}
    assert pipeline.robot.controller.state().rows_late > 0


def test_one_question_is_open_at_a_time_however_slow_the_answer() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=2), delay_s=0.9)
    pipeline.run(4.0)
    assert (np.diff(pipeline.asked_ns) >= 0.9e9).all()


def test_a_server_away_for_a_moment_is_asked_again_and_for_long_is_lost() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    pipeline.run(1.0)
    pipeline.fails_until_ns = pipeline.robot.now_ns + round(0.5 * PATIENCE_S * 1e9)
    pipeline.run(1.0)
    assert pipeline.loop.health in (Health.ASKING, Health.WAITING)
    assert pipeline.loop.error is None
    pipeline.fails_until_ns = pipeline.robot.now_ns + 10**12
    pipeline.run(3.0)
    assert pipeline.loop.health is Health.LOST
    assert pipeline.loop.error is pipeline.error
    asked = len(pipeline.questions)
    pipeline.run(1.0)
    assert len(pipeline.questions) == asked
    assert pipeline.robot.commands[-1].setpoint.is_at_rest
    assert_smooth(pipeline.robot)


def test_a_server_that_refuses_at_once_is_not_flooded() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4), delay_s=0.0)
    pipeline.fails_until_ns = 10**12
    pipeline.run(0.9 * PATIENCE_S)
    assert 5 <= len(pipeline.questions) <= 10


def test_a_fault_of_the_policy_itself_is_not_asked_again() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    pipeline.error = PolicyError("FV-ACT-003", "a row is not finite.")
    pipeline.fails_until_ns = 10**12
    pipeline.run(1.0)
    assert pipeline.loop.health is Health.FAULTY
    assert len(pipeline.questions) == 1


def test_after_a_hold_only_what_was_seen_after_it_counts() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    pipeline.run(1.0)
    pipeline.robot.heard = False
    pipeline.run(0.3)
    assert pipeline.robot.commands[-1].phase is Phase.HOLDING
    pipeline.robot.heard = True
    pipeline.run(1.0)
    assert pipeline.robot.commands[-1].phase is Phase.MOVING
    assert_smooth(pipeline.robot)


def test_a_changed_instruction_voids_the_open_question() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4), delay_s=0.2)
    pipeline.run(0.1)
    assert pipeline.open is not None
    ticket = Ticket(TICKET.episode_id, 1)
    assert pipeline.robot.controller.begin(ticket, pipeline.robot.now_ns) is None
    pipeline.loop.begin(Episode(ticket, TELL, 1, pipeline.robot.now_ns))
    pipeline.run(0.15)
    assert pipeline.robot.controller.state().accepted == 0
    pipeline.run(0.6)
    assert pipeline.questions[-1].ticket == ticket
    assert pipeline.robot.controller.state().accepted >= 1


def test_outside_of_episodes_nothing_is_asked() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    pipeline.loop.end()
    pipeline.run(1.0)
    assert pipeline.questions == []
    assert pipeline.loop.health is Health.IDLE


def test_the_control_step_counts_from_the_episodes_origin() -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4))
    origin_s = pipeline.robot.now_ns / 1e9
    pipeline.run(2.0)
    steps = [question.observation.control_step for question in pipeline.questions]
    assert steps == [max(0, round((capture - origin_s) / STEP_S)) for capture in pipeline.captures_s()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("continues", [True, False])
def test_rows_not_yet_executed_go_along_where_the_policy_can_continue_them(continues: bool) -> None:
    pipeline = Pipeline(Execution(Strategy.ASYNCHRONOUS, execution_rows=4), continues=continues)
    pipeline.run(2.0)
    prefixes = [question.prefix for question in pipeline.questions]
    assert prefixes[0] is None
    if not continues:
        assert prefixes == [None] * len(prefixes)
        return
    for before, question in zip(pipeline.questions, pipeline.questions[1:], strict=False):
        prefix = question.prefix
        assert prefix is not None
        gone = question.observation.control_step - before.observation.control_step
        assert len(prefix.positions) == 16 - gone
        # Row 0 of the rest is the one that is due at the end of the step of this observation.
        assert prefix.positions[0] == pytest.approx(before.observation.joint_position + 0.01 * (gone + 1), abs=1e-6)
        assert prefix.execution_rows == 4


def test_a_body_at_rest_continues_nothing() -> None:
    pipeline = Pipeline(Execution(Strategy.SYNCHRONOUS, execution_rows=4), continues=True)
    pipeline.run(4.0)
    assert len(pipeline.questions) >= 3
    assert [question.prefix for question in pipeline.questions] == [None] * len(pipeline.questions)
