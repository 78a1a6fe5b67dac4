"""A least-recently-used store bounded by bytes, shared by the threads of a loader."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from finevla_runtime.contracts.errors import SetupError

Key = TypeVar("Key")
Value = TypeVar("Value")


class ByteCache(Generic[Key, Value]):
    """Keeps what was used last; the sum of the sizes never exceeds the capacity, not even while something is added."""

    def __init__(self, capacity_bytes: int) -> None:
        """Begin empty (FV-DAT-020 for a negative capacity; 0 keeps nothing)."""
        if capacity_bytes < 0:
            raise SetupError("FV-DAT-020", f"cache capacity is {capacity_bytes} bytes, wanted 0 or more.")
        self.capacity_bytes = capacity_bytes
        self.peak_bytes = 0
        self.hits = 0
        self.misses = 0
        self._used_bytes = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """Return the sum of the sizes of everything kept."""
        return self._used_bytes

    def get(self, key: Key) -> Value | None:
        """Return what is kept under ``key`` and mark it as used, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keep ``value``, forgetting what was not used for longest; a value above the capacity is not kept."""
        if size_bytes > self.capacity_bytes:
            return
        with self._lock:
            replaced = self._entries.pop(key, None)
            if replaced is not None:
                self._used_bytes -= replaced[1]
            while self._used_bytes + size_bytes > self.capacity_bytes:
                _, (_, forgotten) = self._entries.popitem(last=False)
                self._used_bytes -= forgotten
            self._entries[key] = (value, size_bytes)
            self._used_bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self._used_bytes)
