"""An ONNX graph whose products with weights are computed in half precision; everything else stays as it is.

TensorRT networks are strongly typed: they compute in the types the graph says, and there is no builder switch for half
precision. Weights of linear layers, convolutions and embeddings are nearly all of the bytes and of the operations, so
they alone change; norms, softmax, gated delta rules and the integration of actions keep float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.graph_plan import EXACT_WEIGHTS

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

PRODUCTS = ("MatMul", "Gemm", "Conv")
LOOKUP = "Gather"
ALIGNMENT = 64
FLOAT16_MAX = 65504.0
HalfArray = npt.NDArray[np.uint16] | npt.NDArray[np.float16]


def write_half_graph(source: Path, target: Path, precision: str) -> None:
    """Write ``source`` with half-precision products to ``target``, its converted weights beside it.

    Weights are read, converted and written one at a time, so that memory holds the largest of them only.

    Args:
        source: ONNX file; external weights lie beside it.
        target: ONNX file to write, in another folder.
        precision: ``fp16`` or ``bf16``.

    Raises:
        SetupError: FV-ENG-015 when the graph has no float32 weights to convert.
    """
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    names = _weights(model.graph, onnx.TensorProto.FLOAT)
    if not names:
        raise SetupError("FV-ENG-015", f"{source.name} has no float32 weights to convert.")
    kind = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
    weights = target.with_suffix(".weights")
    with weights.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.name in names:
                data = to_half(read_tensor(tensor, source.parent), precision).tobytes()
                _store(tensor, file.tell(), len(data), weights.name, kind)
                file.write(data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0"))
            else:
                _embed(tensor, source.parent)
    nodes = list(_rewritten(model.graph, names, kind))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def to_half(values: npt.NDArray[np.float32], precision: str) -> HalfArray:
    """Return float32 values as float16 (clipped to its range) or as the bits of bfloat16 (round to nearest even)."""
    if precision == "fp16":
        return np.clip(values, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def read_tensor(tensor: TensorProto, folder: Path) -> npt.NDArray[np.float32]:
    """Return a float32 initialiser; an external one is mapped, not read."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)
    entry = {item.key: item.value for item in tensor.external_data}
    offset, shape = int(entry.get("offset", "0")), tuple(tensor.dims)
    return np.memmap(folder / entry["location"], dtype=np.float32, mode="r", offset=offset, shape=shape)


def _weights(graph: GraphProto, kind: int) -> set[str]:
    """Return the matrices of a data type that a product or an embedding takes, but for those that stay as they are."""
    matrices = {
        t.name
        for t in graph.initializer
        if t.data_type == kind and len(t.dims) >= 2 and not t.name.startswith(EXACT_WEIGHTS)
    }
    found: set[str] = set()
    for node in graph.node:
        taken = node.input[:1] if node.op_type == LOOKUP else node.input[:2] if node.op_type in PRODUCTS else []
        found.update(name for name in taken if name in matrices)
    return found


def _rewritten(graph: GraphProto, names: set[str], kind: int) -> Iterator[NodeProto]:
    """Yield the nodes with casts around those that take a converted weight."""
    from onnx import TensorProto, helper

    for number, node in enumerate(graph.node):
        half = any(name in names for name in node.input) and node.op_type in (*PRODUCTS, LOOKUP)
        for place, name in enumerate(node.input):
            # Indices of a lookup stay whole numbers; a weight that something else takes is widened there.
            cast_down = half and name and name not in names and node.op_type != LOOKUP
            cast_up = not half and name in names
            if cast_down or cast_up:
                node.input[place] = f"{name}.cast{number}.{place}"
                yield helper.make_node("Cast", [name], [node.input[place]], to=kind if half else TensorProto.FLOAT)
        if half:
            output = node.output[0]
            node.output[0] = f"{output}.half"
            yield node
            yield helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT)
        else:
            yield node


def _store(tensor: TensorProto, offset: int, size: int, location: str, kind: int) -> None:
    """Point an initialiser at its converted bytes."""
    from onnx import TensorProto

    for field in ("raw_data", "float_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_type = kind
    tensor.data_location = TensorProto.EXTERNAL
    entries: Mapping[str, str] = {"location": location, "offset": str(offset), "length": str(size)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _embed(tensor: TensorProto, folder: Path) -> None:
    """Bring an external tensor that stays as it is into the graph: the target has another folder."""
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL:
        return
    entry = {item.key: item.value for item in tensor.external_data}
    with (folder / entry["location"]).open("rb") as file:
        file.seek(int(entry.get("offset", "0")))
        tensor.raw_data = file.read(int(entry["length"]))
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT
