"""Which chunks may move the body, and which of their rows are still to come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.setpoint import JointArray

# Shares of a step that rounding of stamps may cost.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Ticket:
    """What a chunk must carry to be executed: the episode, and the instruction's count within it."""

    episode_id: str
    epoch: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows to follow.

    Attributes:
        begin_ns: the instant one step before the first row is due.
        step_ns: nanoseconds between rows.
        rows: float64[n, 14], in the project's layout; row i is due at ``begin_ns + (i + 1) * step_ns``.
        capture_ns: when the newest observation behind these rows was taken.
        chunk_id: of the newest chunk.
    """

    begin_ns: int
    step_ns: int
    rows: JointArray
    capture_ns: int
    chunk_id: str

    @property
    def due_ns(self) -> npt.NDArray[np.int64]:
        """Return int64[n], when each row is due."""
        return self.begin_ns + self.step_ns * np.arange(1, len(self.rows) + 1, dtype=np.int64)

    @property
    def end_ns(self) -> int:
        """Return when the last row is due."""
        return self.begin_ns + self.step_ns * len(self.rows)

    def rows_left(self, now_ns: int) -> int:
        """Return how many rows are still to come."""
        left = -(-(self.end_ns - now_ns) // self.step_ns)
        return int(np.clip(left, 0, len(self.rows)))


@dataclass(frozen=True)
class Refused:
    """Why a chunk does not move the body; ``code`` is ``FV-CHK-<NNN>``."""

    code: str
    text: str


class ChunkQueue:
    """Admits chunks in order of their observations and merges those that overlap.

    A chunk's rows belong to the control steps after its observation. Those that the body has moved through since are
    late and dropped; time in which it stood still consumes nothing, so a body at rest executes a late chunk whole.
    """

    def __init__(self, execution: Execution, step_s: float) -> None:
        """Prepare a queue that admits nothing yet."""
        self._execution = execution
        self._step_ns = round(step_s * 1e9)
        self._ticket: Ticket | None = None
        self._chunks: list[Plan] = []
        self._newest_ns = 0
        self._not_before_ns = 0
        self.accepted = 0
        self.rows_late = 0
        self.refused: Counter[str] = Counter()

    def expect(self, ticket: Ticket | None) -> None:
        """Admit chunks of this episode and instruction alone from now on, and drop all rows; None admits none."""
        self._ticket = ticket
        self._chunks = []
        self._newest_ns = 0

    def flush(self, now_ns: int) -> None:
        """Drop all rows; chunks whose observation is older than now are no longer admitted.

        After a hold the body is elsewhere than those observations say.
        """
        self._chunks = []
        self._not_before_ns = now_ns

    def offer(self, ticket: Ticket, chunk: ActionChunk, now_ns: int, moved_until_ns: int | None) -> Plan | Refused:
        """Admit a chunk and return the rows to follow, or say why it is refused.

        Args:
            ticket: what the chunk carries.
            chunk: its rows.
            now_ns: the robot's monotonic clock.
            moved_until_ns: when the present motion ends or ended; None when nothing moves.
        """
        refusal = self._refusal(ticket, chunk, now_ns)
        if refusal is None:
            plan = self._placed(chunk, now_ns, moved_until_ns)
            late = max(0, (now_ns - plan.begin_ns) // self._step_ns)
            if late < len(plan.rows):
                self._newest_ns = chunk.capture_time_ns
                self.accepted += 1
                self.rows_late += late
                return self._merged(plan, now_ns)
            age_s = (now_ns - chunk.capture_time_ns) / 1e9
            refusal = Refused(
                "FV-CHK-006", f"chunk {chunk.chunk_id}: all {chunk.rows} rows are over; it is {age_s:.2f} s old."
            )
        self.refused[refusal.code] += 1
        return refusal

    def _refusal(self, ticket: Ticket, chunk: ActionChunk, now_ns: int) -> Refused | None:
        name, age_s = f"chunk {chunk.chunk_id}", (now_ns - chunk.capture_time_ns) / 1e9
        if self._ticket is None:
            return Refused("FV-CHK-001", f"{name}: no episode is running.")
        if ticket != self._ticket:
            return Refused(
                "FV-CHK-002",
                f"{name} belongs to episode {ticket.episode_id!r}, instruction {ticket.epoch}; this is "
                f"{self._ticket.episode_id!r}, instruction {self._ticket.epoch}.",
            )
        # Asked this way round, since comparisons with NaN are false.
        if not abs(chunk.step_s * 1e9 - self._step_ns) <= _ROUNDING * self._step_ns:
            return Refused(
                "FV-CHK-003", f"{name} has rows {chunk.step_s:g} s apart, the body wants {self._step_ns / 1e9:g} s."
            )
        if chunk.capture_time_ns > now_ns:
            return Refused("FV-CHK-004", f"{name} answers an observation {-age_s:.3f} s in the future: another clock?")
        if chunk.capture_time_ns <= self._newest_ns:
            return Refused("FV-CHK-005", f"{name} is out of order: a newer observation was answered before it.")
        if age_s > self._execution.longest_age_s:
            limit = self._execution.longest_age_s
            return Refused("FV-CHK-007", f"{name}: its observation is {age_s:.2f} s old, at most {limit:g} s.")
        if chunk.capture_time_ns < self._not_before_ns:
            return Refused("FV-CHK-008", f"{name} answers an observation from before the last hold.")
        return None

    def _placed(self, chunk: ActionChunk, now_ns: int, moved_until_ns: int | None) -> Plan:
        moved_ns = 0 if moved_until_ns is None else max(0, min(now_ns, moved_until_ns) - chunk.capture_time_ns)
        rows = chunk.positions.astype(np.float64)
        if self._execution.strategy is Strategy.SYNCHRONOUS:
            rows = rows[: self._execution.execution_rows]
        return Plan(now_ns - moved_ns, self._step_ns, rows, chunk.capture_time_ns, chunk.chunk_id)

    def _merged(self, plan: Plan, now_ns: int) -> Plan:
        """Return the plan with every row averaged over the chunks that predict it."""
        if self._execution.strategy is not Strategy.ENSEMBLE:
            return plan
        self._chunks = [*(old for old in self._chunks if old.end_ns > now_ns and old.begin_ns <= plan.begin_ns), plan]
        total, weights = np.zeros((len(plan.rows), DOF)), np.zeros((len(plan.rows), 1))
        for age, old in enumerate(self._chunks):
            shift = round((plan.begin_ns - old.begin_ns) / self._step_ns)
            weight = np.exp(-self._execution.ensemble_decay * age)
            rows = old.rows[shift : shift + len(plan.rows)]
            total[: len(rows)] += weight * rows
            weights[: len(rows)] += weight
        return Plan(plan.begin_ns, plan.step_ns, total / weights, plan.capture_ns, plan.chunk_id)
