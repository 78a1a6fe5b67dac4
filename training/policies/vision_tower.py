"""Runs the vision tower of a Qwen model on many equally shaped images at once.

The Hugging Face tower packs all images into one sequence and attends to them one after the other. Here the positional
constants are computed once per frame size, and views of equal size attend as a batch, which is one kernel per layer
instead of one per image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from training.policies.image_patches import ImageGrid

BATCHED_ATTENTION = "finevla_images"


def batched_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    images: int = 1,
    scaling: float | None = None,
    **ignored: object,
) -> tuple[Tensor, None]:
    """Attend within each of ``images`` equally long images packed into float[1, heads, images * patches, size].

    Returns:
        float[1, images * patches, heads, size], and no weights, as the attention functions of transformers do.
    """
    heads, size = query.shape[1], query.shape[3]
    q, k, v = (x.reshape(heads, images, -1, size).transpose(0, 1) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, scale=scaling)
    return mixed.transpose(1, 2).reshape(1, -1, heads, size), None


AttentionInterface.register(BATCHED_ATTENTION, batched_attention)


def table_taps(grid: ImageGrid, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return indices int64[patches, 4] and weights float32[patches, 4] of the bilinear resampling of a learned table.

    The table is a square of ``side`` entries; its corners meet the corners of the image (align_corners).
    """
    rows, columns = patch_positions(grid).T
    row = _axis_taps(rows, grid.rows, side)
    column = _axis_taps(columns, grid.columns, side)
    indices = np.stack([r[0] * side + c[0] for r in row for c in column], axis=1)
    weights = np.stack([r[1] * c[1] for r in row for c in column], axis=1)
    return indices, weights.astype(np.float32)


def patch_positions(grid: ImageGrid) -> npt.NDArray[np.int64]:
    """Return int64[patches, 2], row and column of every patch in merge-block order."""
    rows, columns = np.meshgrid(np.arange(grid.rows), np.arange(grid.columns), indexing="ij")
    both = np.stack([rows, columns], axis=-1)
    blocks = both.reshape(grid.token_rows, grid.merge, grid.token_columns, grid.merge, 2)
    return np.asarray(blocks.transpose(0, 2, 1, 3, 4).reshape(-1, 2), dtype=np.int64)


class VisionConstants(nn.Module):
    """Positional constants of one frame size, kept as buffers so that they follow the model to its device."""

    indices: Tensor
    weights: Tensor
    positions: Tensor

    def __init__(self, grid: ImageGrid, side: int) -> None:
        """Precompute for a learned table of ``side`` x ``side`` entries."""
        super().__init__()
        indices, weights = table_taps(grid, side)
        self.register_buffer("indices", torch.tensor(indices), persistent=False)
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.register_buffer("positions", torch.tensor(patch_positions(grid)), persistent=False)


def run_tower(tower: PreTrainedModel, patches: Tensor, grid: ImageGrid, constants: VisionConstants) -> list[Tensor]:
    """Return what the language model reads of the images: float[images, tokens, width], then deepstack features.

    Args:
        tower: ``.visual`` of the model, with the batched attention above.
        patches: float[images, patches, patch size], all of one grid.
        grid: their grid.
        constants: its constants.
    """
    images = patches.shape[0]
    packed = images * grid.patches
    # The tower splits the packed sequence at these lengths on the CPU; one stretch leaves it whole, and the
    # batched attention separates the images again.
    out = tower(
        patches.reshape(packed, -1).to(tower.dtype),
        grid_thw=torch.tensor([[1, grid.rows, grid.columns]]).expand(images, -1),
        interp_indices=constants.indices.repeat(images, 1),
        interp_weights=constants.weights.repeat(images, 1),
        position_ids=constants.positions.repeat(images, 1),
        cu_seqlens=torch.tensor([0, packed], dtype=torch.int32),
        images=images,
    )
    features = [out.pooler_output, *getattr(out, "deepstack_features", ())]
    return [feature.reshape(images, grid.tokens, -1) for feature in features]


def _axis_taps(
    index: npt.NDArray[np.int64], count: int, side: int
) -> tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]], ...]:
    """Return two (entry, weight) pairs per patch along one axis."""
    where = np.linspace(0.0, side - 1.0, count, dtype=np.float32)[index]
    low = np.floor(where).astype(np.int64)
    share = (where - low).astype(np.float32)
    return (low, 1.0 - share), (np.minimum(low + 1, side - 1), share)
