"""Layers that several graphs share."""

from __future__ import annotations

from torch import nn

from training.export.operations import Operations, Value

# Added to scores that must not be read; in float32 exp of it is exactly zero beside any real score.
MASKED = -1e9


def layer_norm(ops: Operations, x: Value, norm: nn.LayerNorm) -> Value:
    """Return torch's LayerNorm over the last axis."""
    weight = None if norm.weight is None else ops.weight(norm.weight)
    bias = None if norm.bias is None else ops.weight(norm.bias)
    return ops.layer_norm(x, weight, bias, norm.eps, norm.normalized_shape[0])


def attend(ops: Operations, q: Value, k: Value, v: Value, scale: float, mask: Value | None = None) -> Value:
    """Return softmax attention over the axis before the last, in the type of ``v``.

    Args:
        ops: operations.
        q: float[..., T, D].
        k: float[..., D, S], keys across; leading axes broadcast against those of ``q``.
        v: float[..., S, D].
        scale: factor on the products.
        mask: float32 broadcastable to [..., T, S], added to the scores.
    """
    scores = ops.floats(q @ k) * scale
    if mask is not None:
        scores = scores + mask
    return ops.cast(ops.softmax(scores), v.dtype) @ v


def rotate(ops: Operations, x: Value, cos: Value, sin: Value, width: int, size: int) -> Value:
    """Rotate the first ``width`` of ``size`` channels of every head, in float32, and keep the rest.

    Args:
        ops: operations.
        x: float[B, H, S, size].
        cos, sin: float32[S, width]; the two halves of the channels form the rotated pairs.
        width, size: as above.
    """
    kept = ops.slice(x, 3, width, None) if width < size else None
    turned = ops.floats(x if kept is None else ops.slice(x, 3, 0, width))
    low, high = ops.slice(turned, 3, 0, width // 2), ops.slice(turned, 3, width // 2, None)
    turned = ops.cast(turned * cos + ops.concat([high * -1.0, low], 3) * sin, x.dtype)
    return turned if kept is None else ops.concat([turned, kept], 3)
