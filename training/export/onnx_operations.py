"""Graphs written as ONNX nodes, in standard operators or with those of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.export.gated_delta import CHUNK
from training.export.onnx_graph import CONTRIBUTED, TYPES, Node, OnnxGraph
from training.export.operations import Operations
from training.export.weight_names import WeightNames

ELEMENTWISE = {
    "exp": "Exp",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "relu": "Relu",
    "floor": "Floor",
}
END = 1 << 62


class OnnxOperations(Operations):
    """Values are nodes; only standard operators that TensorRT parses."""

    def __init__(self, graph: OnnxGraph, names: WeightNames) -> None:
        """Write into ``graph``; ``names`` says what weights are called."""
        self._graph = graph
        self._names = names

    def weight(self, tensor: Tensor, *, transposed: bool = False, name: str = "") -> Node:
        """Return the weight by reference; nothing is copied."""
        value = tensor.detach().t() if transposed else tensor.detach()
        return self._graph.weight(self._names.name(tensor, transposed, name), value)

    def derived(self, tensor: Tensor, what: str, compute: Callable[[Tensor], Tensor]) -> Node:
        """Return the constant under the weight's own name and what became of it."""
        return self._graph.weight(f"{self._names.name(tensor)}.{what}", compute(tensor.detach()))

    def cast(self, x: Node, dtype: torch.dtype) -> Node:
        """Return a Cast, or ``x``."""
        return x if x.dtype is dtype else self._graph.node("Cast", x, dtype=dtype, to=TYPES[dtype])

    def elementwise(self, kind: str, x: Node) -> Node:
        """Return the function of ``x``."""
        if kind == "rsqrt":
            return self._graph.node("Reciprocal", self._graph.node("Sqrt", x))
        if kind.startswith("gelu"):
            return self._graph.node("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")
        return self._graph.node(ELEMENTWISE[kind], x)

    def softmax(self, x: Node) -> Node:
        """Return Softmax."""
        return self._graph.node("Softmax", x, axis=-1)

    def layer_norm(self, x: Node, weight: Node | None, bias: Node | None, eps: float, width: int) -> Node:
        """Return LayerNormalization; the operator wants a weight, so a missing one is ones."""
        scale = self.weight(torch.ones(width, dtype=x.dtype), name=f"ones.{width}") if weight is None else weight
        return self._graph.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)

    def reduce(self, kind: str, x: Node) -> Node:
        """Return ReduceMean or ReduceSum."""
        operator = "ReduceMean" if kind == "mean" else "ReduceSum"
        return self._graph.node(operator, x, self._graph.integers([-1]), keepdims=1)

    def cumsum(self, x: Node, axis: int) -> Node:
        """Return CumSum."""
        return self._graph.node("CumSum", x, self._graph.integers([axis]))

    def reshape(self, x: Node, *shape: int) -> Node:
        """Return Reshape."""
        return self._graph.node("Reshape", x, self._graph.integers(shape))

    def squeeze(self, x: Node, axis: int) -> Node:
        """Return Squeeze."""
        return self._graph.node("Squeeze", x, self._graph.integers([axis]))

    def transpose(self, x: Node, *order: int) -> Node:
        """Return Transpose."""
        return self._graph.node("Transpose", x, perm=list(order))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        """Return Concat."""
        return self._graph.node("Concat", *parts, axis=axis)

    def slice(self, x: Node, axis: int, start: int, end: int | None) -> Node:
        """Return Slice."""
        ends = END if end is None else end
        return self._graph.node("Slice", x, *(self._graph.integers([n]) for n in (start, ends, axis)))

    def first(self, table: Node, axis: int, tokens: Node) -> Node:
        """Return Slice up to the length of the prompts."""
        shape = self._graph.node("Shape", tokens, dtype=torch.int64, start=1, end=2)
        return self._graph.node("Slice", table, self._graph.integers([0]), shape, self._graph.integers([axis]))

    def pad(self, x: Node, axis: int, before: int, after: int) -> Node:
        """Return Pad."""
        amounts = self._graph.integers([before, after])
        return self._graph.node("Pad", x, amounts, None, self._graph.integers([axis]))

    def embedding(self, table: Node, index: Node) -> Node:
        """Return Gather."""
        return self._graph.node("Gather", table, index, axis=0)

    def take(self, x: Node, index: Node) -> Node:
        """Return GatherND within every entry of the batch."""
        deep = self._graph.node("Unsqueeze", index, self._graph.integers([2]))
        return self._graph.node("GatherND", x, deep, batch_dims=1)

    def per_entry(self, table: Node, like: Node) -> Node:
        """Return Expand."""
        batch = self._graph.node("Shape", like, dtype=torch.int64, start=0, end=1)
        shape = self._graph.node("Concat", batch, self._graph.integers([1, 1]), axis=0)
        return self._graph.node("Expand", table, shape)

    def compare(self, kind: str, a: Node, b: Node) -> Node:
        """Return Equal or Greater."""
        return self._graph.node("Equal" if kind == "equal" else "Greater", a, b, dtype=torch.bool)

    def where(self, condition: Node, a: Node, b: Node | float) -> Node:
        """Return Where."""
        other = b if isinstance(b, Node) else self._graph.scalar(b, a.dtype)
        return self._graph.node("Where", condition, a, other, dtype=a.dtype)

    def clip(self, x: Node, low: float, high: float) -> Node:
        """Return Clip."""
        return self._graph.node("Clip", x, low, high)

    def patches(self, x: Node, weight: Node, bias: Node, side: int) -> Node:
        """Return Conv."""
        return self._graph.node("Conv", x, weight, bias, strides=[side, side], kernel_shape=[side, side])


class OnnxRuntimeOperations(OnnxOperations):
    """Adds the operators that ONNX Runtime brings along; one node per linear attention layer, any length.

    The ONNX standard has LinearAttention and CausalConvWithState too (opset 27). The contributed ones are used
    because they do not bind the whole graph to that opset; both run in ONNX Runtime 1.32 on the CPU.
    """

    def rms_norm(self, x: Node, weight: Node, eps: float) -> Node:
        """Return SimplifiedLayerNormalization in float32."""
        wide = self.floats(x)
        # ONNX Runtime registers this one in the standard domain.
        out = self._graph.node(
            "SimplifiedLayerNormalization", wide, self.floats(weight), axis=-1, epsilon=eps, stash_type=1
        )
        return self.cast(out, x.dtype)

    def causal_convolution(self, x: Node, weight: Tensor) -> Node:
        """Return CausalConvWithState with its SiLU, channels last."""
        out = self._graph.node(
            "CausalConvWithState",
            self.floats(x),
            self.floats(self.weight(weight)),
            domain=CONTRIBUTED,
            outputs=2,
            ndim=1,
            activation="silu",
            channels_last=1,
        )
        return self.cast(out, x.dtype)

    def delta_rule(self, q: Node, k: Node, v: Node, decay: Node, beta: Node, heads: int, length: int | None) -> Node:
        """Return one LinearAttention node; queries come scaled, hence scale 1."""
        flat = [self.reshape(x, 0, 0, -1) for x in (q, k, v)]
        out = self._graph.node(
            "LinearAttention",
            *flat,
            None,
            decay,
            beta,
            domain=CONTRIBUTED,
            outputs=2,
            q_num_heads=heads,
            kv_num_heads=heads,
            update_rule="gated_delta",
            scale=1.0,
            chunk_size=CHUNK,
        )
        return self.reshape(out, 0, 0, heads, -1)
