"""What `finevla robot doctor` thinks of what it saw: plain functions on plain values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

from finevla_runtime.cli.checks import Check

COMMANDER = "arm_commander"
# Below this share of its expected rate a source is noted: a busy machine also loses messages on the way to the doctor.
# Below the second one it is wrong.
LEAST_SHARE, FAILING_SHARE = 0.8, 0.5
LIFECYCLE = {0: "unknown", 1: "unconfigured", 2: "inactive", 3: "active", 4: "finalized"}
ACTIVE = 3


@dataclass(frozen=True)
class Source:
    """What was seen of one topic that somebody must publish.

    Attributes:
        label: for people.
        topic: resolved name.
        publishers: full names of the nodes that publish it.
        expected_hz: rate that it should keep.
        arrivals_ns: when messages came, the steady clock.
        offsets_s: wall time at arrival minus the stamp in the header; empty where stamps are not read.
        longest_age_s: age from which the synchroniser refuses it.
        problem: what is wrong with its messages; empty when nothing is.
    """

    label: str
    topic: str
    publishers: Sequence[str]
    expected_hz: float
    arrivals_ns: Sequence[int]
    offsets_s: Sequence[float]
    longest_age_s: float
    problem: str = ""

    @property
    def rate_hz(self) -> float:
        """Return the mean rate; 0 for fewer than two messages."""
        if len(self.arrivals_ns) < 2:
            return 0.0
        return (len(self.arrivals_ns) - 1) * 1e9 / max(1, self.arrivals_ns[-1] - self.arrivals_ns[0])


def judge_node(name: str, is_there: bool, lifecycle: int | None, reason: str = "") -> Check:
    """Judge one of our nodes; ``lifecycle`` is None for a node without one."""
    if not is_there:
        return bad(name, "not in the graph", f"start it: finevla robot up, or ros2 run finevla_cobot {name}")
    if lifecycle is None or lifecycle == ACTIVE:
        return good(name, "running" if lifecycle is None else "active")
    why = f": {reason}" if reason else ""
    return bad(name, f"{LIFECYCLE.get(lifecycle, 'changing')}{why}", "finevla robot activate")


def judge_source(source: Source) -> Check:
    """Judge a camera's or an arm's topic: one publisher, its rate, its stamps, its messages."""
    name, topic = source.label, source.topic
    if not source.publishers:
        return bad(name, f"nobody publishes {topic}", "start its driver, or name another topic in the topic profile")
    if len(source.publishers) > 1:
        return bad(name, f"{topic} has publishers {', '.join(source.publishers)}", "leave one of them running")
    if not source.arrivals_ns:
        return bad(
            name, f"{source.publishers[0]} publishes {topic}, but nothing comes", "look at its driver's messages"
        )
    if source.problem:
        return bad(name, source.problem, "set up the driver, or the topic profile")
    if source.rate_hz < LEAST_SHARE * source.expected_hz:
        remedy = "look at the driver, at USB or network load, or at `rates` in the topic profile"
        detail = f"{topic} comes at {source.rate_hz:.1f} Hz, expected {source.expected_hz:g}"
        return Check(name, False, source.rate_hz < FAILING_SHARE * source.expected_hz, detail, remedy)
    return _judge_stamps(source)


def _judge_stamps(source: Source) -> Check:
    detail = f"{source.topic} from {source.publishers[0]} at {source.rate_hz:.1f} Hz"
    if not source.offsets_s:
        return good(source.label, detail)
    offset_s = median(source.offsets_s)
    detail = f"{detail}, {1e3 * offset_s:.0f} ms after its stamp"
    # The synchroniser learns a constant offset; one that is far away or wanders is a clock that nobody sets.
    in_order = sorted(source.offsets_s)
    outliers = len(in_order) // 10
    wandering_s = in_order[-1 - outliers] - in_order[outliers]
    if wandering_s > source.longest_age_s:
        return bad(source.label, f"{detail}, but that wanders by {wandering_s:.2f} s", "use `stamp: arrival`")
    if abs(offset_s) > source.longest_age_s:
        remedy = "set both clocks (NTP or PTP), or use `stamp: arrival` in the topic profile"
        return Check(source.label, False, False, detail, remedy)
    return good(source.label, detail)


def judge_command(label: str, topic: str, publishers: Collection[str], subscribers: Collection[str]) -> Check:
    """Judge a topic that commands an arm: our commander alone may publish it, and a driver must listen."""
    strangers = sorted(name for name in publishers if name.rpartition("/")[2] != COMMANDER)
    if strangers:
        return bad(
            label,
            f"{', '.join(strangers)} also commands the arm on {topic}",
            "switch it off, or give its topic another name; the leader arms of teleoperation publish here, for example",
        )
    if not subscribers:
        return bad(label, f"no driver listens to {topic}", "start the arm's driver, or correct the topic profile")
    if not publishers:
        return Check(label, False, False, f"nobody commands on {topic} yet", "finevla robot activate")
    return good(label, f"{topic}: {COMMANDER} alone, heard by {', '.join(sorted(subscribers))}")


def judge_disk(folder: str, free_mib: int, least_mib: int, state: str) -> Check:
    """Judge the room for recordings."""
    detail = f"{folder}: {free_mib} MiB free, {least_mib} stay free; the recorder is {state or 'not heard'}"
    if free_mib <= least_mib:
        return bad("recordings", detail, "make room, or give the recorder another folder")
    return good("recordings", detail)


def good(name: str, detail: str) -> Check:
    """Return a check that passed."""
    return Check(name, True, True, detail)


def bad(name: str, detail: str, remedy: str) -> Check:
    """Return a check that failed."""
    return Check(name, False, True, detail, remedy)
