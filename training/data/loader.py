"""Prepares the batches of the next steps in background threads, in order and with bounded memory.

Threads, not processes: decoding, resizing and tokenising release the interpreter lock, one cache serves all of them,
and an error keeps its type. Each batch is a function of its step alone, so the number of threads cannot change what is
trained on; only when it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from finevla_runtime.contracts.errors import SetupError

Item = TypeVar("Item")


class PrefetchingLoader(Generic[Item]):
    """Gives the item of a step, usually built before it was asked for.

    At most ``ahead`` items exist besides the one in use: memory is bounded however fast the threads are.
    """

    def __init__(
        self, build: Callable[[int], Item], workers: int, ahead: int = 0, last_step: int | None = None
    ) -> None:
        """Start no work yet.

        Args:
            build: item of a step, for example ``BatchBuilder.build``.
            workers: threads; 0 builds in the caller's thread when asked.
            ahead: items to prepare in advance; 0 means two per worker.
            last_step: nothing is prepared from this step on.

        Raises:
            SetupError: FV-DAT-021 for negative numbers.
        """
        if workers < 0 or ahead < 0:
            raise SetupError("FV-DAT-021", f"{workers} workers, {ahead} batches ahead; wanted 0 or more of each.")
        self._build = build
        self._ahead = ahead or 2 * workers
        self._last_step = last_step
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._pending: dict[int, Future[Item]] = {}

    def __enter__(self) -> PrefetchingLoader[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def prepared(self) -> int:
        """Return how many items are built or being built."""
        return len(self._pending)

    def item(self, step: int) -> Item:
        """Return the item of ``step`` and go on with the steps after it.

        Any step may be asked for; after a jump (a resumed run) what was prepared for other steps is dropped.

        Raises:
            FineVLAError: what ``build`` raised for this very step; an error of a later one waits until it is due.
        """
        if self._pool is None:
            return self._build(step)
        wanted = range(step, step + self._ahead + 1)
        for number in [number for number in self._pending if number not in wanted]:
            self._pending.pop(number).cancel()
        mine = self._pending.pop(step, None) or self._pool.submit(self._build, step)
        for number in wanted[1:]:
            if number not in self._pending and (self._last_step is None or number < self._last_step):
                self._pending[number] = self._pool.submit(self._build, number)
        return mine.result()

    def items(self, steps: range) -> Iterator[Item]:
        """Yield the items of consecutive steps."""
        for step in steps:
            yield self.item(step)

    def close(self) -> None:
        """Drop what was prepared and wait for the threads."""
        for future in self._pending.values():
            future.cancel()
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
