"""TensorRT's runtime API over ONNX Runtime: plans are ONNX files, tensors are raw pointers into host memory.

No GPU is at hand where tests run, and TensorRT executes nowhere else. The fake keeps the parts that our code can get
wrong: shapes, types, addresses and the order of calls.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace

import numpy as np
import onnxruntime

from policy_server.engines.tensorrt_library import Library

TYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(uint8)": "UINT8"}
NUMPY = {"FLOAT": np.float32, "INT64": np.int64, "UINT8": np.uint8}


class Mode(Enum):
    INPUT = 0
    OUTPUT = 1


class Engine:
    def __init__(self, plan: bytes) -> None:
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.modes = {value.name: Mode.INPUT for value in self.session.get_inputs()}
        self.modes |= {value.name: Mode.OUTPUT for value in self.session.get_outputs()}
        self.types = {v.name: TYPES[v.type] for v in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.modes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.modes)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return self.modes[name]

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self.types[name])

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.answer: np.ndarray | None = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = next(v.shape for v in self.engine.session.get_inputs() if v.name == name)
        self.shapes[name] = shape
        return len(shape) == len(declared) and all(
            got == size or isinstance(size, str) for got, size in zip(shape, declared, strict=True)
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        # As the real library does, the shape follows from the input shapes; here by running on the inputs.
        (self.answer,) = self.engine.session.run([name], {n: self._read(n) for n in self.shapes})
        return self.answer.shape

    def execute_async_v3(self, stream: int) -> bool:
        (name,) = (n for n, mode in self.engine.modes.items() if mode is Mode.OUTPUT)
        assert self.answer is not None
        ctypes.memmove(self.addresses[name], self.answer.ctypes.data, self.answer.nbytes)
        return True

    def _read(self, name: str) -> np.ndarray:
        dtype = np.dtype(NUMPY[self.engine.types[name]])
        size = int(np.prod(self.shapes[name])) * dtype.itemsize
        raw = ctypes.string_at(self.addresses[name], size)
        return np.frombuffer(raw, dtype).reshape(self.shapes[name])


class Runtime:
    def __init__(self, logger: object) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        data = bytes(plan)
        return Engine(data) if data else None


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2


def fake_library() -> Library:
    """Return a library whose plans are ONNX files that hold their weights."""
    module = SimpleNamespace(Runtime=Runtime, TensorIOMode=Mode, ILogger=ILogger)
    return Library(module, "tensorrt", "0.0.0")  # type: ignore[arg-type]
