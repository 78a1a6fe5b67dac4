"""How other projects turn chunks into commands, written here from descriptions of their scripts.

Every strategy lives on a simulated clock and a tick of 5 ms. Where a description leaves something open, the smoother
reading is taken: all go over rows on straight lines at the full rate instead of sending each row as one step, and all
drop the rows that are over when an answer comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

JointArray = npt.NDArray[np.float64]
TICK_NS = 5_000_000
STEP_NS = 100_000_000
TICKS_PER_ROW = STEP_NS // TICK_NS


@dataclass(frozen=True, eq=False)
class Placed:
    """One chunk as it was executed.

    Attributes:
        from_ns: when it began to count.
        begin_ns: one step before its first row is due.
        rows: float64[n, 14], all that it wanted executed.
    """

    from_ns: int
    begin_ns: int
    rows: JointArray

    @property
    def end_ns(self) -> int:
        """Return when its last row is due."""
        return self.begin_ns + STEP_NS * len(self.rows)


class Motion(Protocol):
    """Chunks in, one position per tick out.

    Attributes:
        placed: the chunks in the order in which they counted.
        limited, held: ticks in which a guard limited the motion or held it.
        stopped: why a guard stopped the motion for good; empty while it did not.
    """

    placed: list[Placed]
    limited: int
    held: int
    stopped: str

    def wants(self, now_ns: int) -> bool:
        """Return whether the policy shall be asked about what is seen now; nothing is asked before the answer."""
        ...

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Take an answer, float64[n, 14]."""
        ...

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return float64[14], what is sent now."""
        ...


class Line:
    """Straight lines through points that are one step apart."""

    def __init__(self, begin_ns: int, points: JointArray) -> None:
        """Be at the first of float64[n, 14] points at ``begin_ns``."""
        self.begin_ns, self.points = begin_ns, points

    def at(self, now_ns: int) -> JointArray:
        """Return float64[14]; the last point after the end."""
        place = np.clip((now_ns - self.begin_ns) / STEP_NS, 0.0, len(self.points) - 1)
        before = min(int(place), len(self.points) - 2)
        share = place - before
        return np.asarray((1.0 - share) * self.points[before] + share * self.points[before + 1])


class Following:
    """What all strategies here share: the command so far, and what was placed."""

    def __init__(self, here: JointArray) -> None:
        """Stand at float64[14]."""
        self.placed: list[Placed] = []
        # Nobody limits or holds these motions.
        self.limited = self.held = 0
        self.stopped = ""
        self.here = here.copy()

    def place(self, begin_ns: int, rows: JointArray, now_ns: int) -> None:
        """Note that a chunk counts from now on."""
        self.placed.append(Placed(now_ns, begin_ns, rows))


class WholeChunks(Following):
    """RDT's script: execute every row open loop, stand, ask, wait for the answer, execute."""

    def __init__(self, here: JointArray) -> None:
        """Stand at float64[14]."""
        super().__init__(here)
        self._line: Line | None = None

    def wants(self, now_ns: int) -> bool:
        """Ask when the last row has been reached."""
        return not self.placed or now_ns >= self.placed[-1].end_ns

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Begin at the first row; nothing moved meanwhile."""
        del seen_ns
        self._line = Line(now_ns, np.vstack([self.here, rows]))
        self.place(now_ns, rows, now_ns)

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return the point on the line."""
        del measured
        if self._line is not None:
            self.here = self._line.at(now_ns)
        return self.here


class ReplacedAtOnce(Following):
    """Asynchronous queues without blending: the newest chunk is followed from the tick on in which it comes."""

    def __init__(self, here: JointArray, execution_rows: int) -> None:
        """Ask again after ``execution_rows``."""
        super().__init__(here)
        self._horizon_ns = execution_rows * STEP_NS
        self._line: Line | None = None
        self._seen_ns: int | None = None
        self._seen_here = self.here

    def wants(self, now_ns: int) -> bool:
        """Ask one execution horizon after the last observation."""
        is_due = self._seen_ns is None or now_ns - self._seen_ns >= self._horizon_ns
        if is_due:
            self._seen_here = self.here
        return is_due

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Go on where the new chunk is by now; the first one finds the body at rest."""
        begin_ns = now_ns if self._line is None else seen_ns
        self._seen_ns = begin_ns
        self._line = Line(begin_ns, np.vstack([self._seen_here, rows]))
        self.place(begin_ns, rows, now_ns)

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return the point on the newest line."""
        del measured
        if self._line is not None:
            self.here = self._line.at(now_ns)
        return self.here


class Bridged(Following):
    """AgileX's openpi client: parabolas through three rows each, and a straight bridge to a chunk's first row."""

    BRIDGE_TICKS = 50

    def __init__(self, here: JointArray, execution_rows: int) -> None:
        """Ask again after ``execution_rows``."""
        super().__init__(here)
        self._horizon_ns = execution_rows * STEP_NS
        self._seen_ns: int | None = None
        self._points: list[JointArray] = []

    def wants(self, now_ns: int) -> bool:
        """Ask one execution horizon after the last observation."""
        return self._seen_ns is None or now_ns - self._seen_ns >= self._horizon_ns

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Bridge to the first row that is still to come, then follow the rows upsampled to every tick."""
        begin_ns = now_ns if self._seen_ns is None else seen_ns
        self._seen_ns = begin_ns
        coming = rows[(now_ns - begin_ns) // STEP_NS :]
        shares = np.arange(1, self.BRIDGE_TICKS + 1)[:, None] / self.BRIDGE_TICKS
        bridge = self.here + shares * (coming[0] - self.here)
        self._points = [*bridge, *upsampled(coming)]
        self.place(begin_ns, rows, now_ns)

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return the next point."""
        del now_ns, measured
        if self._points:
            self.here = self._points.pop(0)
        return self.here


def upsampled(rows: JointArray) -> JointArray:
    """Return float64[(n - 1) * 20, 14]: the ticks after the first row up to the last, on parabolas.

    Each interval lies on the parabola through its two rows and the row before (the first one: the row after).
    """
    if len(rows) < 3:
        return np.array([Line(0, rows).at(tick * TICK_NS) for tick in range(1, (len(rows) - 1) * TICKS_PER_ROW + 1)])
    shares = np.arange(1, TICKS_PER_ROW + 1)[:, None] / TICKS_PER_ROW
    pieces = []
    for last in range(1, len(rows)):
        first = max(0, last - 2)
        a, b, c = rows[first : first + 3]
        t = shares + (last - 1 - first)
        pieces.append(a + t * (b - a) + t * (t - 1.0) / 2.0 * (c - 2.0 * b + a))
    return np.vstack(pieces)


class RowEnsemble(Following):
    """ACT's temporal ensembling: ask at every row, execute the weighted mean of all chunks that predict the row."""

    DECAY = 0.01

    def __init__(self, here: JointArray) -> None:
        """Stand at float64[14]."""
        super().__init__(here)
        self._origin_ns: int | None = None
        self._row = -1
        self._line = Line(0, np.vstack([self.here, self.here]))

    def wants(self, now_ns: int) -> bool:
        """Ask where a row is reached."""
        return self._origin_ns is None or (now_ns - self._origin_ns) % STEP_NS == 0

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Let the chunk count from the next row on."""
        begin_ns = now_ns if self._origin_ns is None else seen_ns
        if self._origin_ns is None:
            self._origin_ns = now_ns
        self.place(begin_ns, rows, now_ns)

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return the point on the way from the last mean to the next."""
        del measured
        if self._origin_ns is None:
            return self.here
        row = (now_ns - self._origin_ns) // STEP_NS
        if row != self._row:
            self._row = row
            begin_ns = self._origin_ns + row * STEP_NS
            self._line = Line(begin_ns, np.vstack([self._line.points[-1], self._mean(begin_ns)]))
        self.here = self._line.at(now_ns)
        return self.here

    def _mean(self, begin_ns: int) -> JointArray:
        """Return the mean of the rows that are due one step after ``begin_ns``; the oldest weighs most."""
        found = [
            chunk.rows[index]
            for chunk in self.placed
            if 0 <= (index := (begin_ns - chunk.begin_ns) // STEP_NS) < len(chunk.rows)
        ]
        if not found:
            return self._line.points[-1]
        weights = np.exp(-self.DECAY * np.arange(len(found)))
        return np.asarray(np.average(found, axis=0, weights=weights))
