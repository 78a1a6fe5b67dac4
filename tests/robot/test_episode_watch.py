"""An episode ends for one reason, says which, and is over when the arms rest."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from finevla_runtime.robot.episode_watch import (
    CommanderReport,
    Ending,
    EpisodeWatch,
    Outcome,
    PolicyReport,
    Recording,
    Seen,
    WatchSettings,
    not_ready,
)

MS = 1_000_000
ME = "episode-1"
SETTINGS = WatchSettings(still_s=1.0)


class Stage:
    """Everybody says that all is well, every 50 ms, unless a test makes somebody say otherwise or nothing."""

    def __init__(self, settings: WatchSettings = SETTINGS, timeout_s: float = 60.0) -> None:
        self.now_ns = 10_000 * MS
        self.watch = EpisodeWatch(ME, self.now_ns, timeout_s, settings)
        self.commander: CommanderReport | None = CommanderReport(
            self.now_ns, ME, "moving", (), np.zeros(14), np.zeros(14)
        )
        self.policy: PolicyReport | None = PolicyReport(self.now_ns, ME, "waiting")
        self.recording: Recording | None = None
        self.silent: set[str] = set()

    def go(self, duration_s: float, move: float = 0.0) -> Ending | None:
        """Let time pass; ``move`` is what the body moves at each status."""
        for _ in range(round(duration_s / 0.05)):
            self.now_ns += 50 * MS
            if self.commander is not None and "commander" not in self.silent:
                self.commander = replace(
                    self.commander,
                    received_ns=self.now_ns,
                    measured=self.commander.measured + move,
                    command=self.commander.command + move,
                )
            if self.policy is not None and "policy" not in self.silent:
                self.policy = replace(self.policy, received_ns=self.now_ns)
            self.watch.step(Seen(self.commander, self.policy, self.recording), self.now_ns)
        return self.watch.ending

    def commander_says(self, **fields: object) -> None:
        assert self.commander is not None
        self.commander = replace(self.commander, **fields)  # type: ignore[arg-type]

    def policy_says(self, **fields: object) -> None:
        assert self.policy is not None
        self.policy = replace(self.policy, **fields)  # type: ignore[arg-type]


def test_all_is_well_until_the_timeout() -> None:
    stage = Stage(timeout_s=5.0)
    assert stage.go(4.95, move=0.01) is None
    assert stage.go(0.05) == Ending(Outcome.TIMEOUT)
    assert stage.watch.duration_s() == pytest.approx(5.0)


def test_standing_still_after_a_motion_finishes() -> None:
    stage = Stage()
    assert stage.go(2.0) is None, "it has not moved yet"
    assert stage.go(1.0, move=0.01) is None
    assert stage.go(0.9) is None
    assert stage.go(0.3) == Ending(Outcome.FINISHED)


def test_without_still_s_nothing_finishes() -> None:
    stage = Stage(WatchSettings(still_s=0.0))
    stage.go(1.0, move=0.01)
    assert stage.go(20.0) is None


@pytest.mark.parametrize("state", ["waiting", "holding", "approaching"])
def test_waits_and_holds_are_not_standing_still(state: str) -> None:
    stage = Stage()
    stage.go(1.0, move=0.01)
    stage.commander_says(state=state)
    assert stage.go(10.0) is None


def test_a_policy_in_trouble_finishes_nothing() -> None:
    stage = Stage()
    stage.go(1.0, move=0.01)
    stage.policy_says(code="FV-NET-003", text="away")
    assert stage.go(10.0) is None


def test_a_latched_guard_ends_the_episode_with_its_reason() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.commander_says(state="stopped", episode_id="", reasons=("FV-SAF-022: stop was asked for.",))
    assert stage.go(0.05) == Ending(Outcome.STOPPED, "FV-SAF-022", "stop was asked for.")


def test_a_gone_operator_is_told_from_a_stop() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.commander_says(state="waiting", episode_id="", reasons=("FV-SAF-021: no sign of the operator.",))
    assert stage.go(0.05) == Ending(Outcome.OPERATOR_GONE, "FV-SAF-021", "no sign of the operator.")


def test_the_reason_of_an_earlier_episode_is_not_this_ones() -> None:
    stage = Stage()
    stage.commander_says(state="waiting", episode_id="", reasons=("FV-SAF-021: no sign of the operator.",))
    assert stage.go(1.0) is None
    stage.commander_says(state="moving", episode_id=ME, reasons=())
    assert stage.go(1.0, move=0.01) is None


def test_a_commander_that_leaves_without_a_reason_counts_as_stopped() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.commander_says(state="waiting", episode_id="")
    ending = stage.go(0.05)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.STOPPED, "FV-EPI-008")


def test_a_commander_that_never_takes_up_the_episode_is_a_refusal() -> None:
    stage = Stage()
    stage.commander_says(state="waiting", episode_id="other")
    assert stage.go(1.9) is None
    ending = stage.go(0.2)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.REFUSED, "FV-EPI-007")


def test_a_policy_client_that_never_takes_up_the_episode_is_a_refusal_with_its_words() -> None:
    stage = Stage()
    stage.policy_says(state="idle", episode_id="", text="no such server")
    ending = stage.go(2.1)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.REFUSED, "FV-EPI-010")
    assert "no such server" in ending.reason


def test_half_a_second_without_the_commander_ends_the_episode() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.silent.add("commander")
    assert stage.go(0.5) is None
    ending = stage.go(0.05)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.COMMANDER_LOST, "FV-EPI-004")


def test_a_commander_that_was_never_heard_ends_the_episode_as_well() -> None:
    stage = Stage()
    stage.commander = None
    ending = stage.go(0.6)
    assert ending is not None
    assert ending.code == "FV-EPI-004"


def test_a_deactivated_commander_ends_the_episode() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.commander_says(state="unstarted", episode_id="")
    ending = stage.go(0.05)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.COMMANDER_LOST, "FV-EPI-006")


def test_two_seconds_without_the_policy_client_end_the_episode() -> None:
    stage = Stage()
    stage.go(1.0)
    stage.silent.add("policy")
    assert stage.go(2.0) is None
    ending = stage.go(0.05)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.POLICY_LOST, "FV-EPI-009")


@pytest.mark.parametrize(("state", "outcome"), [("lost", Outcome.POLICY_LOST), ("faulty", Outcome.POLICY_FAULT)])
def test_a_lost_or_faulty_policy_ends_the_episode_with_its_code(state: str, outcome: Outcome) -> None:
    stage = Stage()
    stage.go(1.0)
    stage.policy_says(state=state, code="FV-NET-002", text="nobody answers")
    assert stage.go(0.05) == Ending(outcome, "FV-NET-002", "nobody answers")


def test_what_the_policy_said_of_another_episode_is_not_this_ones() -> None:
    stage = Stage()
    stage.policy_says(episode_id="old", state="faulty", code="FV-ACT-004", text="not finite")
    assert stage.go(1.0) is None


def test_a_recording_that_breaks_off_ends_the_episode_with_the_recorders_code() -> None:
    stage = Stage()
    stage.recording = Recording(True, "recording")
    assert stage.go(1.0) is None
    stage.recording = Recording(False, "full: FV-REC-032: 5 MiB are left")
    ending = stage.go(0.05)
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.RECORDING_FAILED, "FV-REC-032")
    assert "5 MiB are left" in ending.reason


def test_the_first_ending_counts() -> None:
    stage = Stage()
    stage.watch.end(Ending(Outcome.CANCELLED), stage.now_ns)
    stage.commander_says(state="stopped", reasons=("FV-SAF-022: stop.",))
    assert stage.go(0.2) == Ending(Outcome.CANCELLED)


def test_an_episode_is_over_when_the_arms_rest() -> None:
    stage = Stage()
    stage.go(1.0, move=0.01)
    stage.watch.end(Ending(Outcome.CANCELLED), stage.now_ns)
    stage.go(0.3, move=0.01)
    assert not stage.watch.is_over, "the commander still follows the episode"
    stage.commander_says(state="waiting", episode_id="")
    stage.go(0.3, move=0.01)
    assert not stage.watch.is_over, "the arms still brake"
    stage.go(0.1)
    assert stage.watch.is_over


def test_an_episode_is_over_when_nobody_can_tell_whether_the_arms_rest() -> None:
    stage = Stage()
    stage.go(0.5)
    stage.silent.add("commander")
    stage.watch.end(Ending(Outcome.CANCELLED), stage.now_ns)
    stage.go(0.6)
    assert stage.watch.is_over


def test_arms_that_never_rest_do_not_keep_an_episode_open() -> None:
    stage = Stage()
    stage.watch.end(Ending(Outcome.CANCELLED), stage.now_ns)
    stage.commander_says(state="waiting", episode_id="")
    stage.go(2.9, move=0.01)
    assert not stage.watch.is_over
    stage.go(0.3, move=0.01)
    assert stage.watch.is_over


READY = Seen(
    CommanderReport(0, "", "waiting", (), np.zeros(14), np.zeros(14)),
    PolicyReport(0, "", "idle"),
)


@pytest.mark.parametrize(
    ("commander", "policy", "code"),
    [
        (None, READY.policy, "FV-EPI-001"),
        (READY.commander, None, "FV-EPI-003"),
        (replace(READY.commander, received_ns=-600 * MS), READY.policy, "FV-EPI-001"),
        (READY.commander, replace(READY.policy, received_ns=-2100 * MS), "FV-EPI-003"),
        (replace(READY.commander, state="unstarted"), READY.policy, "FV-EPI-002"),
        (replace(READY.commander, state="stopped"), READY.policy, "FV-EPI-002"),
    ],
)
def test_nothing_begins_without_commander_and_policy(commander: object, policy: object, code: str) -> None:
    ending = not_ready(Seen(commander, policy), 0, SETTINGS)  # type: ignore[arg-type]
    assert ending is not None
    assert (ending.outcome, ending.code) == (Outcome.REFUSED, code)


def test_whoever_is_ready_may_begin() -> None:
    assert not_ready(READY, 400 * MS, SETTINGS) is None


def test_a_refusal_tells_why_the_guard_is_stopped() -> None:
    stopped = replace(READY.commander, state="stopped", reasons=("FV-SAF-022: stop was asked for.",))
    ending = not_ready(Seen(stopped, READY.policy), 0, SETTINGS)
    assert ending is not None
    assert "FV-SAF-022: stop was asked for." in ending.reason
    assert "finevla robot reset" in ending.reason


def test_the_same_reports_lead_to_the_same_ending_whatever_the_rate_of_the_steps() -> None:
    endings = []
    for every in (1, 3):
        stage, turns = Stage(), itertools.count()
        step = stage.watch.step

        def sometimes(seen: Seen, now_ns: int, step=step, turns=turns, every=every) -> None:
            if next(turns) % every == 0:
                step(seen, now_ns)

        stage.watch.step = sometimes  # type: ignore[method-assign]
        stage.go(1.0, move=0.01)
        endings.append(stage.go(3.0))
    assert endings == [Ending(Outcome.FINISHED)] * 2
