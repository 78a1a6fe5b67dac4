"""Stamps of another clock on the robot's own: a sender's clock is never trusted, only its differences."""

from __future__ import annotations

from collections import deque

# Messages over which the fastest delivery is remembered; clocks drift by less than a millisecond in that time.
WINDOW = 200
# Deliveries in a row that must agree before a clock is believed to have been set anew.
AGREEING = 5
# A change of the offset beyond this is a clock that was set, not a slow delivery.
STEP_S = 0.5


class StampClock:
    """Maps the stamps of one source to the robot's monotonic clock.

    The fastest delivery seen lately gives the offset between the clocks; what a message took longer is the age it
    arrived with. A constant delay cannot be seen from this side and must be told.
    """

    def __init__(self, delay_s: float = 0.0, step_s: float = STEP_S) -> None:
        """Begin without an offset.

        Args:
            delay_s: what the fastest delivery takes, from capture to arrival.
            step_s: a change of the offset beyond this is a clock that was set, not a slow delivery.
        """
        self._delay_ns = round(delay_s * 1e9)
        self._step_ns = round(step_s * 1e9)
        self._offsets: deque[int] = deque(maxlen=WINDOW)
        self._odd: list[int] = []
        self.steps = 0

    def captured_ns(self, stamp_ns: int, arrived_ns: int) -> int:
        """Return when a message was captured, on the robot's clock, never later than its arrival.

        Args:
            stamp_ns: the sender's stamp, any clock; 0 when the driver does not stamp.
            arrived_ns: the robot's monotonic clock at arrival.
        """
        if stamp_ns == 0:
            return arrived_ns - self._delay_ns
        offset = arrived_ns - stamp_ns
        if self._offsets and abs(offset - min(self._offsets)) > self._step_ns:
            self._set_anew(offset)
        else:
            self._odd.clear()
            self._offsets.append(offset)
        fastest = min(self._offsets)
        return min(arrived_ns, stamp_ns + fastest) - self._delay_ns

    def _set_anew(self, offset: int) -> None:
        """Believe in a new offset when several messages in a row agree on it; a single late one says nothing."""
        self._odd = [odd for odd in self._odd if abs(odd - offset) <= self._step_ns]
        self._odd.append(offset)
        if len(self._odd) >= AGREEING:
            self._offsets.clear()
            self._offsets.extend(self._odd)
            self._odd.clear()
            self.steps += 1
