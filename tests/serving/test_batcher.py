from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.batcher import MIN_RUNS_FOR_ESTIMATE, BatchQueue, Job, Rows, run_batch
from tests.serving.engines import FirstPixelEngine

S = 1_000_000_000


def job(pixel: int = 0, queued_ns: int = 0, deadline_ns: int | None = None, max_age_s: float = 0.0) -> Job:
    return Job({"image.cam_high": np.full((2, 2, 3), pixel, np.uint8)}, queued_ns, deadline_ns, max_age_s)


def reason_of(answer: Future[Rows]) -> Reason:
    error = answer.exception(timeout=0)
    assert isinstance(error, Refusal)
    return error.reason


def test_a_batch_takes_what_is_queued_in_order_up_to_its_limit() -> None:
    queue = BatchQueue(max_batch=3, max_queue=10)
    jobs = [job() for _ in range(5)]
    for one in jobs:
        queue.submit(one)
    assert queue.form(0) == jobs[:3]
    assert queue.form(0) == jobs[3:]
    assert queue.form(0) == []


def test_a_full_queue_refuses_at_once_and_cancelled_jobs_make_room() -> None:
    queue = BatchQueue(max_batch=1, max_queue=2)
    first, second = job(), job()
    queue.submit(first)
    queue.submit(second)
    with pytest.raises(Refusal) as caught:
        queue.submit(job())
    assert caught.value.reason is Reason.QUEUE_FULL
    first.answer.cancel()
    third = job()
    queue.submit(third)
    assert queue.form(0) == [second]
    assert queue.form(0) == [third]


def test_a_job_past_its_deadline_never_reaches_the_model() -> None:
    queue = BatchQueue(max_batch=4, max_queue=4)
    late, fine = job(deadline_ns=1 * S), job(deadline_ns=3 * S)
    queue.submit(late)
    queue.submit(fine)
    assert queue.form(2 * S) == [fine]
    assert reason_of(late.answer) is Reason.WOULD_MISS_DEADLINE


def test_a_job_that_recent_runs_cannot_make_is_refused_before_the_model_runs() -> None:
    queue = BatchQueue(max_batch=4, max_queue=4)
    for _ in range(MIN_RUNS_FOR_ESTIMATE):
        queue.times.add(0.5)
    tight, wide = job(deadline_ns=S // 4), job(deadline_ns=S)
    queue.submit(tight)
    queue.submit(wide)
    assert queue.form(0) == [wide]
    assert reason_of(tight.answer) is Reason.WOULD_MISS_DEADLINE


def test_one_stall_of_the_model_does_not_refuse_for_ever() -> None:
    queue = BatchQueue(max_batch=1, max_queue=4)
    for _ in range(MIN_RUNS_FOR_ESTIMATE):
        queue.times.add(9.0)
    for _ in range(MIN_RUNS_FOR_ESTIMATE):
        queue.submit(job(deadline_ns=S))
        if queue.form(0):
            return
    pytest.fail("every job was refused.")


def test_a_job_that_waited_longer_than_its_observation_is_useful_is_dropped() -> None:
    queue = BatchQueue(max_batch=4, max_queue=4)
    old = job(queued_ns=0, max_age_s=0.1)
    queue.submit(old)
    assert queue.form(S) == []
    assert reason_of(old.answer) is Reason.TOO_OLD


def test_after_close_waiting_jobs_are_answered_and_new_ones_refused() -> None:
    queue = BatchQueue(max_batch=4, max_queue=4)
    waiting = job()
    queue.submit(waiting)
    queue.close()
    with pytest.raises(Refusal) as caught:
        queue.submit(job())
    assert caught.value.reason is Reason.DRAINING
    assert queue.wait()
    assert queue.form(0) == [waiting]
    assert not queue.wait()


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=12))
def test_a_bad_observation_never_changes_its_neighbours_answers(pixels: list[int]) -> None:
    jobs = [job(pixel) for pixel in pixels]
    queue = BatchQueue(max_batch=12, max_queue=12)
    for one in jobs:
        queue.submit(one)
    run_batch(FirstPixelEngine(), queue.form(0), ManualClock(), 0)
    for pixel, one in zip(pixels, jobs, strict=True):
        if pixel == 255:
            assert isinstance(one.answer.exception(timeout=0), RuntimeError)
        elif pixel == 254:
            assert reason_of(one.answer) is Reason.ACTION_NON_FINITE
        else:
            assert one.answer.result(timeout=0).rows[0, 0] == np.float32(pixel) / 255


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.none() | st.integers(0, 4)), max_size=20), st.integers(1, 5))
def test_every_job_is_answered_exactly_once(jobs: list[tuple[bool, int | None]], max_batch: int) -> None:
    queue = BatchQueue(max_batch, max_queue=20)
    clock = ManualClock()
    made = [job(deadline_ns=None if deadline is None else deadline * S) for _, deadline in jobs]
    for one, (cancelled, _) in zip(made, jobs, strict=True):
        queue.submit(one)
        if cancelled:
            one.answer.cancel()
    while len(queue):
        run = queue.form(clock.now_ns())
        assert len(run) <= max_batch
        if run:
            run_batch(FirstPixelEngine(), run, clock, clock.now_ns())
        clock.advance_s(1.0)
    assert all(one.answer.done() for one in made)
