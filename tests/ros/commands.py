"""Every command that was heard on the wire, and whether a body could follow them within its limits."""

from __future__ import annotations

from functools import partial

import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import JointState

from finevla_cobot.qos import profile as keep_last
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.driver_units import from_driver
from finevla_runtime.robot.topic_profile import ARMS, TopicProfile
from finevla_runtime.safety.profile import SafetyProfile
from tests.ros.peer import Peer

# Differences are taken over this time at least: the stamps of two ticks may be off by microseconds against each other
# when the wall clock is looked at anew, which counts most in short times.
SPACING_S = 0.02
# Share of a limit that those microseconds may cost.
STAMPS = 0.03


class CommandRecord:
    """Commands to both arms since ``begin``, paired by their stamps; a busy subscriber may miss some."""

    def __init__(self, peer: Peer, topics: TopicProfile, safety: SafetyProfile) -> None:
        self._safety, self._topics = safety, topics
        self._half: dict[int, dict[str, JointArray]] = {}
        self._rows: list[tuple[int, JointArray]] = []
        for arm in ARMS:
            kind, topic = JointState, topics.arm(arm).command.topic
            peer.node.create_subscription(kind, topic, partial(self._heard, arm), keep_last(1000))

    def begin(self) -> None:
        """Forget what was commanded until now: a robot that starts anew commands from where it stands."""
        self._half, self._rows = {}, []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def last(self) -> JointArray:
        """Return float64[14], the last command."""
        return self._rows[-1][1]

    @property
    def moved(self) -> float:
        """Return how far any joint was ever commanded away from the first command."""
        _, path = self.path()
        return float(np.abs(path - path[0]).max())

    def speed(self, over: int = 3) -> float:
        """Return the speed of the fastest joint over the last few commands, units per second."""
        if len(self._rows) <= over:
            return 0.0
        (begin_ns, begin), (end_ns, end) = self._rows[-1 - over], self._rows[-1]
        return float(np.abs(end - begin).max() / max(1, end_ns - begin_ns) * 1e9)

    def path(self) -> tuple[JointArray, JointArray]:
        """Return the stamps float64[n], seconds since the first, and the commands float64[n, 14]."""
        stamps = np.array([stamp for stamp, _ in self._rows], dtype=np.int64)
        return (stamps - stamps[0]) / 1e9, np.array([row for _, row in self._rows])

    def assert_smooth(self) -> None:
        """No command breaks a limit."""
        assert_smooth(*self.path(), self._safety)

    def _heard(self, arm: str, message: JointState) -> None:
        row = from_driver(self._topics, arm, self._topics.arm(arm).feedback.joints, message.position)
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        both = self._half.setdefault(stamp_ns, {})
        both[arm] = row
        if len(both) == len(ARMS):
            del self._half[stamp_ns]
            self._rows.append((stamp_ns, np.concatenate([both[one] for one in ARMS])))


def assert_smooth(times: JointArray, path: JointArray, safety: SafetyProfile) -> None:
    """No command breaks a limit of position, velocity, acceleration or jerk, seen from outside alone.

    The curve behind the commands has a bounded jerk, and a divided difference over any stamps is a mean of the
    derivative between them, so this holds however regularly the commander ticked and whatever was missed here. It
    cannot be said across a pause longer than the longest tick, after which the guard goes on as after that tick.
    """
    limits, longest_s = safety.limits, safety.longest_tick_s
    assert len(times) > 10, "hardly any command was heard"
    assert (np.diff(times) > 0).all(), "two commands have one stamp, or came out of order"
    assert limits.position_kept(path.min(axis=0)).all()
    assert limits.position_kept(path.max(axis=0)).all()
    gaps = np.diff(times)
    allowed = limits.velocity * gaps[:, None] * (1.0 + STAMPS) + 1e-4
    assert (np.abs(np.diff(path, axis=0)) <= allowed).all(), "a command leaps"
    # Within a tick the acceleration may go beyond its limit and come back within the jerk.
    hidden = limits.jerk * min(longest_s, float(gaps.max())) / 4.0
    for order, (name, limit) in enumerate(
        (("velocity", limits.velocity), ("acceleration", limits.acceleration + hidden), ("jerk", limits.jerk)), 1
    ):
        found = _differences(times, path, order, longest_s)
        worst = float((np.abs(found) / limit).max(initial=0.0))
        assert worst <= 1.0 + STAMPS, f"the {name} is {worst:.2f} times its limit"


def _differences(times: JointArray, path: JointArray, order: int, longest_s: float) -> JointArray:
    """Return float[n, 14], derivatives of an order from commands ``SPACING_S`` apart, none across a long pause."""
    ahead = np.append(times, np.inf)
    columns = [np.arange(len(times))]
    for _ in range(order):
        columns.append(np.searchsorted(times, ahead[columns[-1]] + SPACING_S))
    pauses = np.append(np.concatenate([[0], np.cumsum(np.diff(times) > longest_s)]), -1)
    whole = (columns[-1] < len(times)) & (pauses[columns[0]] == pauses[columns[-1]])
    chosen = [column[whole] for column in columns]
    values = [path[column] for column in chosen]
    for width in range(1, order + 1):
        spans = [times[chosen[i + width]] - times[chosen[i]] for i in range(order + 1 - width)]
        values = [(values[i + 1] - values[i]) * width / spans[i][:, None] for i in range(order + 1 - width)]
    return values[0]
