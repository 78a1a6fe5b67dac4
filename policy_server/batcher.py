"""Continuous batching: when the engine frees, it takes what is queued.

BatchQueue holds every decision and reads no clock of its own, so deadlines, supersession and overload are plain unit
tests. BatchWorker is the thread around it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.clock import Clock, elapsed_s
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.engines.engine import Engine, Tensors

LOG = logging.getLogger(__name__)
RECENT_RUNS = 64
MIN_RUNS_FOR_ESTIMATE = 8


@dataclass(frozen=True, eq=False)
class Rows:
    """The engine's answer to one job.

    Attributes:
        rows: float32[rows, dof] in model units, finite.
        queue_s: seconds the job waited.
        model_s: seconds the engine ran for the whole batch.
        batch_size: jobs in that batch.
    """

    rows: FloatArray
    queue_s: float
    model_s: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class Job:
    """One observation waiting for the engine.

    Attributes:
        inputs: graph inputs without batch axis.
        queued_ns: when it was queued.
        deadline_ns: when the caller gives up, None for never.
        max_age_s: longest useful wait in the queue, 0 for any.
        answer: cancelled by whoever no longer wants it.
    """

    inputs: Tensors
    queued_ns: int
    deadline_ns: int | None = None
    max_age_s: float = 0.0
    answer: Future[Rows] = field(default_factory=Future)


class ModelTimes:
    """Recent run times, for the question whether a job can still make its deadline."""

    def __init__(self) -> None:
        """Start without an opinion."""
        self._recent_s: deque[float] = deque(maxlen=RECENT_RUNS)

    def add(self, duration_s: float) -> None:
        """Remember one run."""
        self._recent_s.append(duration_s)

    def p95_s(self) -> float:
        """Return the 95th percentile of recent runs, 0 while there are too few to judge."""
        if len(self._recent_s) < MIN_RUNS_FOR_ESTIMATE:
            return 0.0
        ordered = sorted(self._recent_s)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]

    def forget_slowest(self) -> None:
        """Drop the slowest run: refusals bring no new measurement, and a stall must not refuse for ever."""
        if self._recent_s:
            self._recent_s.remove(max(self._recent_s))


class BatchQueue:
    """Jobs in order of arrival, with the rules for taking them. Thread-safe."""

    def __init__(self, max_batch: int, max_queue: int) -> None:
        """Limit the batch and the number of waiting jobs."""
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.times = ModelTimes()
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Return how many jobs wait, cancelled ones included until the next batch is formed."""
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            Refusal: QUEUE_FULL, or DRAINING after close().
        """
        with self._changed:
            if self._closed:
                raise Refusal(Reason.DRAINING, "the server is shutting down.")
            if len(self._jobs) >= self.max_queue:
                self._jobs = deque(waiting for waiting in self._jobs if not waiting.answer.cancelled())
            if len(self._jobs) >= self.max_queue:
                raise Refusal(Reason.QUEUE_FULL, f"{self.max_queue} requests wait already.")
            self._jobs.append(job)
            self._changed.notify()

    def form(self, now_ns: int) -> list[Job]:
        """Take the jobs of the next batch; jobs that are too late are refused, cancelled ones vanish."""
        batch: list[Job] = []
        late = False
        with self._changed:
            needed_ns = round(self.times.p95_s() * 1e9)
            while self._jobs and len(batch) < self.max_batch:
                job = self._jobs.popleft()
                if not job.answer.set_running_or_notify_cancel():
                    continue
                refusal = _too_late(job, now_ns, needed_ns)
                if refusal is None:
                    batch.append(job)
                else:
                    late = late or refusal.reason is Reason.WOULD_MISS_DEADLINE
                    job.answer.set_exception(refusal)
            if late and not batch:
                self.times.forget_slowest()
        return batch

    def wait(self) -> bool:
        """Block until a job waits (True) or the queue is closed and empty (False)."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
            return bool(self._jobs)

    def close(self) -> None:
        """Accept nothing more; waiting jobs are still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _too_late(job: Job, now_ns: int, needed_ns: int) -> Refusal | None:
    waited_s = (now_ns - job.queued_ns) / 1e9
    if job.max_age_s and waited_s > job.max_age_s:
        return Refusal(Reason.TOO_OLD, f"it waited {waited_s:.3f} s, max_age_ms allows {job.max_age_s:.3f} s.")
    if job.deadline_ns is not None and now_ns + needed_ns > job.deadline_ns:
        left_s = (job.deadline_ns - now_ns) / 1e9
        return Refusal(
            Reason.WOULD_MISS_DEADLINE, f"{left_s:.3f} s are left and the model needs {needed_ns / 1e9:.3f} s."
        )
    return None


def run_batch(engine: Engine, jobs: Sequence[Job], clock: Clock, formed_ns: int) -> float:
    """Run jobs as one batch, answer each of them, and return the engine's seconds.

    When the batch fails, every job is run alone, so that one bad observation does not hurt its neighbours.
    """
    start_ns = clock.now_ns()
    try:
        rows = _run(engine, jobs)
    except Exception as error:  # noqa: BLE001 - the engine is the edge; the cause travels to each waiting caller.
        if len(jobs) == 1:
            jobs[0].answer.set_exception(error)
        else:
            LOG.warning("a batch of %d failed (%s); running its jobs one by one", len(jobs), type(error).__name__)
            for job in jobs:
                run_batch(engine, [job], clock, formed_ns)
        return elapsed_s(clock, start_ns)
    model_s = elapsed_s(clock, start_ns)
    for job, own in zip(jobs, rows, strict=True):
        if np.isfinite(own).all():
            job.answer.set_result(Rows(own, (formed_ns - job.queued_ns) / 1e9, model_s, len(jobs)))
        else:
            row, joint = (int(i) for i in np.argwhere(~np.isfinite(own))[0])
            message = f"the model gave {own[row, joint]} at row {row}, model dimension {joint}."
            job.answer.set_exception(Refusal(Reason.ACTION_NON_FINITE, message))
    return model_s


def _run(engine: Engine, jobs: Sequence[Job]) -> FloatArray:
    stacked: dict[str, npt.NDArray[np.generic]] = {
        name: np.stack([job.inputs[name] for job in jobs]) for name in jobs[0].inputs
    }
    rows = engine.run(stacked)
    if rows.ndim != 3 or rows.shape[0] != len(jobs):
        raise ValueError(f"the engine answered {rows.shape} to a batch of {len(jobs)}.")
    return rows


class BatchWorker:
    """The one thread that runs an engine."""

    def __init__(self, engine: Engine, queue: BatchQueue, clock: Clock, observe: Callable[[int, float], None]) -> None:
        """Start the thread; ``observe`` is told the size and the seconds of every batch."""
        self.queue = queue
        self._observe = observe
        self._engine = engine
        self._clock = clock
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    @property
    def continues(self) -> bool:
        """Return whether the engine can continue the rows of a chunk before."""
        return self._engine.continues

    def close(self, timeout_s: float) -> None:
        """Finish what is queued and end the thread."""
        self.queue.close()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while self.queue.wait():
            formed_ns = self._clock.now_ns()
            jobs = self.queue.form(formed_ns)
            if jobs:
                model_s = run_batch(self._engine, jobs, self._clock, formed_ns)
                self.queue.times.add(model_s)
                self._observe(len(jobs), model_s)
