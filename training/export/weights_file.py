"""The weights of all graphs of a bundle in one file, each stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Memory maps start at whole pages: 4 KiB on Linux, 64 KiB steps on Windows; the large ones decide the file's size.
PAGE = 4096
LARGE_PAGE = 65536
LARGE = 1 << 20
SMALL_STEP = 64
# Bytes hashed and written at a time, so that a matrix is never held twice.
PIECE = 1 << 26


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tensor lies.

    Attributes:
        offset: first byte.
        size: number of bytes.
    """

    offset: int
    size: int


class WeightsFile:
    """Appends tensors; equal bytes share one span. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file = path.open("wb")
        self._end = 0
        self._by_content: dict[bytes, Span] = {}
        self._by_place: dict[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], tuple[Tensor, Span]] = {}

    def __enter__(self) -> WeightsFile:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, tensor: Tensor) -> Span:
        """Return the span of a tensor's elements in C order, little endian, after writing them if they are new."""
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        known = self._by_place.get(place)
        if known is None:
            # The tensor is kept so that its address cannot come to mean another one.
            known = (tensor, self._add(tensor.detach().cpu().contiguous()))
            self._by_place[place] = known
        return known[1]

    def _add(self, tensor: Tensor) -> Span:
        flat: npt.NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
        data = flat.data
        digest = hashlib.sha256()
        for first in range(0, len(data), PIECE):
            digest.update(data[first : first + PIECE])
        known = self._by_content.get(digest.digest())
        if known is not None:
            return known
        step = LARGE_PAGE if len(data) >= LARGE else PAGE if len(data) >= PAGE else SMALL_STEP
        offset = -(-self._end // step) * step
        self._file.write(bytes(offset - self._end))
        for first in range(0, len(data), PIECE):
            self._file.write(data[first : first + PIECE])
        self._end = offset + len(data)
        span = Span(offset, len(data))
        self._by_content[digest.digest()] = span
        return span


def entry(tensor: Tensor, span: Span) -> Mapping[str, object]:
    """Return what a reader needs to map a tensor: type, shape, offset, bytes."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": kind, "shape": list(tensor.shape), "offset": span.offset, "bytes": span.size}
