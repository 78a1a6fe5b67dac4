"""The operations that the graphs of a policy are made of, whatever carries them out.

A graph is defined once, as a function of an ``Operations`` object, and read three times: torch runs it (reference and
torch.export program), ONNX nodes with standard operators are written for TensorRT, and ONNX nodes with ONNX Runtime's
own operators are written for ONNX Runtime. Writing nodes takes milliseconds where tracing takes minutes, and the
graphs hold no loop, no guard and no copy of a weight that a tracer put there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from training.export.gated_delta import block_inverse_rule

# A torch tensor or a node of an ONNX graph. Both have ``dtype`` (a torch dtype) and the arithmetic operators
# + - * @ with broadcasting; a common static type for the two does not exist.
Value: TypeAlias = Any


class Operations(ABC):
    """What a graph may do. Shapes follow torch; ``0`` in a new shape keeps the size at that place, ``-1`` infers it."""

    @abstractmethod
    def weight(self, tensor: Tensor, *, transposed: bool = False, name: str = "") -> Value:
        """Return a weight or constant; ``transposed`` swaps the two axes of a matrix, ``name`` names derived ones."""

    @abstractmethod
    def derived(self, tensor: Tensor, what: str, compute: Callable[[Tensor], Tensor]) -> Value:
        """Return ``compute(tensor)`` as a constant; ``what`` becomes part of its name."""

    @abstractmethod
    def cast(self, x: Value, dtype: torch.dtype) -> Value:
        """Return ``x`` in another type; the same value where it has it already."""

    @abstractmethod
    def elementwise(self, kind: str, x: Value) -> Value:
        """Return one of exp, sigmoid, softplus, relu, rsqrt, floor, gelu (exact), gelu_tanh of ``x``."""

    @abstractmethod
    def softmax(self, x: Value) -> Value:
        """Return the softmax over the last axis."""

    @abstractmethod
    def layer_norm(self, x: Value, weight: Value | None, bias: Value | None, eps: float, width: int) -> Value:
        """Return the layer norm over the last axis of ``width`` channels."""

    @abstractmethod
    def reduce(self, kind: str, x: Value) -> Value:
        """Return the mean or sum over the last axis, which stays with size 1."""

    @abstractmethod
    def cumsum(self, x: Value, axis: int) -> Value:
        """Return the running sum along an axis."""

    @abstractmethod
    def reshape(self, x: Value, *shape: int) -> Value:
        """Return ``x`` in another shape."""

    @abstractmethod
    def squeeze(self, x: Value, axis: int) -> Value:
        """Return ``x`` without an axis of size 1."""

    @abstractmethod
    def transpose(self, x: Value, *order: int) -> Value:
        """Return ``x`` with its axes in another order."""

    @abstractmethod
    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        """Return the parts one after the other along an axis."""

    @abstractmethod
    def slice(self, x: Value, axis: int, start: int, end: int | None) -> Value:
        """Return the entries ``start:end`` along an axis; negative numbers count from the end."""

    @abstractmethod
    def first(self, table: Value, axis: int, tokens: Value) -> Value:
        """Return as many leading entries of ``table`` along ``axis`` as prompts ``tokens`` int64[B, S] are long."""

    @abstractmethod
    def pad(self, x: Value, axis: int, before: int, after: int) -> Value:
        """Return ``x`` with zeros before and after along an axis."""

    @abstractmethod
    def embedding(self, table: Value, index: Value) -> Value:
        """Return the rows of ``table`` [N, W] that ``index`` int64[...] names, [..., W]."""

    @abstractmethod
    def take(self, x: Value, index: Value) -> Value:
        """Return [B, K, W], the rows of ``x`` [B, S, W] that ``index`` int64[B, K] names per entry of the batch."""

    @abstractmethod
    def per_entry(self, table: Value, like: Value) -> Value:
        """Return [B, T, W], ``table`` [T, W] once for every entry of the batch of ``like``."""

    @abstractmethod
    def compare(self, kind: str, a: Value, b: Value) -> Value:
        """Return equal or greater, bool."""

    @abstractmethod
    def where(self, condition: Value, a: Value, b: Value | float) -> Value:
        """Return ``a`` where the condition holds, else ``b``."""

    @abstractmethod
    def clip(self, x: Value, low: float, high: float) -> Value:
        """Return ``x`` limited to a range."""

    @abstractmethod
    def patches(self, x: Value, weight: Value, bias: Value, side: int) -> Value:
        """Return the convolution of images [n, C, H, W] with a stride as large as its kernel."""

    def exact_product(self, a: Value, b: Value) -> Value:
        """Return the float32 product of two matrices that must not be computed in half precision."""
        return a @ b

    def linear(self, x: Value, layer: nn.Module) -> Value:
        """Return a linear layer of ``x``; its matrix is stored with the inputs first, as products read it."""
        product = x @ self.weight(cast(Tensor, layer.weight), transposed=True)
        bias = cast("Tensor | None", layer.bias)
        return product if bias is None else product + self.weight(bias)

    def silu(self, x: Value) -> Value:
        """Return x * sigmoid(x)."""
        return x * self.elementwise("sigmoid", x)

    def floats(self, x: Value) -> Value:
        """Return ``x`` in float32."""
        return self.cast(x, torch.float32)

    def rms_norm(self, x: Value, weight: Value, eps: float) -> Value:
        """Return x / rms(x) * weight over the last axis, computed in float32 and given back in the type of ``x``."""
        wide = self.floats(x)
        scale = self.elementwise("rsqrt", self.reduce("mean", wide * wide) + eps)
        return self.cast(wide * scale * self.floats(weight), x.dtype)

    def causal_convolution(self, x: Value, weight: Tensor) -> Value:
        """Return the SiLU of every channel of [B, S, C] convolved with its own taps [C, 1, k], reading the past only.

        Shifted products instead of a grouped convolution: they need no transposes, and any compiler fuses them.
        """
        taps = self.weight(weight)
        count = weight.shape[-1]
        kernel = self.transpose(taps, 2, 1, 0)
        padded = self.pad(x, 1, count - 1, 0)
        out = None
        for tap in range(count):
            left = count - 1 - tap
            part = self.slice(padded, 1, tap, -left if left else None) * self.slice(kernel, 0, tap, tap + 1)
            out = part if out is None else out + part
        return self.silu(out)

    def delta_rule(
        self, q: Value, k: Value, v: Value, decay: Value, beta: Value, heads: int, length: int | None
    ) -> Value:
        """Return the gated delta rule, float32[B, S, H, Dv]; see ``gated_delta.py`` for the arguments.

        Args:
            q, k, v, decay, beta: arguments of the rule.
            heads: H.
            length: S where it is fixed, None where the graph serves any length.
        """
        if length is None:
            raise AssertionError("the chunked rule is unrolled and needs a fixed length")
        return block_inverse_rule(self, q, k, v, decay, beta, length)
