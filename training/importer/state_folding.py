"""State statistics of a run, folded into the first layer that reads the state.

Upstream scales the state by its own statistics. A PolicySpec has one set, that of the action rows, and the processor
scales the state by it. Both are affine per dimension, so a GR00T state encoder, whose first layer is linear, can absorb
the difference exactly. OFT reads the state as text, where nothing can absorb it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import Normalisation
from training.importer.decision import Decision
from training.importer.renaming import STATE_ENCODER

_FIRST = f"{STATE_ENCODER}layer1"


def affine(stats: Normalisation) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (offset, scale) per dimension with model = (robot - offset) / scale; binary dimensions give (0, 1)."""
    offset, scale = np.zeros(len(stats.mode)), np.ones(len(stats.mode))
    for index, (mode, low, high) in enumerate(zip(stats.mode, stats.low, stats.high, strict=True)):
        if mode in ("q99", "min_max") and low != high:
            offset[index], scale[index] = (low + high) / 2, (high - low) / 2
        elif mode == "mean_std" and high != 0:
            offset[index], scale[index] = low, high
    return offset, scale


def state_differs(rows: Normalisation, state: Normalisation) -> bool:
    """Tell whether scaling a state by the statistics of the rows gives other numbers than its own statistics."""
    return not all(np.allclose(a, b, rtol=0, atol=1e-9) for a, b in zip(affine(rows), affine(state), strict=True))


def refuse_state_text(rows: Normalisation, state: Normalisation) -> None:
    """Refuse an OFT policy whose state is scaled unlike its actions (SetupError FV-IMP-022)."""
    if state_differs(rows, state):
        raise SetupError(
            "FV-IMP-022",
            "the run writes its state into the prompt, scaled by statistics of the state; this project scales it by "
            "the statistics of the actions, and these differ. Such an OFT policy cannot be imported; one trained "
            "without state (include_state: false) can.",
        )


def fold_state(
    tensors: Mapping[str, Tensor], rows: Normalisation, state: Normalisation, modes: Sequence[str]
) -> tuple[dict[str, Tensor], Decision]:
    """Return weights whose state encoder reads states scaled by the statistics of the rows.

    With s = (a * scale_a + offset_a - offset_s) / scale_s, the first layer W s + b becomes W' a + b', computed in
    float64. A dimension that never moved in the run's data was always 0 upstream; its column becomes 0.

    Args:
        tensors: weights under our names, with a state encoder.
        rows: statistics of the action rows.
        state: statistics of the state, same order.
        modes: modes the run trained with.
    """
    (row_offset, row_scale), (state_offset, state_scale) = affine(rows), affine(state)
    factor = row_scale / state_scale
    shift = (row_offset - state_offset) / state_scale
    # ``to_normalisation`` turns a min_max dimension without spread into another mode.
    frozen = [i for i, (asked, used) in enumerate(zip(modes, state.mode, strict=True)) if asked != used]
    factor[frozen], shift[frozen] = 0.0, 0.0
    weight, bias = tensors[f"{_FIRST}.weight"].double(), tensors[f"{_FIRST}.bias"].double()
    folded = dict(tensors)
    folded[f"{_FIRST}.weight"] = (weight * torch.from_numpy(factor)).float()
    folded[f"{_FIRST}.bias"] = (bias + weight @ torch.from_numpy(shift)).float()
    why = "the run scales its state by statistics of the state; the difference is folded into the state encoder"
    return folded, Decision("state_statistics", "folded", why)
