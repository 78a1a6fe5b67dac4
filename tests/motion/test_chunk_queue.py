"""Only the right chunks move the body, and only their rows that are still to come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.motion.chunk_queue import ChunkQueue, Plan, Refused, Ticket
from finevla_runtime.motion.execution import Execution, Strategy

STEP_S = 0.1
STEP_NS = 100_000_000
TICKET = Ticket("episode", 0)
T0 = 10_000_000_000


def chunk(capture_ns: int, rows: int = 8, base: float = 0.0, name: str = "c", step_s: float = STEP_S) -> ActionChunk:
    """Rows that count up from ``base`` in every joint."""
    positions = np.repeat(base + np.arange(rows, dtype=np.float32)[:, None], DOF, axis=1)
    return ActionChunk(name, positions, 0, step_s, capture_ns, "policy", "1")


def queue(strategy: Strategy = Strategy.ASYNCHRONOUS, **changes: float) -> ChunkQueue:
    made = ChunkQueue(Execution(strategy, execution_rows=4, **changes), STEP_S)
    made.expect(TICKET)
    return made


def planned(found: Plan | Refused) -> Plan:
    assert isinstance(found, Plan), found
    return found


def refused(found: Plan | Refused) -> str:
    assert isinstance(found, Refused)
    assert found.text
    return found.code


def test_a_body_at_rest_executes_a_late_chunk_whole() -> None:
    now_ns = T0 + 5 * STEP_NS
    plan = planned(queue().offer(TICKET, chunk(T0), now_ns, moved_until_ns=None))
    assert plan.begin_ns == now_ns
    assert plan.rows_left(now_ns) == 8


def test_rows_that_a_moving_body_has_passed_are_late_and_dropped() -> None:
    made = queue()
    now_ns = T0 + round(2.5 * STEP_NS)
    plan = planned(made.offer(TICKET, chunk(T0), now_ns, moved_until_ns=now_ns + STEP_NS))
    assert plan.rows_left(now_ns) == 6
    assert made.rows_late == 2


def test_only_the_time_in_motion_consumes_rows() -> None:
    """The motion ended 1 step after the observation; the rest of the time the body stood and waited."""
    now_ns = T0 + 6 * STEP_NS
    plan = planned(queue().offer(TICKET, chunk(T0), now_ns, moved_until_ns=T0 + STEP_NS))
    assert plan.rows_left(now_ns) == 7


def test_a_chunk_whose_rows_are_all_over_is_refused() -> None:
    now_ns = T0 + 4 * STEP_NS
    assert refused(queue().offer(TICKET, chunk(T0, rows=4), now_ns, now_ns + STEP_NS)) == "FV-CHK-006"


@pytest.mark.parametrize(
    ("ticket", "code"),
    [(Ticket("another", 0), "FV-CHK-002"), (Ticket("episode", 1), "FV-CHK-002")],
    ids=["foreign episode", "another instruction"],
)
def test_foreign_chunks_are_refused(ticket: Ticket, code: str) -> None:
    assert refused(queue().offer(ticket, chunk(T0), T0, None)) == code


def test_outside_of_episodes_every_chunk_is_refused() -> None:
    made = queue()
    made.expect(None)
    assert refused(made.offer(TICKET, chunk(T0), T0, None)) == "FV-CHK-001"


def test_duplicate_and_out_of_order_chunks_are_refused_and_counted() -> None:
    made = queue()
    planned(made.offer(TICKET, chunk(T0), T0 + 1, None))
    assert refused(made.offer(TICKET, chunk(T0), T0 + 2, None)) == "FV-CHK-005"
    assert refused(made.offer(TICKET, chunk(T0 - STEP_NS), T0 + 3, None)) == "FV-CHK-005"
    assert made.refused == {"FV-CHK-005": 2}
    assert made.accepted == 1


def test_a_chunk_from_the_future_is_refused() -> None:
    assert refused(queue().offer(TICKET, chunk(T0 + 1), T0, None)) == "FV-CHK-004"


def test_an_old_chunk_is_refused() -> None:
    made = queue(longest_age_s=0.5)
    assert refused(made.offer(TICKET, chunk(T0), T0 + 6 * STEP_NS, None)) == "FV-CHK-007"


def test_an_observation_from_before_a_hold_says_nothing_any_more() -> None:
    made = queue()
    made.flush(T0 + STEP_NS)
    assert refused(made.offer(TICKET, chunk(T0), T0 + 2 * STEP_NS, None)) == "FV-CHK-008"
    planned(made.offer(TICKET, chunk(T0 + STEP_NS), T0 + 2 * STEP_NS, None))


@pytest.mark.parametrize("step_s", [0.02, 0.0, -0.1, float("inf"), float("nan")])
def test_rows_at_another_rate_are_refused(step_s: float) -> None:
    assert refused(queue().offer(TICKET, chunk(T0, step_s=step_s), T0, None)) == "FV-CHK-003"


def test_synchronous_execution_keeps_the_execution_horizon_alone() -> None:
    plan = planned(queue(Strategy.SYNCHRONOUS).offer(TICKET, chunk(T0), T0, None))
    assert len(plan.rows) == 4


def test_a_row_that_two_chunks_predict_is_their_weighted_mean() -> None:
    made = queue(Strategy.ENSEMBLE, ensemble_decay=0.5)
    planned(made.offer(TICKET, chunk(T0), T0, None))
    later = T0 + 2 * STEP_NS
    plan = planned(made.offer(TICKET, chunk(later, base=10.0), later, T0 + 8 * STEP_NS))
    old, new, weight = np.arange(2.0, 8.0), np.arange(10.0, 16.0), np.exp(-0.5)
    assert plan.rows[:6, 0] == pytest.approx((old + weight * new) / (1 + weight))
    # Nobody but the new chunk predicts the last rows.
    assert plan.rows[6:, 0] == pytest.approx([16.0, 17.0])


@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(0, 5)), max_size=30), st.sampled_from(list(Strategy)))
def test_whatever_comes_in_whatever_order_only_newer_observations_are_admitted(
    arrivals: list[tuple[int, int]], strategy: Strategy
) -> None:
    made, newest, now_ns = queue(strategy), -1, T0
    for offset, wait in arrivals:
        now_ns += wait * STEP_NS // 2
        capture_ns = now_ns + offset * STEP_NS // 10
        found = made.offer(TICKET, chunk(capture_ns), now_ns, now_ns + STEP_NS)
        if isinstance(found, Plan):
            assert newest < capture_ns <= now_ns
            assert found.rows_left(now_ns) >= 1
            assert found.begin_ns <= now_ns
            newest = capture_ns
    assert made.accepted + sum(made.refused.values()) == len(arrivals)
