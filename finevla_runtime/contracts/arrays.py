"""Read-only numpy arrays for frozen values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import FineVLAError, PolicyError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


def frozen_float32(
    value: npt.ArrayLike,
    shape: tuple[int | None, ...],
    what: str,
    code: str,
    error: type[FineVLAError] = PolicyError,
) -> FloatArray:
    """Return ``value`` as a finite, read-only float32 array of ``shape`` (None matches any length).

    Raises:
        FineVLAError: the class ``error`` with ``code``, naming the first wrong index, when the shape is wrong
            or a value is not finite.
    """
    array = np.array(value, dtype=np.float32)
    if array.ndim != len(shape) or any(w is not None and g != w for g, w in zip(array.shape, shape, strict=True)):
        wanted = "x".join("?" if size is None else str(size) for size in shape)
        raise error(code, f"{what} has shape {array.shape}, wanted ({wanted}).")
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise error(code, f"{what} is {array[index]} at index {index}; every value must be finite.")
    array.setflags(write=False)
    return array
