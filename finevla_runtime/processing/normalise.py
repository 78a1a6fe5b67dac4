"""Joint targets to model units and back (StarVLA's modes: q99, min_max, mean_std, binary)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import Normalisation

MODES = ("q99", "min_max", "mean_std", "binary", "identity")
BINARY_THRESHOLD = 0.5
# Model rows this far outside the normalised range are a broken model or broken statistics, not a motion.
MAX_MODEL_VALUE = 100.0


def check_normalisation(stats: Normalisation, size: int) -> None:
    """Refuse unknown modes, wrong lengths and non-finite statistics before anything is served.

    Raises:
        SetupError: FV-NRM-001 (mode), FV-NRM-002 (length or non-finite value, with the dimension).
    """
    for mode in stats.mode:
        if mode not in MODES:
            raise unknown_name("FV-NRM-001", "normalisation mode", mode, MODES, "statistics")
    if not len(stats.mode) == len(stats.low) == len(stats.high) == size:
        raise SetupError("FV-NRM-002", f"statistics have {len(stats.low)} dimensions, wanted {size}.")
    for index, (low, high) in enumerate(zip(stats.low, stats.high, strict=True)):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise SetupError("FV-NRM-002", f"statistics of dimension {index} are not finite: {low}, {high}.")


def normalise(rows: npt.ArrayLike, stats: Normalisation) -> FloatArray:
    """Return robot-unit rows float32[..., dof] in model units.

    A dimension without spread (low == high, or zero deviation) passes unchanged, as in the reference code.
    """
    values = np.asarray(rows, dtype=np.float64)
    offset, scale = _affine(stats)
    out = (values - offset) / scale
    binary = _binary(stats)
    out[..., binary] = values[..., binary] > BINARY_THRESHOLD
    return np.asarray(out, dtype=np.float32)


def denormalise(rows: npt.ArrayLike, stats: Normalisation) -> FloatArray:
    """Return model-unit rows float32[..., dof] in robot units; clips first when the statistics say so."""
    values = np.array(rows, dtype=np.float64)
    if stats.clip:
        ranged = np.array([mode in ("q99", "min_max") for mode in stats.mode])
        values[..., ranged] = np.clip(values[..., ranged], -1.0, 1.0)
    offset, scale = _affine(stats)
    out = values * scale + offset
    binary = _binary(stats)
    out[..., binary] = values[..., binary] > BINARY_THRESHOLD
    return np.asarray(out, dtype=np.float32)


def fit_normalisation(samples: npt.ArrayLike, modes: Sequence[str], clip: bool) -> Normalisation:
    """Fit statistics on pooled samples float[n, dof]; quantiles are pooled, never averaged over tasks."""
    values = np.asarray(samples, dtype=np.float64)
    low, high = np.zeros(values.shape[1]), np.ones(values.shape[1])
    for index, mode in enumerate(modes):
        column = values[:, index]
        if mode == "q99":
            low[index], high[index] = np.quantile(column, [0.01, 0.99])
        elif mode == "min_max":
            low[index], high[index] = column.min(), column.max()
        elif mode == "mean_std":
            low[index], high[index] = column.mean(), column.std()
    fitted = Normalisation(tuple(modes), tuple(float(v) for v in low), tuple(float(v) for v in high), clip)
    check_normalisation(fitted, values.shape[1])
    return fitted


def _affine(stats: Normalisation) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (offset, scale) such that model = (robot - offset) / scale for the affine modes."""
    offset, scale = np.zeros(len(stats.mode)), np.ones(len(stats.mode))
    for index, (mode, low, high) in enumerate(zip(stats.mode, stats.low, stats.high, strict=True)):
        if mode in ("q99", "min_max") and low != high:
            offset[index], scale[index] = (low + high) / 2, (high - low) / 2
        elif mode == "mean_std" and high != 0:
            offset[index], scale[index] = low, high
    return offset, scale


def _binary(stats: Normalisation) -> npt.NDArray[np.bool_]:
    return np.array([mode == "binary" for mode in stats.mode])
