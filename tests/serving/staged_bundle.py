"""A staged bundle small enough for tests: pooled pixels, causal sums over word vectors, and a head of either kind.

``reference`` is the same arithmetic in numpy, so that no engine is only compared with another engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from finevla_runtime.bundle import Bundle, Parity, write_bundle
from finevla_runtime.contracts.graph_plan import GraphPlan
from finevla_runtime.contracts.policy import PolicySpec, PromptSpec
from finevla_runtime.processing.continuation import PREVIOUS, PREVIOUS_WEIGHT, Continuation, continuation_inputs
from tests.serving.tiny_bundle import DOF, SIZES, WORDS, tiny_spec

ROWS = 4
WIDTH = 8
BUCKETS = (12, 24)
STEPS = 4
IMAGES = len(SIZES)
ACTION_WORDS = tuple(f"act{row}" for row in range(ROWS))
ALL_WORDS = (*WORDS, "img", *ACTION_WORDS)
ACTION_IDS = tuple(ALL_WORDS.index(word) for word in ACTION_WORDS)
TEMPLATE = " ".join(["img"] * IMAGES + ["{instruction}", *ACTION_WORDS])
Arrays = Mapping[str, np.ndarray]


def staged_spec(framework: str) -> PolicySpec:
    """Return the spec: 4 rows, 24 tokens; gr00t reads proprioception."""
    return replace(
        tiny_spec(name=f"staged-{framework}"),
        framework=framework,
        state=framework == "gr00t",
        prompt=PromptSpec(TEMPLATE, BUCKETS[-1], 0, True),
        chunk_rows=ROWS,
        execution_rows=2,
    )


def weights(framework: str) -> dict[str, np.ndarray]:
    """Return every weight by name, float32."""
    rng = np.random.default_rng(7)
    shapes = {"words": (len(ALL_WORDS), WIDTH), "out": (WIDTH, DOF)}
    shapes |= {f"see.{camera}": (3, WIDTH) for camera in SIZES}
    if framework == "gr00t":
        shapes |= {"from_x": (DOF, DOF), "from_state": (DOF, DOF), "from_time": (1, DOF)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def random_inputs(framework: str, lengths: Sequence[int] = (24, 11, 9), seed: int = 3) -> dict[str, np.ndarray]:
    """Return a batch whose prompts have the given lengths before padding."""
    rng = np.random.default_rng(seed)
    batch = len(lengths)
    inputs: dict[str, np.ndarray] = {
        f"image.{c}": rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8) for c, size in SIZES.items()
    }
    tokens = np.zeros((batch, BUCKETS[-1]), np.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = rng.integers(1, len(WORDS), length)
        row[:IMAGES] = ALL_WORDS.index("img")
        row[length - ROWS : length] = ACTION_IDS
    inputs["tokens"] = tokens
    if framework == "gr00t":
        inputs["state"] = rng.uniform(-1, 1, (batch, DOF)).astype(np.float32)
        inputs["noise"] = rng.normal(size=(batch, ROWS, DOF)).astype(np.float32)
    return inputs


def continued(inputs: Arrays, continuations: Sequence[Continuation | None]) -> dict[str, np.ndarray]:
    """Return the batch with what each item continues."""
    each = [continuation_inputs(one, (ROWS, DOF)) for one in continuations]
    return {**inputs, **{name: np.stack([one[name] for one in each]) for name in (PREVIOUS, PREVIOUS_WEIGHT)}}


def reference(framework: str, inputs: Arrays) -> np.ndarray:
    """Return the rows float32[B, 4, 14] of the tiny policy, computed by numpy on the uncut prompt.

    Where the inputs hold rows to continue, they are pulled to their straight path after every step.
    """
    w, tokens = weights(framework), inputs["tokens"]
    seen = [inputs[f"image.{c}"].astype(np.float32).mean((1, 2)) / 255 @ w[f"see.{c}"] for c in SIZES]
    embedded = np.concatenate([np.stack(seen, 1), w["words"][tokens][:, IMAGES:]], 1)
    hidden = np.tanh(np.cumsum(embedded, 1) * 0.1)
    if framework == "oft":
        at = (tokens[:, None] == np.array(ACTION_IDS)[None, :, None]).astype(np.float32)
        return (at @ hidden @ w["out"]).astype(np.float32)
    mask = (tokens != 0).astype(np.float32)[..., None]
    pooled = (hidden * mask).sum(1, keepdims=True) / mask.sum(1, keepdims=True) @ w["out"]
    x = inputs["noise"]
    for step in range(STEPS):
        time = np.float32(step / STEPS) * w["from_time"]
        x = x + np.tanh(x @ w["from_x"] + pooled + (inputs["state"] @ w["from_state"])[:, None] + time) / STEPS
        if PREVIOUS in inputs:
            at, weight = np.float32((step + 1) / STEPS), inputs[PREVIOUS_WEIGHT][..., None]
            x = (1 - weight) * x + weight * ((1 - at) * inputs["noise"] + at * inputs[PREVIOUS])
    return x.astype(np.float32)


@dataclass
class _Graph:
    """One ONNX graph being put together; weights stay in the shared file."""

    inputs: list[ValueInfoProto]
    output: ValueInfoProto
    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    shared: tuple[str, ...]

    def file(self, spans: Mapping[str, tuple[int, np.ndarray]]) -> bytes:
        small = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        large = [_external(name, *spans[name]) for name in self.shared]
        graph = helper.make_graph(self.nodes, "staged", self.inputs, [self.output], [*small, *large])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return bytes(model.SerializeToString())


def _external(name: str, offset: int, value: np.ndarray) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape, data_location=TensorProto.EXTERNAL)
    for key, entry in (("location", "weights.bin"), ("offset", str(offset)), ("length", str(value.nbytes))):
        tensor.external_data.add(key=key, value=entry)
    return tensor


def _value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["B", *shape])


def _vision() -> _Graph:
    node = helper.make_node
    nodes: list[NodeProto] = []
    for c in SIZES:
        nodes += [
            node("Cast", [f"image.{c}"], [f"{c}.f"], to=TensorProto.FLOAT),
            node("ReduceMean", [f"{c}.f", "pixels"], [f"{c}.m"], keepdims=0),
            node("Mul", [f"{c}.m", "scale"], [f"{c}.s"]),
            node("MatMul", [f"{c}.s", f"see.{c}"], [f"{c}.e"]),
            node("Unsqueeze", [f"{c}.e", "one"], [f"{c}.u"]),
        ]
    nodes.append(node("Concat", [f"{c}.u" for c in SIZES], ["image_embeds"], axis=1))
    constants = {"pixels": np.array([1, 2]), "scale": np.array(1 / 255, np.float32), "one": np.array([1])}
    images = [_value(f"image.{c}", size, size, 3, kind=TensorProto.UINT8) for c, size in SIZES.items()]
    return _Graph(images, _value("image_embeds", IMAGES, WIDTH), nodes, constants, tuple(f"see.{c}" for c in SIZES))


def _prefix(length: int | None) -> _Graph:
    """The running sum is CumSum for any length, and a triangular matrix for one length: two dialects of one thing."""
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "tokens"], ["embedded"]),
        node("Slice", ["embedded", "first", "last", "axis"], ["text"]),
        node("Concat", ["image_embeds", "text"], ["all"], axis=1),
    ]
    constants = {
        "first": np.array([IMAGES]),
        "last": np.array([1 << 30]),
        "axis": np.array([1]),
        "tenth": np.array(0.1, np.float32),
    }
    if length is None:
        nodes.append(node("CumSum", ["all", "axis"], ["sum"]))
    else:
        constants["triangle"] = np.tril(np.ones((1, length, length), np.float32))
        nodes.append(node("MatMul", ["triangle", "all"], ["sum"]))
    nodes += [node("Mul", ["sum", "tenth"], ["small"]), node("Tanh", ["small"], ["hidden"])]
    size = "S" if length is None else length
    inputs = [_value("tokens", size, kind=TensorProto.INT64), _value("image_embeds", IMAGES, WIDTH)]
    return _Graph(inputs, _value("hidden", size, WIDTH), nodes, constants, ("words",))


def _oft_head() -> _Graph:
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["tokens", "one"], ["row"]),
        node("Equal", ["row", "ids"], ["found"]),
        node("Cast", ["found"], ["at"], to=TensorProto.FLOAT),
        node("MatMul", ["at", "hidden"], ["gathered"]),
        node("MatMul", ["gathered", "out"], ["actions"]),
    ]
    constants = {"one": np.array([1]), "ids": np.array(ACTION_IDS)[None, :, None]}
    inputs = [_value("hidden", "S", WIDTH), _value("tokens", "S", kind=TensorProto.INT64)]
    return _Graph(inputs, _value("actions", ROWS, DOF), nodes, constants, ("out",))


def _gr00t_head() -> _Graph:
    node = helper.make_node
    nodes = [
        node("Equal", ["tokens", "pad"], ["padding"]),
        node("Not", ["padding"], ["used"]),
        node("Cast", ["used"], ["flat"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["flat", "two"], ["mask"]),
        node("Mul", ["hidden", "mask"], ["kept"]),
        node("ReduceSum", ["kept", "one"], ["total"], keepdims=1),
        node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),
        node("Div", ["total", "count"], ["mean"]),
        node("MatMul", ["mean", "out"], ["pooled"]),
        node("MatMul", ["x", "from_x"], ["moved"]),
        node("MatMul", ["state", "from_state"], ["body"]),
        node("Unsqueeze", ["body", "one"], ["bodies"]),
        node("Cast", ["time"], ["bucket"], to=TensorProto.FLOAT),
        node("Div", ["bucket", "thousand"], ["t"]),
        node("Unsqueeze", ["t", "ends"], ["when"]),
        node("Mul", ["when", "from_time"], ["timed"]),
        node("Sum", ["moved", "pooled", "bodies", "timed"], ["sum"]),
        node("Tanh", ["sum"], ["velocity"]),
    ]
    constants = {
        "pad": np.array(0),
        "one": np.array([1]),
        "two": np.array([2]),
        "ends": np.array([1, 2]),
        "thousand": np.array(1000, np.float32),
    }
    inputs = [
        _value("hidden", "S", WIDTH),
        _value("tokens", "S", kind=TensorProto.INT64),
        _value("x", ROWS, DOF),
        helper.make_tensor_value_info("time", TensorProto.INT64, ["B"]),
        _value("state", DOF),
    ]
    shared = ("out", "from_x", "from_state", "from_time")
    return _Graph(inputs, _value("velocity", ROWS, DOF), nodes, constants, shared)


def write_staged_bundle(
    path: Path,
    framework: str,
    without: Sequence[str] = (),
    programs: Mapping[str, Path] | None = None,
    atol_half: float | None = None,
    index: bool = False,
) -> Bundle:
    """Write the bundle; ``without`` drops graphs, ``programs`` adds torch programs, ``index`` lists the weights."""
    all_graphs = {"vision": _vision(), "prefix": _prefix(None)}
    all_graphs |= {f"prefix_static_{size}": _prefix(size) for size in BUCKETS}
    all_graphs["head"] = _oft_head() if framework == "oft" else _gr00t_head()
    spans: dict[str, tuple[int, np.ndarray]] = {}
    blob = b""
    for name, value in weights(framework).items():
        spans[name] = (len(blob), value)
        blob += value.tobytes().ljust(-(-value.nbytes // 64) * 64, b"\0")
    shared = path.with_name(f"{path.name}.weights")
    shared.parent.mkdir(parents=True, exist_ok=True)
    shared.write_bytes(blob)
    graphs = {name: graph.file(spans) for name, graph in all_graphs.items() if name not in without}
    inputs = random_inputs(framework)
    parity = Parity(inputs, {"actions": reference(framework, inputs)}, 1e-5, atol_half)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(ALL_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    extra = {"graphs/weights.bin": shared, **{f"programs/{n}.pt2": file for n, file in (programs or {}).items()}}
    if index:
        extra["graphs/weights.json"] = _index(spans, path.with_name(f"{path.name}.json"))
    plan = GraphPlan("staged", BUCKETS, STEPS if framework == "gr00t" else 0)
    spec = staged_spec(framework)
    bundle = write_bundle(path, spec, graphs, str(tokenizer.to_str()), parity, {}, plan, extra)
    # The bundle holds a link; ``onnx.load`` refuses weights that have a second name.
    shared.unlink()
    return bundle


def _index(spans: Mapping[str, tuple[int, np.ndarray]], path: Path) -> Path:
    """Write the list of shared tensors under the names of the torch programs."""
    entries = {
        f"policy.{name.replace('.', '_')}": {
            "dtype": "float32",
            "shape": list(value.shape),
            "offset": offset,
            "bytes": value.nbytes,
        }
        for name, (offset, value) in spans.items()
    }
    path.write_text(json.dumps(entries))
    return path
