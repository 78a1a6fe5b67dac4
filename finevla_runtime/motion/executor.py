"""The executor: action chunks in, one guarded command per tick out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.motion.chunk_queue import ChunkQueue, Plan, Refused, Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.latency import Latency
from finevla_runtime.motion.path import Fade, Path, prepare
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.guard import Guard, Situation
from finevla_runtime.safety.verdict import Outcome, Reason, Verdict

# A blend takes at most so many times the time that was asked for: what it leaves is lag.
LONGEST_BLEND = 3.0


class Phase(str, Enum):
    """What the executor is doing."""

    WAITING = "waiting"
    MOVING = "moving"
    APPROACHING = "approaching"
    HOLDING = "holding"
    STOPPED = "stopped"


@dataclass(frozen=True, eq=False)
class Command:
    """What to send to the body at one tick, and how it came about.

    Attributes:
        setpoint: to send.
        verdict: of the guard; its command is the setpoint.
        phase: what the executor does.
        reasons: why it does not follow the plan; those of a hold stay until the next motion, so that people see them.
        rows_left: rows of the present plan that are still to come.
        chunk_id: newest chunk in the plan, empty without one.
        chunk_age_s: since its observation; 0 without one.
    """

    setpoint: Setpoint
    verdict: Verdict
    phase: Phase
    reasons: tuple[Reason, ...]
    rows_left: int
    chunk_id: str
    chunk_age_s: float


class Executor:
    """Follows plans through a guard; it never commands what the guard has not passed.

    A hold or stop drops the plan: when the reason ends, the body stands elsewhere than the plan knew, and the policy
    must see that first.
    """

    def __init__(self, guard: Guard, execution: Execution, step_s: float) -> None:
        """Prepare an executor on a guard that its owner starts and stops."""
        prepare()
        self.queue = ChunkQueue(execution, step_s)
        self.latency = Latency()
        self.largest_seam = 0.0
        self._guard = guard
        self._execution = execution
        self._plan: Plan | None = None
        self._path: Path | None = None
        self._fade: Fade | None = None
        self._far: Setpoint | None = None
        self._held: tuple[Reason, ...] = ()

    def expect(self, ticket: Ticket | None) -> None:
        """Follow chunks of this episode and instruction alone; what is left of others is dropped, the body brakes."""
        self.queue.expect(ticket)
        self.latency.restart()
        self._held = ()
        self._drop()

    def offer(self, ticket: Ticket, chunk: ActionChunk, now_ns: int) -> Refused | None:
        """Take a chunk into the plan, or return why not."""
        before = self._guard.command
        if before is None or self._guard.latched is not None:
            self.queue.refused["FV-CHK-009"] += 1
            return Refused("FV-CHK-009", f"chunk {chunk.chunk_id}: the guard is stopped or was not started.")
        found = self.queue.offer(ticket, chunk, now_ns, self._path.end_ns if self._path is not None else None)
        if isinstance(found, Refused):
            return found
        self.latency.add((now_ns - chunk.capture_time_ns) / 1e9)
        self._plan = found
        if self._path is None:
            self._begin(found, before, now_ns)
        else:
            self._go_over(found, self._path, before, now_ns)
        return None

    def tick(self, seen: Situation) -> Command:
        """Return the command for now.

        Args:
            seen: what is known; ``observation_ns`` is filled in here.
        """
        now_ns, plan = seen.now_ns, self._plan
        wanted = self._wanted(now_ns)
        capture_ns = plan.capture_ns if plan is not None and self._path is not None else None
        told = Situation(now_ns, seen.measured, seen.measured_ns, capture_ns, seen.fault)
        verdict = self._guard.tick(wanted, told)
        phase = self._phase(verdict, wanted)
        command = Command(
            setpoint=verdict.command,
            verdict=verdict,
            phase=phase,
            reasons=self._held if phase is Phase.HOLDING and wanted is None else verdict.reasons,
            rows_left=plan.rows_left(now_ns) if plan is not None else 0,
            chunk_id=plan.chunk_id if plan is not None else "",
            chunk_age_s=(now_ns - plan.capture_ns) / 1e9 if plan is not None else 0.0,
        )
        self._after(verdict, wanted, now_ns)
        return command

    def _begin(self, plan: Plan, before: Setpoint, now_ns: int) -> None:
        """Start to move from rest, or first go to where the plan begins when that is too far to go unasked."""
        target = plan.rows[0]
        if (np.abs(target - before.position) <= self._guard.profile.start).all():
            self._far = None
            self._follow(Path(plan, before), before, now_ns)
        else:
            self._far = Setpoint.at_rest(target)

    def _go_over(self, plan: Plan, old: Path, before: Setpoint, now_ns: int) -> None:
        """Turn from the old path to the new one."""
        seam = self._follow(Path(plan, old.at(plan.begin_ns)), before, now_ns)
        self.largest_seam = max(self.largest_seam, float(np.abs(seam).max()))

    def _follow(self, path: Path, before: Setpoint, now_ns: int) -> JointArray:
        """Follow a path from the present command on, without a step in position, velocity or acceleration.

        Returns:
            float64[14], the step in position that there would have been.
        """
        here, blend_s = path.at(now_ns), self._execution.blend_s
        self._path = path
        if blend_s > 0.0:
            # A blend that asks for more than the limits is cut by the guard: it ends late and beyond its end, and where
            # chunks come often each of these errors feeds the next.
            gentle_s = Fade.gentle_s(before, here, self._guard.profile.limits)
            blend_s = min(max(blend_s, gentle_s), LONGEST_BLEND * blend_s)
        self._fade = Fade.between(before, here, now_ns, blend_s) if blend_s > 0.0 else None
        return before.position - here.position

    def _wanted(self, now_ns: int) -> Setpoint | None:
        if self._far is not None:
            return self._far
        if self._path is None:
            return None
        point = self._path.at(now_ns)
        left = self._fade.at(now_ns) if self._fade is not None else None
        if left is None:
            self._fade = None
            return point
        return Setpoint(
            point.position + left.position,
            point.velocity + left.velocity,
            point.acceleration + left.acceleration,
        )

    def _phase(self, verdict: Verdict, wanted: Setpoint | None) -> Phase:
        if verdict.outcome is Outcome.STOP:
            return Phase.STOPPED
        if verdict.outcome is Outcome.HOLD:
            return Phase.HOLDING if self._held or wanted is not None else Phase.WAITING
        self._held = ()
        return Phase.APPROACHING if self._far is not None else Phase.MOVING

    def _after(self, verdict: Verdict, wanted: Setpoint | None, now_ns: int) -> None:
        """Drop a plan that was not followed to its end, and one that was."""
        if verdict.outcome is Outcome.STOP or (verdict.outcome is Outcome.HOLD and wanted is not None):
            self._held = verdict.reasons
            self._drop()
            self.queue.flush(now_ns)
        elif self._far is not None and verdict.outcome is Outcome.PASS:
            # The approach is over; what comes next is asked for from here.
            self._drop()
            self.queue.flush(now_ns)
        elif self._execution.strategy is Strategy.SYNCHRONOUS and self._finished(verdict, now_ns):
            self._drop()
            self.queue.flush(now_ns)

    def _finished(self, verdict: Verdict, now_ns: int) -> bool:
        return self._path is not None and now_ns >= self._path.end_ns and verdict.command.is_at_rest

    def _drop(self) -> None:
        self._plan, self._path, self._fade, self._far = None, None, None, None
