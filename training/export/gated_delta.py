"""The gated delta rule of linear attention layers without loops over rows or tokens.

State S of one head, one token: S <- exp(g) S; S <- S + beta k (v - S^T k)^T; out = S^T q. Arguments of the rule:
k float32[B, S, H, Dk] of unit length, q the same divided by sqrt(Dk), v float32[B, S, H, Dv], decay g
float32[B, S, H] at most 0, beta float32[B, S, H] in 0..1.

Hugging Face's own export branch writes a loop over 63 rows per chunk into the graph. Here are two forms that leave
torch well: chunks whose triangular systems are inverted by block doubling (only products, fixed length), and one
triangular solve over the whole prompt (any length, torch only). The third form is ONNX Runtime's own operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.export.operations import Operations, Value

CHUNK = 64
# Far below any logarithm of a decay, and exp gives exactly zero; infinity would make TensorRT's exp undefined.
NEVER = -1e9


def block_inverse_rule(ops: Operations, q: Value, k: Value, v: Value, decay: Value, beta: Value, length: int) -> Value:
    """Return float32[B, S, H, Dv] in chunks of 64 tokens; the scan over the chunks is unrolled.

    Within a chunk the updates of all tokens solve one unit lower triangular system, see :func:`unit_inverse`.
    """
    q, k, v = (_chunks(ops, x, length) for x in (q, k, v))
    rate, log_decay = (_chunks(ops, ops.reshape(x, 0, 0, -1, 1), length) for x in (beta, decay))
    total = ops.cumsum(log_decay, 3)
    kept = _pairwise_decay(ops, total)
    k_across = ops.transpose(k, 0, 1, 2, 4, 3)
    k_rated = k * rate
    inverse = unit_inverse(ops, (k_rated @ k_across) * kept)
    grown = ops.elementwise("exp", total)
    new_values, seen_keys = inverse @ (v * rate), inverse @ (k_rated * grown)
    inner, reading = (q @ k_across) * kept, q * grown
    last = ops.slice(total, 3, CHUNK - 1, CHUNK)
    writing = ops.transpose(k * ops.elementwise("exp", last - total), 0, 1, 2, 4, 3)
    fading = ops.elementwise("exp", last)
    rows: list[Value] = []
    state: Value | None = None
    for i in range(-(-length // CHUNK)):
        fresh, keys_i, inner_i, reading_i, writing_i, fading_i = (
            _chunk(ops, x, i) for x in (new_values, seen_keys, inner, reading, writing, fading)
        )
        if state is None:
            rows.append(inner_i @ fresh)
            state = writing_i @ fresh
            continue
        fresh = fresh - keys_i @ state
        rows.append(reading_i @ state + inner_i @ fresh)
        state = state * fading_i + writing_i @ fresh
    out = rows[0] if len(rows) == 1 else ops.concat(rows, 2)
    return ops.transpose(ops.slice(out, 2, 0, length), 0, 2, 1, 3)


def unit_inverse(ops: Operations, system: Value) -> Value:
    """Return the inverse of I + tril(system, -1), float32[..., 64, 64], exactly, in six doublings.

    If ``inv`` inverts the diagonal blocks of size s and C holds the blocks of size s below them, then
    ``inv - inv @ C @ inv`` inverts the diagonal blocks of size 2s. Nothing is divided, so near-identical keys with
    update rates close to one are as exact as in forward substitution.
    """
    # With blocks of one the inverse is the identity, which saves the first pair of products.
    inverse = ops.weight(torch.eye(CHUNK), name="delta.identity") - system * _below_diagonal(ops, 1)
    size = 2
    while size < CHUNK:
        inverse = inverse - inverse @ (system * _below_diagonal(ops, size)) @ inverse
        size *= 2
    return inverse


def whole_sequence_rule(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """Return float32[B, S, H, Dv] with the whole prompt as one chunk: one triangular solve, no scan, any length.

    The running sum of decays grows with the prompt, so differences are taken in float64.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    rate = beta.transpose(1, 2).unsqueeze(-1)
    total = decay.transpose(1, 2).double().cumsum(-1)
    # Counted, not made with arange: an exported program would keep the device it was traced on.
    place = torch.ones_like(total[0, 0]).cumsum(-1)
    difference = total.unsqueeze(-1) - total.unsqueeze(-2)
    kept = difference.masked_fill(place.unsqueeze(-1) < place.unsqueeze(-2), float("-inf")).exp().float()
    system = ((k * rate) @ k.transpose(-1, -2)) * kept
    fresh = torch.linalg.solve_triangular(system, v * rate, upper=False, unitriangular=True)
    out: Tensor = ((q @ k.transpose(-1, -2)) * kept) @ fresh
    return out.transpose(1, 2)


def _below_diagonal(ops: Operations, size: int) -> Value:
    """Return a 0/1 mask [64, 64] of the lower left quarters of the diagonal blocks of size 2 * ``size``."""
    block = torch.arange(CHUNK) // size
    mask = (block[:, None] % 2 == 1) & (block[None, :] == block[:, None] - 1)
    return ops.weight(mask.float(), name=f"delta.below{size}")


def _pairwise_decay(ops: Operations, total: Value) -> Value:
    """Return exp(total_i - total_j) for j <= i and 0 above, float32[..., 64, 64]."""
    future = torch.ones(CHUNK, CHUNK).triu(1)
    # Masked before exp: differences above the diagonal are positive and could overflow.
    masked = ops.weight(future * NEVER, name="delta.future")
    past = ops.weight(1.0 - future, name="delta.past")
    return ops.elementwise("exp", (total - ops.transpose(total, 0, 1, 2, 4, 3)) * past + masked)


def _chunks(ops: Operations, x: Value, length: int) -> Value:
    """Return float32[B, H, chunks, 64, D] of [B, S, H, D], padded to whole chunks."""
    x = ops.transpose(x, 0, 2, 1, 3)
    missing = -length % CHUNK
    padded = ops.pad(x, 2, 0, missing) if missing else x
    # The width comes from the value itself; two unknown sizes cannot both be inferred.
    return ops.reshape(padded, 0, 0, (length + missing) // CHUNK, CHUNK, -1)


def _chunk(ops: Operations, x: Value, index: int) -> Value:
    """Return chunk ``index`` without its axis."""
    return ops.squeeze(ops.slice(x, 2, index, index + 1), 2)
