"""Graphs carried out by torch: the reference of every other dialect, and what torch.export traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.export.gated_delta import whole_sequence_rule
from training.export.operations import Operations

ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "relu": F.relu,
    "rsqrt": torch.rsqrt,
    "floor": torch.floor,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class TorchOperations(Operations):
    """Values are tensors."""

    def weight(self, tensor: Tensor, *, transposed: bool = False, name: str = "") -> Tensor:
        """Return the tensor itself or its transposed view."""
        return tensor.detach().t() if transposed else tensor.detach()

    def derived(self, tensor: Tensor, what: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the computed constant."""
        return compute(tensor.detach())

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return ``x.to(dtype)``."""
        return x.to(dtype)

    def elementwise(self, kind: str, x: Tensor) -> Tensor:
        """Return the function of ``x``."""
        return ELEMENTWISE[kind](x)

    def softmax(self, x: Tensor) -> Tensor:
        """Return the softmax over the last axis."""
        return torch.softmax(x, dim=-1)

    def layer_norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, width: int) -> Tensor:
        """Return the layer norm over the last axis."""
        return F.layer_norm(x, (width,), weight, bias, eps)

    def reduce(self, kind: str, x: Tensor) -> Tensor:
        """Return mean or sum over the last axis."""
        return x.mean(-1, keepdim=True) if kind == "mean" else x.sum(-1, keepdim=True)

    def cumsum(self, x: Tensor, axis: int) -> Tensor:
        """Return the running sum."""
        return x.cumsum(axis)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """Return the reshaped tensor."""
        return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])

    def squeeze(self, x: Tensor, axis: int) -> Tensor:
        """Return ``x`` without the axis."""
        return x.squeeze(axis)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        """Return the permuted tensor."""
        return x.permute(order)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Return the concatenation."""
        return torch.cat(list(parts), dim=axis)

    def slice(self, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
        """Return the slice."""
        return x[(slice(None),) * axis + (slice(start, end),)]

    def first(self, table: Tensor, axis: int, tokens: Tensor) -> Tensor:
        """Return the leading entries."""
        return table[(slice(None),) * axis + (slice(0, tokens.shape[1]),)]

    def pad(self, x: Tensor, axis: int, before: int, after: int) -> Tensor:
        """Return the padded tensor."""
        return F.pad(x, (0, 0) * (x.ndim - 1 - axis) + (before, after))

    def embedding(self, table: Tensor, index: Tensor) -> Tensor:
        """Return the named rows."""
        return F.embedding(index, table)

    def take(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the named rows per entry."""
        return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    def per_entry(self, table: Tensor, like: Tensor) -> Tensor:
        """Return the table per entry."""
        return table.expand(like.shape[0], -1, -1)

    def compare(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        """Return the comparison."""
        return a == b if kind == "equal" else a > b

    def where(self, condition: Tensor, a: Tensor, b: Tensor | float) -> Tensor:
        """Return the choice."""
        return torch.where(condition, a, b)

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        """Return the limited tensor."""
        return x.clamp(low, high)

    def patches(self, x: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
        """Return the convolution."""
        return F.conv2d(x, weight, bias, stride=side)

    def exact_product(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the product by way of float64, which autocast leaves alone."""
        return (a.double() @ b.double()).float()

    def delta_rule(
        self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, heads: int, length: int | None
    ) -> Tensor:
        """Return the rule with the whole prompt as one chunk, which serves any length."""
        return whole_sequence_rule(q, k, v, decay, beta)
