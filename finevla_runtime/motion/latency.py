"""How long answers take, from the rows that were over when they came."""

from __future__ import annotations

from collections import deque

import numpy as np

# Answers that count; at one answer in half a second this is the last half minute.
WINDOW = 64


class Latency:
    """Times between observation and admitted chunk.

    The first answer after a start is left out: engines, connections and caches are cold then, and one such answer would
    make every following request come much too early.
    """

    def __init__(self) -> None:
        """Begin without any figure."""
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._cold = True

    def restart(self) -> None:
        """The next answer is a first one again."""
        self._cold = True

    def add(self, seconds: float) -> None:
        """Count one answer."""
        if self._cold:
            self._cold = False
            return
        self._seconds.append(seconds)

    def quantile_s(self, share: float) -> float:
        """Return the time within which this share of the answers came; 0 while nothing is known."""
        return float(np.quantile(self._seconds, share)) if self._seconds else 0.0

    def rows(self, step_s: float) -> int:
        """Return the rows that will be over when the next answer comes, on the safe side: 95 of 100 answers."""
        return int(np.ceil(self.quantile_s(0.95) / step_s))
