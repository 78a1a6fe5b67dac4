"""How late the ticks of a control loop come."""

from __future__ import annotations

from collections import deque

import numpy as np

# Ten seconds at 200 Hz.
WINDOW = 2000


class Lateness:
    """Times by which ticks came later than one period after the one before."""

    def __init__(self, tick_s: float) -> None:
        """Expect a tick every ``tick_s`` seconds."""
        self.tick_s = tick_s
        self.ticks = 0
        self.missed = 0
        self._late_s: deque[float] = deque(maxlen=WINDOW)
        self._last_ns: int | None = None

    def tick(self, now_ns: int) -> None:
        """Count one tick; one that comes a whole period late or more has missed ticks."""
        self.ticks += 1
        if self._last_ns is not None:
            late_s = (now_ns - self._last_ns) / 1e9 - self.tick_s
            self._late_s.append(max(0.0, late_s))
            self.missed += max(0, int(late_s / self.tick_s + 1e-9))
        self._last_ns = now_ns

    def quantile_s(self, share: float) -> float:
        """Return the lateness that this share of the last ticks kept to, seconds."""
        return float(np.quantile(self._late_s, share)) if self._late_s else 0.0
