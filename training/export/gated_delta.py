"""The gated delta rule of linear attention layers in forms that leave torch: without loops over rows or tokens.

Hugging Face's own export branch writes a loop over 63 rows per chunk into the graph. Two dialects replace it: one
``LinearAttention`` node (ONNX Runtime runs it for any length), and a block-doubling inverse made of standard
operators (TensorRT parses it; the length is fixed).
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64


class DeltaRule(Protocol):
    """One dialect of the rule."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        """Return float32[B, S, H, Dv].

        Args:
            query, key: float32[B, S, H, Dk], of unit length; the rule scales queries by 1/sqrt(Dk).
            value: float32[B, S, H, Dv].
            decay: float32[B, S, H], logarithm of the factor on the state, at most 0.
            beta: float32[B, S, H], update rate in 0..1.
        """
        ...


def linear_attention_node(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """Write one ``com.microsoft::LinearAttention`` node; only for tracing, torch itself gets no numbers from it.

    The ONNX standard has the same operator (opset 27). The contributed one is used because it does not bind the
    whole graph to that opset; both run in ONNX Runtime 1.32 on the CPU.
    """
    batch, length, heads, width = value.shape
    out, _ = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::LinearAttention",
        [query.flatten(2), key.flatten(2), value.flatten(2), None, decay, beta],
        {"q_num_heads": heads, "kv_num_heads": heads, "update_rule": "gated_delta", "chunk_size": CHUNK},
        dtypes=[torch.float32, torch.float32],
        shapes=[(batch, length, heads * width), (batch, heads, key.shape[-1], width)],
        version=1,
    )
    return out.reshape(batch, length, heads, width)


def block_inverse_rule(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """Compute the rule in chunks of 64 tokens; the scan over chunks is unrolled, so the length must be fixed.

    Within a chunk the updates of all tokens solve one unit lower triangular system; see :func:`unit_inverse`.
    Everything is float32 because the system is badly scaled in half precision when keys repeat.
    """
    length, scale = value.shape[1], query.shape[-1] ** -0.5
    q, k, v = (_chunks(x.transpose(1, 2)) for x in (query * scale, key, value))
    # The trailing unit axis lets the rates follow the same path as the vectors.
    rate, log_decay = (_chunks(x.transpose(1, 2).unsqueeze(-1)) for x in (beta, decay))
    total = log_decay.cumsum(dim=3)
    kept = _pairwise_decay(total)
    inverse = unit_inverse(((k * rate) @ k.transpose(-1, -2)) * kept)
    grown = total.exp()
    new_values = inverse @ (v * rate)
    seen_keys = inverse @ (k * rate * grown)
    inner = (q @ k.transpose(-1, -2)) * kept
    reading = q * grown
    last = total[..., -1:, :]
    writing = (k * (last - total).exp()).transpose(-1, -2)
    fading = last.exp()
    rows = []
    state: Tensor | None = None
    for i in range(v.shape[2]):
        fresh = new_values[:, :, i]
        if state is None:
            rows.append(inner[:, :, i] @ fresh)
            state = writing[:, :, i] @ fresh
            continue
        fresh = fresh - seen_keys[:, :, i] @ state
        rows.append(reading[:, :, i] @ state + inner[:, :, i] @ fresh)
        state = state * fading[:, :, i] + writing[:, :, i] @ fresh
    return torch.cat(rows, dim=2)[:, :, :length].transpose(1, 2)


def unit_inverse(system: Tensor) -> Tensor:
    """Return the inverse of I + tril(system, -1), float32[..., 64, 64], exactly, in six doublings.

    If ``inv`` inverts the diagonal blocks of size s and C holds the blocks of size s below them, then
    ``inv - inv @ C @ inv`` inverts the diagonal blocks of size 2s. Nothing is divided, so near-identical keys with
    update rates close to one are as exact as in forward substitution.
    """
    identity = torch.eye(CHUNK, dtype=system.dtype, device=system.device)
    # With blocks of one the inverse is the identity, which saves the first pair of products.
    inverse = identity - system * _below_diagonal(1, system)
    size = 2
    while size < CHUNK:
        inverse = inverse - inverse @ (system * _below_diagonal(size, system)) @ inverse
        size *= 2
    return inverse


def _below_diagonal(size: int, like: Tensor) -> Tensor:
    """Return a 0/1 mask [64, 64] of the lower left quarters of the diagonal blocks of size 2 * ``size``."""
    block = torch.arange(CHUNK, device=like.device) // size
    odd = block % 2 == 1
    return (odd[:, None] & (block[None, :] == block[:, None] - 1)).to(like.dtype)


def _pairwise_decay(total: Tensor) -> Tensor:
    """Return exp(total_i - total_j) for j <= i and 0 above, float32[..., 64, 64]."""
    difference = total - total.transpose(-1, -2)
    future = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=total.device).triu(1)
    # Masked before exp: differences above the diagonal are positive and could overflow.
    return difference.masked_fill(future, float("-inf")).exp()


def _chunks(x: Tensor) -> Tensor:
    """Pad float[B, H, S, D] to full chunks and return float32[B, H, chunks, 64, D]."""
    padded = F.pad(x, (0, 0, 0, -x.shape[2] % CHUNK))
    return cast(Tensor, padded.unflatten(2, (-1, CHUNK)))
