"""When an episode on a robot ends, and why: pure steps on what the commander, the policy and the recorder say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.policy_loop import Health

# What the arm commander calls itself before it is active; its other states are the phases of the executor.
UNSTARTED = "unstarted"
STOPPED, MOVING = "stopped", "moving"
# The controller's reason when the operator's heartbeat stayed away.
OPERATOR_GONE = "FV-SAF-021"
# Commands that differ by less are the same one, rad or open fraction.
_SAME = 1e-6


class Outcome(str, Enum):
    """How an episode ended.

    finished: the body stood still while it followed the policy, after it had moved. stopped: the guard latched.
    refused: nothing moved. The others name who failed.
    """

    FINISHED = "finished"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    REFUSED = "refused"
    POLICY_LOST = "policy_lost"
    POLICY_FAULT = "policy_fault"
    COMMANDER_LOST = "commander_lost"
    OPERATOR_GONE = "operator_gone"
    RECORDING_FAILED = "recording_failed"


# Endings in which nothing went wrong: a policy that never says that it is done runs into the timeout.
ORDINARY = (Outcome.FINISHED, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Ending:
    """How an episode ended; ``code`` and ``reason`` are empty when nothing went wrong."""

    outcome: Outcome
    code: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.outcome.value} ({self.code}: {self.reason})" if self.code else self.outcome.value


@dataclass(frozen=True, eq=False)
class CommanderReport:
    """What the arm commander said last.

    Attributes:
        received_ns: when it was heard.
        episode_id: of the episode that it follows, empty without one.
        state: a phase of the executor, or ``unstarted``.
        reasons: ``FV-...: text``.
        command, measured: float64[14].
    """

    received_ns: int
    episode_id: str
    state: str
    reasons: tuple[str, ...]
    command: JointArray
    measured: JointArray


@dataclass(frozen=True)
class PolicyReport:
    """What the policy client said last.

    Attributes:
        received_ns: when it was heard.
        episode_id: of the episode that it asks for, empty without one.
        state: a ``Health``.
        code, text: its last error; empty when all is well.
    """

    received_ns: int
    episode_id: str
    state: str
    code: str = ""
    text: str = ""


@dataclass(frozen=True)
class Recording:
    """The recording of the trial that an episode belongs to: whether it runs, and what the recorder says."""

    runs: bool
    state: str


@dataclass(frozen=True, eq=False)
class Seen:
    """Everything that is known at a step; None where nobody was heard, or where nothing is recorded."""

    commander: CommanderReport | None
    policy: PolicyReport | None
    recording: Recording | None = None


@dataclass(frozen=True)
class WatchSettings:
    """How long what may take.

    Attributes:
        still_s: standing still this long while following the policy finishes an episode; 0: never.
        still_tolerance: joints that move by less stand still, rad or open fraction.
        commander_silence_s, policy_silence_s: silence after which somebody counts as lost.
        take_up_s: time to take up a new episode.
        rest_s: longest time for the body to come to rest at the end.
    """

    still_s: float = 0.0
    still_tolerance: float = 0.02
    commander_silence_s: float = 0.5
    policy_silence_s: float = 2.0
    take_up_s: float = 2.0
    rest_s: float = 3.0


def not_ready(seen: Seen, now_ns: int, settings: WatchSettings) -> Ending | None:
    """Return why no episode can begin, before anything is published; None when one can."""
    commander, policy = seen.commander, seen.policy
    if commander is None or _age_s(now_ns, commander.received_ns) > settings.commander_silence_s:
        return _refused("FV-EPI-001", "the arm commander is silent; start it (`finevla robot up`).")
    if commander.state in (UNSTARTED, STOPPED):
        code, why = split_reason(commander.reasons)
        mend = "activate it" if commander.state == UNSTARTED else "see to its cause, then `finevla robot reset`"
        said = f" ({code}: {why})" if code else ""
        return _refused("FV-EPI-002", f"the arm commander is {commander.state}{said}; {mend}.")
    if policy is None or _age_s(now_ns, policy.received_ns) > settings.policy_silence_s:
        return _refused("FV-EPI-003", "the policy client is silent; start it (`finevla robot up`).")
    return None


class EpisodeWatch:
    """One episode from its first to its last message.

    It runs, then it ends: the arms are told to brake, and it is over when they rest. Whoever owns it publishes the
    episode as running while ``ending`` is None, as idle afterwards, and answers when ``is_over``.
    """

    def __init__(self, episode_id: str, begin_ns: int, timeout_s: float, settings: WatchSettings) -> None:
        """Watch an episode that begins now."""
        self.episode_id = episode_id
        self.begin_ns = begin_ns
        self.ended_ns = 0
        self.ending: Ending | None = None
        self.is_over = False
        self._timeout_s = timeout_s
        self._settings = settings
        self._commander_took_up = False
        self._policy_took_up = False
        self._stillness = _Stillness(settings.still_tolerance)
        self._last_command: CommanderReport | None = None

    def step(self, seen: Seen, now_ns: int) -> None:
        """Judge what is known now."""
        if self.ending is None:
            ending = self._find_ending(seen, now_ns)
            if ending is not None:
                self.end(ending, now_ns)
        elif not self.is_over:
            self.is_over = self._rests(seen.commander, now_ns)

    def end(self, ending: Ending, now_ns: int) -> None:
        """End the episode, for example because somebody asked to; the first ending counts."""
        if self.ending is None:
            self.ending, self.ended_ns = ending, now_ns

    def duration_s(self) -> float:
        """Return how long the episode lasted, 0 while it lasts."""
        return max(0.0, (self.ended_ns - self.begin_ns) / 1e9)

    def _find_ending(self, seen: Seen, now_ns: int) -> Ending | None:
        return (
            self._of_commander(seen.commander, now_ns)
            or self._of_policy(seen.policy, now_ns)
            or self._of_recording(seen.recording)
            or self._of_time(seen, now_ns)
        )

    def _of_commander(self, report: CommanderReport | None, now_ns: int) -> Ending | None:
        heard_ns = self.begin_ns if report is None else max(self.begin_ns, report.received_ns)
        silent_s = _age_s(now_ns, heard_ns)
        if silent_s > self._settings.commander_silence_s:
            return Ending(
                Outcome.COMMANDER_LOST,
                "FV-EPI-004",
                f"no status of the arm commander for {silent_s:.1f} s; without it the arms hold their last target.",
            )
        if report is None or report.received_ns <= self.begin_ns:
            return None
        code, text = split_reason(report.reasons)
        if report.state == STOPPED:
            return Ending(Outcome.STOPPED, code or "FV-EPI-005", text or "the guard stopped the motion.")
        if report.state == UNSTARTED:
            return Ending(Outcome.COMMANDER_LOST, "FV-EPI-006", "the arm commander is no longer active.")
        if report.episode_id == self.episode_id:
            self._commander_took_up = True
            return None
        if not self._commander_took_up:
            late = _age_s(now_ns, self.begin_ns) > self._settings.take_up_s
            why = f": {code}: {text}" if code else "."
            return _refused("FV-EPI-007", f"the arm commander did not take up the episode{why}") if late else None
        if code == OPERATOR_GONE:
            return Ending(Outcome.OPERATOR_GONE, code, text)
        return Ending(Outcome.STOPPED, code or "FV-EPI-008", text or "the arm commander left the episode by itself.")

    def _of_policy(self, report: PolicyReport | None, now_ns: int) -> Ending | None:
        heard_ns = self.begin_ns if report is None else max(self.begin_ns, report.received_ns)
        silent_s = _age_s(now_ns, heard_ns)
        if silent_s > self._settings.policy_silence_s:
            text = f"no status of the policy client for {silent_s:.1f} s; the arms hold."
            return Ending(Outcome.POLICY_LOST, "FV-EPI-009", text)
        if report is None or report.episode_id != self.episode_id:
            if self._policy_took_up or _age_s(now_ns, self.begin_ns) <= self._settings.take_up_s:
                return None
            why = f": {report.text}" if report is not None and report.text else "; is it active?"
            return _refused("FV-EPI-010", f"the policy client did not take up the episode{why}")
        self._policy_took_up = True
        if report.state == Health.LOST.value:
            return Ending(Outcome.POLICY_LOST, report.code or "FV-EPI-009", report.text)
        if report.state == Health.FAULTY.value:
            return Ending(Outcome.POLICY_FAULT, report.code or "FV-EPI-011", report.text)
        return None

    def _of_recording(self, recording: Recording | None) -> Ending | None:
        if recording is None or recording.runs:
            return None
        code, text = split_reason((recording.state.removeprefix("full: "),))
        said = text or recording.state or "the recorder is gone"
        return Ending(Outcome.RECORDING_FAILED, code or "FV-EPI-012", f"the trial is no longer recorded: {said}")

    def _of_time(self, seen: Seen, now_ns: int) -> Ending | None:
        commander, policy = seen.commander, seen.policy
        if commander is not None and commander.episode_id == self.episode_id:
            is_well = policy is None or not policy.code
            self._stillness.see(commander, is_well)
            still_s = self._settings.still_s
            if still_s > 0.0 and self._stillness.moved and self._stillness.seconds >= still_s:
                return Ending(Outcome.FINISHED)
        lasted_s = _age_s(now_ns, self.begin_ns)
        return Ending(Outcome.TIMEOUT) if lasted_s >= self._timeout_s else None

    def _rests(self, report: CommanderReport | None, now_ns: int) -> bool:
        """Tell whether the arms rest: the commander left the episode and repeats its command; or nobody can tell."""
        if _age_s(now_ns, self.ended_ns) > self._settings.rest_s:
            return True
        if report is None or _age_s(now_ns, report.received_ns) > self._settings.commander_silence_s:
            return True
        if report.received_ns <= self.ended_ns or report.episode_id == self.episode_id:
            return False
        last = self._last_command
        if last is None or report.received_ns > last.received_ns:
            self._last_command = report
        is_newer = last is not None and report.received_ns > last.received_ns
        return last is not None and is_newer and bool(np.all(np.abs(report.command - last.command) < _SAME))


class _Stillness:
    """How long the body has stood still while it followed the policy; waits and holds neither count nor reset."""

    def __init__(self, tolerance: float) -> None:
        self.moved = False
        self.seconds = 0.0
        self._tolerance = tolerance
        self._anchor: JointArray | None = None
        self._last_ns: int | None = None

    def see(self, report: CommanderReport, policy_is_well: bool) -> None:
        """Take a status; one that was seen before changes nothing."""
        if self._anchor is None:
            self._anchor = report.measured
        follows = report.state == MOVING and policy_is_well
        if np.max(np.abs(report.measured - self._anchor)) > self._tolerance:
            self._anchor, self.seconds = report.measured, 0.0
            self.moved = self.moved or report.state == MOVING
        elif follows and self._last_ns is not None:
            self.seconds += max(0, report.received_ns - self._last_ns) / 1e9
        self._last_ns = report.received_ns if follows else None


def split_reason(reasons: tuple[str, ...]) -> tuple[str, str]:
    """Return code and text of the first ``FV-...: text``; two empty texts without one."""
    for reason in reasons:
        code, _, text = reason.partition(": ")
        if code.startswith("FV-") and text:
            return code, text
    return "", ""


def _refused(code: str, reason: str) -> Ending:
    return Ending(Outcome.REFUSED, code, reason)


def _age_s(now_ns: int, since_ns: int) -> float:
    return (now_ns - since_ns) / 1e9
