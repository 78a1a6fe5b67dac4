"""A bundle small enough for tests: one linear layer over mean pixels and token ids, in the shape of a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from finevla_runtime.bundle import Bundle, Parity, write_bundle
from finevla_runtime.contracts.action import DOF, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec

ROWS = 16
TOKENS = 12
SIZES = {"cam_high": 96, "cam_left_wrist": 64, "cam_right_wrist": 64}
WORDS = ("[PAD]", "[UNK]", "put", "the", "red", "blue", "block", "into", "bowl", "with", "left", "right", "arm")


def tiny_spec(name: str = "tiny", layout: str = "project", resize: str = "refuse") -> PolicySpec:
    """Return the spec of the tiny policy."""
    return PolicySpec(
        name=name,
        version="1",
        embodiment="cobot_magic_sim",
        framework="oft",
        cameras=tuple(CameraSpec(camera, size, size, resize) for camera, size in SIZES.items()),
        action=ActionSpace(
            names=JOINT_NAMES,
            units=tuple("open_fraction" if "gripper" in joint else "rad" for joint in JOINT_NAMES),
            lower=(-3.0,) * DOF,
            upper=(3.0,) * DOF,
        ),
        layout=layout,
        state=False,
        normalisation=Normalisation(("min_max",) * DOF, (-2.0,) * DOF, (2.0,) * DOF, clip=False),
        prompt=PromptSpec("{instruction}", TOKENS, 0, True),
        chunk_rows=ROWS,
        execution_rows=8,
        control_hz=10.0,
        trained_kinds=(InstructionKind.RAW, InstructionKind.FINE_GRAINED),
        fg_share=0.5,
    )


def tiny_graph(bias: float = 0.0) -> bytes:
    """Return an ONNX graph that obeys the graph contract; ``bias`` shifts every output."""
    weights = np.random.default_rng(0).normal(0, 0.1, (len(SIZES) + TOKENS, ROWS * DOF)).astype(np.float32)
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.full(ROWS * DOF, bias, np.float32), "bias"),
        numpy_helper.from_array(np.array([-1, ROWS, DOF], np.int64), "shape"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array(1 / 255, np.float32), "pixel"),
        numpy_helper.from_array(np.array(1 / len(WORDS), np.float32), "word"),
        numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
    ]
    nodes, parts = [], []
    for camera in SIZES:
        nodes += [
            helper.make_node("Cast", [f"image.{camera}"], [f"{camera}.f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{camera}.f", "axes"], [f"{camera}.m"], keepdims=0),
            helper.make_node("Mul", [f"{camera}.m", "pixel"], [f"{camera}.p"]),
            helper.make_node("Reshape", [f"{camera}.p", "column"], [f"{camera}.c"]),
        ]
        parts.append(f"{camera}.c")
    nodes += [
        helper.make_node("Cast", ["tokens"], ["tokens.f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["tokens.f", "word"], ["tokens.p"]),
        helper.make_node("Concat", [*parts, "tokens.p"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["actions"]),
    ]
    inputs = [
        helper.make_tensor_value_info(f"image.{camera}", TensorProto.UINT8, ["B", size, size, 3])
        for camera, size in SIZES.items()
    ]
    inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["B", TOKENS]))
    output = helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["B", ROWS, DOF])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tiny_tokenizer() -> str:
    """Return a word-level tokenizer.json."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def tiny_parity(graph: bytes, seed: int = 1) -> Parity:
    """Return a golden batch of three items, computed by ONNX Runtime itself."""
    import onnxruntime

    rng = np.random.default_rng(seed)
    inputs: dict[str, np.ndarray] = {
        f"image.{camera}": rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8) for camera, size in SIZES.items()
    }
    inputs["tokens"] = rng.integers(0, len(WORDS), (3, TOKENS), dtype=np.int64)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return Parity(inputs, {"actions": session.run(["actions"], inputs)[0]}, atol=1e-4)


def write_tiny_bundle(
    path: Path, spec: PolicySpec | None = None, graph: bytes | None = None, parity: Parity | None = None
) -> Bundle:
    """Write the tiny bundle; other parts replace its own."""
    own = tiny_graph()
    return write_bundle(
        path,
        spec or tiny_spec(),
        {"policy": graph or own},
        tiny_tokenizer(),
        parity or tiny_parity(own),
        {"recipe": "tests/serving/tiny_bundle.py"},
    )


def observation(seed: int = 0, text: str = "put the red block into the bowl", step: int = 0) -> Observation:
    """Return an observation of the tiny policy's cameras."""
    rng = np.random.default_rng(seed)
    return Observation(
        images={c: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for c, size in SIZES.items()},
        joint_position=rng.uniform(-1, 1, DOF).astype(np.float32),
        instruction=Instruction(text, InstructionKind.RAW, "colour", "red"),
        capture_time_ns=1_000_000 + seed,
        control_step=step,
    )
