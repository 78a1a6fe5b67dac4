"""An ONNX graph being written: nodes, and weights that stay where they are until the file is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

    from training.export.weights_file import Span, WeightsFile

OPSET = 22
IR_VERSION = 10
CONTRIBUTED = "com.microsoft"
WEIGHTS_NAME = "weights.bin"
# Smaller constants stay in the graph: parsers want shapes and scalars at hand.
INLINE_BYTES = 256
# Numbers of ONNX's TensorProto.DataType.
TYPES = {
    torch.float32: 1,
    torch.uint8: 2,
    torch.int64: 7,
    torch.bool: 9,
    torch.float16: 10,
    torch.bfloat16: 16,
}


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph.

    Attributes:
        name: its name.
        dtype: its element type.
        shape: sizes; text for sizes that a call decides.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]


@dataclass(eq=False)
class Node:
    """The output of one operation; arithmetic with it writes further nodes."""

    graph: OnnxGraph
    name: str
    dtype: torch.dtype

    def __add__(self, other: Node | float) -> Node:
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Node | float) -> Node:
        return self.graph.node("Sub", self, other)

    def __rsub__(self, other: float) -> Node:
        return self.graph.node("Sub", self.graph.scalar(other, self.dtype), self)

    def __mul__(self, other: Node | float) -> Node:
        return self.graph.node("Mul", self, other)

    def __matmul__(self, other: Node) -> Node:
        return self.graph.node("MatMul", self, other)

    __radd__ = __add__
    __rmul__ = __mul__


@dataclass(eq=False)
class OnnxGraph:
    """Nodes in order, constants by value, weights by reference.

    Attributes:
        name: name of the graph.
        weights: initializer name -> tensor, written to the shared file.
    """

    name: str
    weights: dict[str, Tensor] = field(default_factory=dict)
    _nodes: list[NodeProto] = field(default_factory=list)
    _constants: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    _domains: set[str] = field(default_factory=set)

    def node(
        self,
        kind: str,
        *inputs: Node | float | None,
        dtype: torch.dtype | None = None,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> Node:
        """Append a node and return its first output; numbers become constants of the first input's type.

        Args:
            kind: operator.
            inputs: values, numbers, or None for an input left out.
            dtype: of the output; by default that of the first input.
            domain: operator set.
            outputs: how many outputs the operator has.
            attributes: of the operator.
        """
        from onnx import helper

        first = next(x for x in inputs if isinstance(x, Node))
        names = []
        for x in inputs:
            value = x if x is None or isinstance(x, Node) else self.scalar(x, first.dtype)
            names.append("" if value is None else value.name)
        while not names[-1]:
            # ONNX Runtime's fusions trust that the last input named exists.
            names.pop()
        self._domains.add(domain)
        label = f"{kind}_{len(self._nodes)}"
        made = [label] + [f"{label}.{i}" for i in range(1, outputs)]
        self._nodes.append(helper.make_node(kind, names, made, name=label, domain=domain, **attributes))
        return Node(self, label, dtype or first.dtype)

    def scalar(self, value: float, dtype: torch.dtype) -> Node:
        """Return a number as a constant."""
        name = f"{str(dtype).removeprefix('torch.')}.{value!r}"
        self._constants[name] = _array(torch.tensor(value, dtype=dtype))
        return Node(self, name, dtype)

    def integers(self, values: Sequence[int]) -> Node:
        """Return int64[n] as a constant."""
        name = "ints." + ".".join(str(v) for v in values)
        self._constants[name] = np.asarray(values, dtype=np.int64)
        return Node(self, name, torch.int64)

    def weight(self, name: str, tensor: Tensor) -> Node:
        """Return a weight under a name that belongs to it alone.

        Raises:
            AssertionError: for two different tensors of one name, which is a fault of a graph's definition.
        """
        known = self.weights.setdefault(name, tensor)
        if known.data_ptr() != tensor.data_ptr() and not torch.equal(known, tensor):
            raise AssertionError(f"two weights are called {name}")
        return Node(self, name, tensor.dtype)

    def model(self, inputs: Sequence[Port], output: Port, value: Node, store: WeightsFile) -> ModelProto:
        """Return the finished model; weights are appended to ``store`` and referenced there."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value.name], [output.name], name=output.name))
        initializers = [_small(name, array, self._kind(name)) for name, array in self._constants.items()]
        for name, tensor in self.weights.items():
            if tensor.numel() * tensor.element_size() <= INLINE_BYTES:
                initializers.append(_small(name, _array(tensor), TYPES[tensor.dtype], tuple(tensor.shape)))
            else:
                initializers.append(_external(name, tensor, store.add(tensor)))
        graph = helper.make_graph(self._nodes, self.name, [_info(p) for p in inputs], [_info(output)], initializers)
        domains = [helper.make_opsetid("", OPSET)]
        domains += [helper.make_opsetid(name, 1) for name in sorted(self._domains - {""})]
        return helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="finevla")

    def _kind(self, name: str) -> int:
        return TYPES[torch.int64] if name.startswith("ints.") else TYPES[getattr(torch, name.split(".")[0])]


def external_names(model: ModelProto) -> Mapping[str, tuple[int, int]]:
    """Return initializer name -> offset and length in the shared weights file."""
    found = {}
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            found[tensor.name] = (int(entries["offset"]), int(entries["length"]))
    return found


def _info(port: Port) -> ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(port.name, TYPES[port.dtype], list(port.shape))


def _array(tensor: Tensor) -> npt.NDArray[np.generic]:
    """Return the tensor's values; bfloat16, which numpy lacks, as its bits."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.view(torch.int16).numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()


def _small(name: str, array: npt.NDArray[np.generic], kind: int, shape: tuple[int, ...] | None = None) -> TensorProto:
    from onnx import TensorProto

    return TensorProto(
        name=name, data_type=kind, dims=array.shape if shape is None else shape, raw_data=array.tobytes()
    )


def _external(name: str, tensor: Tensor, span: Span) -> TensorProto:
    from onnx import TensorProto

    found = TensorProto(name=name, data_type=TYPES[tensor.dtype], dims=tuple(tensor.shape))
    found.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", WEIGHTS_NAME), ("offset", span.offset), ("length", span.size)):
        found.external_data.add(key=key, value=str(entry))
    return found
