"""Progress of long runs on stderr: a bar on a terminal, a line every so often elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from finevla_runtime.contracts.clock import Clock, SteadyClock, elapsed_s

_PLAIN_EVERY_S = 10.0


class ProgressLine:
    """Shows how many of a known number of things are done; use as a context manager."""

    def __init__(self, what: str, clock: Clock | None = None) -> None:
        """Name what is counted, for example ``demonstrations``."""
        self._what = what
        self._clock: Clock = clock or SteadyClock()
        self._begin_ns = self._clock.now_ns()
        self._shown_ns = 0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._shown_ns:
            sys.stderr.write("\n")

    def show(self, done: int, total: int, note: str = "") -> None:
        """Show ``done`` of ``total`` with the remaining minutes; ``note`` says more."""
        pause_s = 0.2 if self._terminal else _PLAIN_EVERY_S
        if self._shown_ns and done < total and elapsed_s(self._clock, self._shown_ns) < pause_s:
            return
        self._shown_ns = self._clock.now_ns()
        used_s = elapsed_s(self._clock, self._begin_ns)
        left = f", about {used_s / done * (total - done) / 60.0:.1f} min left" if 0 < done < total else ""
        text = f"{self._what}: {done}/{total}{f' ({note})' if note else ''}{left}"
        if not self._terminal:
            sys.stderr.write(text + "\n")
        else:
            filled = round(24 * done / max(total, 1))
            sys.stderr.write(f"\r\x1b[2K[{'#' * filled}{'.' * (24 - filled)}] {text}")
        sys.stderr.flush()
