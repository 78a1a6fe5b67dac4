"""The guard: no command leaves but through it, and every command continues the one before.

It judges wanted setpoints against its own last command, never against what somebody says the last command was, and it
keeps one promise under all inputs: from every command it gives, the body can stop inside all limits. Holding and
stopping mean to brake along such a stop and to stand; motors are never switched off (an arm without power falls).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from finevla_runtime.motion.follower import Follower
from finevla_runtime.motion.limits import BoolArray
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.profile import SafetyProfile, name_of, unit_of
from finevla_runtime.safety.verdict import Outcome, Reason, Verdict

LOG = logging.getLogger(__name__)
# Positions along a stop that are looked at in space, from where it begins to where everything rests.
STOP_POINTS = 9


@dataclass(frozen=True, eq=False)
class Situation:
    """What is known when a command is due.

    Attributes:
        now_ns: the robot's monotonic clock.
        measured: float64[14], measured positions in the project's layout.
        measured_ns: when they were measured, the same clock.
        observation_ns: when the observation was taken that the wanted motion answers; None when no motion is wanted.
        fault: what the body reports to be wrong; empty when it is well.
    """

    now_ns: int
    measured: JointArray
    measured_ns: int
    observation_ns: int | None = None
    fault: str = ""


class Space(Protocol):
    """Knows which positions touch or leave what they must not, on a path and between its rows."""

    def breach(self, path: JointArray) -> Reason | None:
        """Return what is wrong with float64[n, 14] positions along a path, or None."""
        ...


class Guard:
    """Judges one wanted setpoint per tick; one guard per body."""

    def __init__(self, profile: SafetyProfile, space: Space | None = None) -> None:
        """Prepare the guard; it commands nothing before ``start``."""
        self.profile = profile
        self._space = space
        self._follower = Follower(profile.limits)
        slow = profile.approach_share
        limits = profile.limits
        self._approach = Follower(replace(limits, velocity=limits.velocity * slow))
        self._command: Setpoint | None = None
        self._ticked_ns = 0
        self._late = 0
        self._held_since_ns: int | None = None
        self._moving_since_ns: int | None = None
        self._latched: Reason | None = None
        self._admitted = False
        self._may_approach = False

    @property
    def command(self) -> Setpoint | None:
        """Return the last command, None before the start."""
        return self._command

    @property
    def latched(self) -> Reason | None:
        """Return why the guard has stopped; None while it has not."""
        return self._latched

    def start(self, seen: Situation) -> Reason | None:
        """Begin to command from the measured pose; also takes back a stop.

        Nothing moves by this: the command is to stand where the body stands.

        Returns:
            Why the guard does not begin, or None when it has begun.
        """
        problem = next(iter(self._wrong_with_body(seen)), None) or self._stale_state(seen)
        if problem is None and self._command is not None and not self._command.is_at_rest:
            problem = Reason("FV-SAF-010", "the body is still braking; reset it when it stands.")
        if problem is not None:
            return problem
        self._command = Setpoint.at_rest(self.profile.limits.clip(seen.measured))
        self._ticked_ns = seen.now_ns
        self._late, self._held_since_ns, self._latched = 0, None, None
        self._admitted = self._may_approach = False
        return None

    def allow_approach(self, allowed: bool = True) -> None:
        """Let the next motion begin from further away than the start tolerance, slowly; an operator says so."""
        self._may_approach = allowed

    def stop(self, reason: Reason) -> None:
        """Latch a stop, as an emergency button does; the next tick brakes."""
        if self._latched is None:
            self._latched = reason

    def tick(self, wanted: Setpoint | None, seen: Situation) -> Verdict:
        """Return what to send now.

        Args:
            wanted: where the motion should be; None when there is no motion to follow.
            seen: what is known.

        A guard that fails inside says stop; it never raises and never lets the wanted setpoint through unseen.
        """
        if self._command is None:
            resting = Setpoint.at_rest(seen.measured)
            return Verdict(Outcome.STOP, resting, (Reason("FV-SAF-011", "the guard was not started."),))
        try:
            verdict = self._judge(wanted, seen, self._command)
        except Exception as error:
            LOG.exception("the guard failed")
            self.stop(Reason("FV-SAF-001", f"the guard itself failed ({type(error).__name__}: {error})."))
            verdict = self._after_failure(self._command, seen)
        self._command = verdict.command
        self._ticked_ns = max(seen.now_ns, self._ticked_ns)
        return verdict

    def _judge(self, wanted: Setpoint | None, seen: Situation, before: Setpoint) -> Verdict:
        dt_s = self._elapsed_s(seen)
        self._late = self._late + 1 if seen.now_ns - self._ticked_ns > self.profile.longest_tick_s * 1e9 else 0
        if self._latched is None:
            self._latched = next(self._stops(wanted, seen, before), None)
        if self._latched is not None:
            return Verdict(Outcome.STOP, self._follower.brake(before, dt_s), (self._latched,))
        holds = tuple(self._holds(wanted, seen))
        if holds or wanted is None:
            return self._hold(before, dt_s, holds or (Reason("FV-SAF-012", "there is no motion to follow."),), seen)
        if not self._admitted:
            far = self._far_from(before, wanted)
            if far is not None and not self._may_approach:
                return self._hold(before, dt_s, (far,), seen)
            self._admitted = far is None
            if far is not None:
                return self._seen_in_space(before, self._approach.step(before, wanted, dt_s), dt_s, (far,), seen)
        self._may_approach = False
        kept = self._kept(before, wanted, dt_s)
        if kept.all():
            return self._seen_in_space(before, wanted, dt_s, (), seen)
        limited = wanted.where(kept, self._follower.step(before, wanted, dt_s))
        return self._seen_in_space(before, limited, dt_s, self._limited(before, wanted, kept, dt_s), seen)

    def _seen_in_space(
        self, before: Setpoint, command: Setpoint, dt_s: float, reasons: tuple[Reason, ...], seen: Situation
    ) -> Verdict:
        """Return the command as a verdict, unless the stop from it would touch something: then brake now."""
        if self._space is not None:
            path = np.vstack([before.position, self._follower.stop_path(command, STOP_POINTS)])
            breach = self._space.breach(path)
            if breach is not None:
                return self._hold(before, dt_s, (breach,), seen)
        if self._moving_since_ns is None:
            self._moving_since_ns = seen.now_ns
        if seen.now_ns - self._moving_since_ns >= _RECOVERED_S * 1e9:
            self._held_since_ns = None
        return Verdict(Outcome.LIMIT if reasons else Outcome.PASS, command, reasons)

    def _hold(self, before: Setpoint, dt_s: float, reasons: tuple[Reason, ...], seen: Situation) -> Verdict:
        """Brake, and stand until the reason ends; a hold over a fault that lasts becomes a stop."""
        command = self._follower.brake(before, dt_s)
        self._admitted, self._moving_since_ns = False, None
        if reasons[0].code in _PATIENT:
            return Verdict(Outcome.HOLD, command, reasons)
        if self._held_since_ns is None:
            self._held_since_ns = seen.now_ns
        held_s = (seen.now_ns - self._held_since_ns) / 1e9
        if held_s > self.profile.patience_s:
            self._latched = Reason("FV-SAF-013", f"held for {held_s:.1f} s: {reasons[0]}")
            return Verdict(Outcome.STOP, command, (self._latched,))
        return Verdict(Outcome.HOLD, command, reasons)

    def _after_failure(self, before: Setpoint, seen: Situation) -> Verdict:
        assert self._latched is not None  # noqa: S101  # For the type checker; stop() was called.
        try:
            command = self._follower.brake(before, self._elapsed_s(seen))
        except Exception:
            # Nothing can be computed any more; the last command is the one that is known to be safe.
            LOG.exception("braking failed")
            command = Setpoint.at_rest(before.position)
        return Verdict(Outcome.STOP, command, (self._latched,))

    def _elapsed_s(self, seen: Situation) -> float:
        """Return the time that counts since the last tick; a late tick counts as the longest one, not as a leap."""
        return float(np.clip((seen.now_ns - self._ticked_ns) / 1e9, 0.0, self.profile.longest_tick_s))

    def _stops(self, wanted: Setpoint | None, seen: Situation, before: Setpoint) -> Iterator[Reason]:
        if seen.now_ns < self._ticked_ns:
            back_s = (self._ticked_ns - seen.now_ns) / 1e9
            yield Reason("FV-SAF-002", f"the clock went back by {back_s:.3f} s.")
        yield from self._wrong_with_body(seen)
        if wanted is not None and not wanted.is_finite:
            bad = ~np.isfinite(wanted.position + wanted.velocity + wanted.acceleration)
            yield Reason("FV-SAF-003", f"{_listed(bad)}: the wanted setpoint is not finite.")
        if self._stale_state(seen) is None:
            off = np.abs(before.position - seen.measured)
            if (off > self.profile.tracking).any():
                yield Reason(
                    "FV-SAF-006", _worst("is {got:.3f} {unit} away from its command", off, self.profile.tracking)
                )

    def _wrong_with_body(self, seen: Situation) -> Iterator[Reason]:
        if seen.fault:
            yield Reason("FV-SAF-004", f"the body reports: {seen.fault}")
        if not np.isfinite(seen.measured).all():
            yield Reason("FV-SAF-005", f"{_listed(~np.isfinite(seen.measured))}: the measured position is not finite.")
            return
        limits = self.profile.limits
        outside = np.maximum(limits.lower - seen.measured, seen.measured - limits.upper)
        if (outside > self.profile.outside).any():
            text = _worst("is measured {got:.3f} {unit} outside of its range", outside, self.profile.outside)
            yield Reason("FV-SAF-007", text)

    def _holds(self, wanted: Setpoint | None, seen: Situation) -> Iterator[Reason]:
        stale = self._stale_state(seen)
        if stale is not None:
            yield stale
        if wanted is not None and seen.observation_ns is not None:
            age_s, oldest_s = (seen.now_ns - seen.observation_ns) / 1e9, self.profile.observation_age_s
            if age_s > oldest_s:
                yield Reason(
                    "FV-SAF-009", f"the observation behind this motion is {age_s:.2f} s old, at most {oldest_s:g} s."
                )
        if self._late >= self.profile.late_ticks:
            longest_s = self.profile.longest_tick_s
            yield Reason(
                "FV-SAF-014", f"{self._late} ticks in a row came more than {longest_s:g} s after the one before."
            )

    def _stale_state(self, seen: Situation) -> Reason | None:
        age_s, oldest_s = (seen.now_ns - seen.measured_ns) / 1e9, self.profile.state_age_s
        if age_s <= oldest_s:
            return None
        return Reason("FV-SAF-008", f"the measured position is {age_s:.2f} s old, at most {oldest_s:g} s.")

    def _far_from(self, before: Setpoint, wanted: Setpoint) -> Reason | None:
        """Return why a motion may not begin here: it is further away than a robot should go on its own account."""
        off = np.abs(wanted.position - before.position)
        if (off <= self.profile.start).all():
            return None
        return Reason(
            "FV-SAF-015", _worst("would begin {got:.3f} {unit} away from where it stands", off, self.profile.start)
        )

    def _kept(self, before: Setpoint, wanted: Setpoint, dt_s: float) -> BoolArray:
        near = self.profile.limits.continuous(before, wanted, dt_s)
        # Stops are planned from states that can be reached alone: a wild one makes the planner fail.
        return near & self._follower.can_stop(wanted.where(near, before))

    def _limited(self, before: Setpoint, wanted: Setpoint, kept: BoolArray, dt_s: float) -> tuple[Reason, ...]:
        limits = self.profile.limits
        checks = (
            ("FV-SAF-016", "is wanted outside of its range", limits.position_kept(wanted.position)),
            ("FV-SAF-017", "is wanted faster than its limits", limits.rates_kept(wanted)),
            ("FV-SAF-018", "is wanted further than it can go in this tick", limits.continuous(before, wanted, dt_s)),
        )
        found = tuple(Reason(code, f"{_listed(~fine)} {text}.") for code, text, fine in checks if not fine.all())
        return found or (Reason("FV-SAF-019", f"{_listed(~kept)} could not stop inside of its range."),)


# A hold is over when motion has gone on for this long; until then the next hold goes on with it.
_RECOVERED_S = 1.0
# Holds that wait for somebody or for new work; they may last.
_PATIENT = ("FV-SAF-012", "FV-SAF-015")


def _listed(bad: BoolArray) -> str:
    return ", ".join(name_of(int(joint)) for joint in np.flatnonzero(bad))


def _worst(text: str, got: JointArray, allowed: JointArray) -> str:
    joint = int(np.argmax(got / allowed))
    said = text.format(got=float(got[joint]), unit=unit_of(joint))
    return f"{name_of(joint)} {said}, at most {float(allowed[joint]):g}."
