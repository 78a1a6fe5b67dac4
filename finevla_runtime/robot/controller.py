"""The controller of one body: feedback, chunks and buttons in, one command per tick out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.motion.chunk_queue import Refused, Ticket
from finevla_runtime.motion.execution import Execution
from finevla_runtime.motion.executor import Command, Executor, Phase
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.lateness import Lateness
from finevla_runtime.safety.guard import Guard, Situation, Space
from finevla_runtime.safety.profile import SafetyProfile
from finevla_runtime.safety.verdict import Outcome, Reason


@dataclass(frozen=True, eq=False)
class ControllerState:
    """What the controller is doing, for people and for the session.

    Attributes:
        ticket: episode and instruction, None outside of episodes.
        phase: of the executor, ``Phase.STOPPED`` before the start.
        outcome: of the guard's last verdict, empty before the first.
        reasons: why the body does not move as asked; empty while it moves, limited or not.
        command, measured: float64[14].
        rows_left, chunk_id, chunk_age_s: of the present plan.
        latency_s: time from observation to chunk that 95 of 100 answers kept to.
        largest_seam: largest step between an old and a new chunk so far, rad or open fraction.
        accepted, rows_late: chunks taken, and rows of them that were over.
        refused: chunks refused, by code.
        limited: ticks in which the guard limited a command, by code.
        lateness: of the ticks.
    """

    ticket: Ticket | None
    phase: Phase
    outcome: str
    reasons: tuple[Reason, ...]
    command: JointArray
    measured: JointArray
    rows_left: int
    chunk_id: str
    chunk_age_s: float
    latency_s: float
    largest_seam: float
    accepted: int
    rows_late: int
    refused: Mapping[str, int]
    limited: Mapping[str, int]
    lateness: Lateness


class Controller:
    """Everything between the topics of a body and its guard; steps on an injected clock.

    Whoever drives it calls ``tick`` at the control rate and sends the command; all else only changes what the next tick
    does. Stopping means to brake and to hold: nothing here ever switches a motor off.
    """

    def __init__(
        self,
        profile: SafetyProfile,
        execution: Execution,
        step_s: float,
        tick_s: float,
        space: Space | None = None,
        deadman_s: float = 0.0,
        session_s: float = 0.0,
    ) -> None:
        """Prepare the controller of a body that stands; nothing is commanded before ``start``.

        Args:
            profile: of the guard.
            execution: how chunks are executed.
            step_s: seconds between the rows of a chunk.
            tick_s: seconds between ticks.
            space: what the body must not touch.
            deadman_s: longest time without a sign of the operator while an episode runs; 0 asks for none.
            session_s: the same for a sign of the session, which alone ends an episode in good order.
        """
        self.guard = Guard(profile, space)
        self.executor = Executor(self.guard, execution, step_s)
        self.lateness = Lateness(tick_s)
        self.step_s = step_s
        self._deadman_s, self._session_s = deadman_s, session_s
        self._ticket: Ticket | None = None
        self._measured = np.zeros(DOF)
        self._measured_ns = [-1, -1]
        self._faults = ["", ""]
        self._operator_ns = self._session_ns = 0
        self._pressed = False
        self._limited: Counter[str] = Counter()
        self._ended: Reason | None = None
        self._last: Command | None = None

    def feedback(self, arm: int, row: JointArray, measured_ns: int) -> None:
        """Take the measured float64[7] of arm 0 (left) or 1 (right), in the project's units."""
        self._measured[arm * 7 : arm * 7 + 7] = row
        self._measured_ns[arm] = measured_ns

    def arm_fault(self, arm: int, fault: str) -> None:
        """Take what the driver of an arm says is wrong; empty when it is well."""
        self._faults[arm] = fault

    def operator_is_there(self, now_ns: int) -> None:
        """Take a sign of the operator."""
        self._operator_ns = now_ns

    def session_is_there(self, now_ns: int) -> None:
        """Take a sign of the session."""
        self._session_ns = now_ns

    def start(self, now_ns: int) -> Reason | None:
        """Begin to command from where the body stands, also after a stop; return why not."""
        problem = self._button() or self._unheard(now_ns) or self.guard.start(self._situation(now_ns))
        if problem is None:
            self._end(None)
            self.executor.queue.flush(now_ns)
        return problem

    def begin(self, ticket: Ticket, now_ns: int) -> Reason | None:
        """Follow the chunks of an episode, or of its changed instruction; return why not."""
        if self.guard.command is None:
            return Reason("FV-SAF-011", "the guard was not started.")
        if self.guard.latched is not None:
            return self.guard.latched
        self._ended = None
        self._ticket = ticket
        self.guard.allow_approach(False)
        # Beginning is itself a sign of both.
        self._operator_ns = self._session_ns = now_ns
        self.executor.expect(ticket)
        return None

    def end(self) -> None:
        """End the episode: brake and hold."""
        self._end(None)

    def offer(self, ticket: Ticket, chunk: ActionChunk, now_ns: int) -> Refused | None:
        """Take a chunk, or return why not."""
        return self.executor.offer(ticket, chunk, now_ns)

    def stop(self, reason: Reason) -> None:
        """Brake and hold until somebody starts the controller again."""
        self.guard.stop(reason)
        self._end(None)

    def emergency_button(self, pressed: bool) -> None:
        """Take what the emergency button says: pressed it stops, and until it is released nothing can be started."""
        self._pressed = pressed
        if pressed:
            self.stop(Reason("FV-SAF-022", "the emergency button was pressed."))

    def allow_approach(self) -> None:
        """Let the next motion begin from far away, slowly."""
        self.guard.allow_approach()

    def tick(self, now_ns: int) -> Command | None:
        """Return the command for now; None before the start, when nothing must be sent."""
        self.lateness.tick(now_ns)
        if self.guard.command is None:
            return None
        if self._ticket is not None:
            self._watch(now_ns)
        self._last = self.executor.tick(self._situation(now_ns))
        if self._last.verdict.outcome is Outcome.LIMIT:
            self._limited.update(reason.code for reason in self._last.reasons)
        return self._last

    def state(self) -> ControllerState:
        """Return what the controller is doing."""
        last, queue = self._last, self.executor.queue
        return ControllerState(
            ticket=self._ticket,
            phase=Phase.STOPPED if last is None else last.phase,
            outcome="" if last is None else last.verdict.outcome.value,
            reasons=self._reasons(last),
            command=self._measured.copy() if last is None else last.setpoint.position,
            measured=self._measured.copy(),
            rows_left=0 if last is None else last.rows_left,
            chunk_id="" if last is None else last.chunk_id,
            chunk_age_s=0.0 if last is None else last.chunk_age_s,
            latency_s=self.executor.latency.quantile_s(0.95),
            largest_seam=self.executor.largest_seam,
            accepted=queue.accepted,
            rows_late=queue.rows_late,
            refused=dict(queue.refused),
            limited=dict(self._limited),
            lateness=self.lateness,
        )

    def _reasons(self, last: Command | None) -> tuple[Reason, ...]:
        if last is None:
            return (Reason("FV-SAF-011", "the guard was not started."),)
        if last.phase is Phase.MOVING:
            return ()
        if last.phase is Phase.WAITING and self._ended is not None:
            return (self._ended,)
        return last.reasons

    def _situation(self, now_ns: int) -> Situation:
        faults = [f"{side} arm: {fault}" for side, fault in zip(("left", "right"), self._faults, strict=True) if fault]
        return Situation(now_ns, self._measured.copy(), min(self._measured_ns), None, "; ".join(faults))

    def _button(self) -> Reason | None:
        return Reason("FV-SAF-024", "the emergency button is pressed; release it first.") if self._pressed else None

    def _unheard(self, now_ns: int) -> Reason | None:
        silent = [side for side, at in zip(("left", "right"), self._measured_ns, strict=True) if at < 0]
        if silent:
            return Reason("FV-SAF-008", f"no joint position has come from the {' and the '.join(silent)} arm.")
        return None

    def _watch(self, now_ns: int) -> None:
        """End an episode that nobody is in charge of any more."""
        for code, who, longest_s, at_ns in (
            ("FV-SAF-021", "operator", self._deadman_s, self._operator_ns),
            ("FV-SAF-025", "session", self._session_s, self._session_ns),
        ):
            away_s = (now_ns - at_ns) / 1e9
            if 0.0 < longest_s < away_s:
                self._end(Reason(code, f"no sign of the {who} for {away_s:.2f} s; begin again to go on."))
                return

    def _end(self, reason: Reason | None) -> None:
        self._ticket, self._ended = None, reason
        # What an operator allowed was for this episode.
        self.guard.allow_approach(False)
        self.executor.expect(None)
