"""Rotary position embeddings applied in graphs."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first ``cos.shape[-1]`` channels of every head, in float32, and keep the rest.

    Args:
        x: float[B, H, S, D].
        cos, sin: float32[S, R] with R <= D; the two halves of the R channels form the rotated pairs.
    """
    width = cos.shape[-1]
    turned, kept = x[..., :width].float(), x[..., width:]
    half = width // 2
    partner = torch.cat([-turned[..., half:], turned[..., :half]], dim=-1)
    turned = (turned * cos + partner * sin).to(x.dtype)
    return torch.cat([turned, kept], dim=-1) if kept.shape[-1] else turned
