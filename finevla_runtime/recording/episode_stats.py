"""Per-episode statistics as LeRobot v2.1 stores them in ``episodes_stats.jsonl``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.recording.film_strip import spread
from finevla_runtime.recording.json_lines import JsonObject

_MIN_SAMPLES, _MAX_SAMPLES, _POWER = 100, 10_000, 0.75


def column_stats(rows: npt.NDArray[np.float64]) -> JsonObject:
    """Return min, max, mean, std and count of [T] or [T, n] rows; one number per dimension."""
    table = rows.reshape(len(rows), -1)
    return {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": table.mean(axis=0).tolist(),
        "std": table.std(axis=0).tolist(),
        "count": [len(rows)],
    }


def whole_stats(values: npt.NDArray[np.int64]) -> JsonObject:
    """Return the statistics of a whole-number column; min and max stay whole numbers."""
    return {
        **column_stats(values.astype(np.float64)),
        "min": [int(values.min())],
        "max": [int(values.max())],
    }


def image_stats(frames: ByteArray) -> JsonObject:
    """Return the statistics of uint8[T, h, w, 3] frames per channel, scaled to 0..1, each of shape (3, 1, 1).

    Long episodes are sampled as LeRobot does: T to the power 0.75 frames, at least 100, evenly spread.
    """
    wanted = max(_MIN_SAMPLES, min(int(len(frames) ** _POWER), _MAX_SAMPLES))
    picked = frames[spread(len(frames), wanted)]
    pixels = picked.reshape(-1, 3)
    count = len(pixels)
    total = pixels.sum(axis=0, dtype=np.int64)
    squares = np.einsum("nc,nc->c", pixels, pixels, dtype=np.int64, casting="unsafe")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))

    def shaped(values: npt.NDArray[np.float64]) -> list[list[list[float]]]:
        return [[[float(number) / 255.0]] for number in values]

    return {
        "min": shaped(pixels.min(axis=0).astype(np.float64)),
        "max": shaped(pixels.max(axis=0).astype(np.float64)),
        "mean": shaped(mean),
        "std": shaped(std),
        "count": [len(picked)],
    }
