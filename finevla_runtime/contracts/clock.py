"""The one place that reads the machine's time.

Time is an argument everywhere else: a Clock is passed in, so that faults such as a stale observation are plain
unit tests on a ManualClock. Only the machine that moves the robot judges ages; stamps are monotonic.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol


class Clock(Protocol):
    """Reads monotonic nanoseconds and waits."""

    def now_ns(self) -> int:
        """Return monotonic nanoseconds; only differences mean anything."""
        ...

    def sleep_s(self, duration_s: float) -> None:
        """Wait ``duration_s`` seconds."""
        ...


class SteadyClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Return the machine's monotonic nanoseconds."""
        return time.monotonic_ns()

    def sleep_s(self, duration_s: float) -> None:
        """Block the calling thread for ``duration_s`` seconds."""
        time.sleep(duration_s)


class ManualClock:
    """A clock that a test moves by hand."""

    def __init__(self, start_ns: int = 0) -> None:
        """Start at ``start_ns`` nanoseconds."""
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the nanoseconds set so far."""
        return self._now_ns

    def sleep_s(self, duration_s: float) -> None:
        """Advance by ``duration_s`` seconds without waiting."""
        self.advance_s(duration_s)

    def advance_s(self, duration_s: float) -> None:
        """Move the clock forward by ``duration_s`` seconds."""
        self._now_ns += round(duration_s * 1e9)


def elapsed_s(clock: Clock, since_ns: int) -> float:
    """Return the seconds between ``since_ns`` and now on ``clock``."""
    return (clock.now_ns() - since_ns) / 1e9


def process_cpu_s() -> float:
    """Return the CPU seconds this process has used; benchmarks quote these instead of wall time."""
    return time.process_time()


def wall_clock_utc() -> str:
    """Return the date and time as ISO-8601 UTC, for records that people read; never for ages."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
