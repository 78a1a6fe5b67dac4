"""Runs TensorRT plans on an NVIDIA GPU; nothing but inputs and rows passes through host memory."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError, SetupError
from policy_server.engines.engine import EngineOptions, LoadedEngine, cuda_number
from policy_server.engines.engine_record import check_record, read_record, rebuild_command, verified_plans
from policy_server.engines.staged import StagedEngine, stages_of
from policy_server.engines.tensorrt_library import Library, gpu_name, logger, tensorrt_library

NAME = "tensorrt"
DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


class TensorRtPlan:
    """One deserialised plan with its execution context."""

    def __init__(self, library: Library, runtime: Any, path: Path) -> None:
        """Load a plan (SetupError FV-ENG-017 when TensorRT refuses it)."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            self._engine = runtime.deserialize_cuda_engine(mapped)
        if self._engine is None:
            raise SetupError(
                "FV-ENG-017",
                f"{library.flavour} {library.version} cannot load {path.name}; its log says why (a GPU or driver it "
                "does not support, or too little memory).",
            )
        self.context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = library.trt.TensorIOMode.INPUT
        self.inputs = {n: self._dtype(n) for n in names if self._engine.get_tensor_mode(n) == is_input}
        (self.output,) = (name for name in names if name not in self.inputs)
        self.output_dtype = self._dtype(self.output)

    def _dtype(self, name: str) -> torch.dtype:
        return DTYPES[self._engine.get_tensor_dtype(name).name]


class TensorRtGraphs:
    """Plans on one GPU, on a stream of their own."""

    def __init__(self, library: Library, plans: Mapping[str, Path], device: torch.device) -> None:
        """Load the plans (SetupError FV-ENG-017 when TensorRT refuses one)."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        # TensorRT keeps plain pointers to its logger and runtime.
        self._logger = logger(library)
        self._runtime = library.trt.Runtime(self._logger)
        self._plans = {name: TensorRtPlan(library, self._runtime, path) for name, path in plans.items()}

    def upload(self, array: npt.NDArray[np.generic]) -> Tensor:
        """Return the array on the GPU."""
        own = array if array.flags.writeable else array.copy()
        with self._on_stream():
            return torch.from_numpy(own).to(self._device, non_blocking=True)

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Queue a plan and return its output tensor, which later work on the stream may read.

        Raises:
            PolicyError: FV-ENG-004 when an input is missing, has an impossible shape, or TensorRT fails.
        """
        plan = self._plans[graph]
        context = plan.context
        with self._on_stream():
            try:
                feed = {name: inputs[name].to(dtype).contiguous() for name, dtype in plan.inputs.items()}
            except KeyError as error:
                raise PolicyError("FV-ENG-004", f"graph {graph} lacks input {error}") from error
            for name, tensor in feed.items():
                if not context.set_input_shape(name, tuple(tensor.shape)):
                    raise PolicyError(
                        "FV-ENG-004", f"graph {graph}: {name} of shape {tuple(tensor.shape)} fits no profile."
                    )
                context.set_tensor_address(name, tensor.data_ptr())
            shape = tuple(context.get_tensor_shape(plan.output))
            # The allocator of torch hands memory out again in stream order, so ``feed`` may be dropped at once.
            answer = torch.empty(shape, dtype=plan.output_dtype, device=self._device)
            context.set_tensor_address(plan.output, answer.data_ptr())
            if not context.execute_async_v3(self._stream.cuda_stream if self._stream is not None else 0):
                raise PolicyError("FV-ENG-004", f"graph {graph} failed in TensorRT; the server's log says why.")
        return answer

    def advance(self, x: Tensor, velocity: Tensor, step: float) -> Tensor:
        """Return ``x + step * velocity`` in the precision of ``x``."""
        with self._on_stream():
            return x + step * velocity.to(x.dtype)

    def blend(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return ``(1 - weight) * x + weight * target`` in the precision of ``x``."""
        with self._on_stream():
            return ((1 - weight) * x + weight * target).to(x.dtype)

    def download(self, tensor: Tensor) -> FloatArray:
        """Wait for the stream and return a tensor as float32 in host memory."""
        with self._on_stream():
            return np.asarray(tensor.to("cpu", torch.float32).numpy(), dtype=np.float32)

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def load(bundle: Bundle, options: EngineOptions) -> LoadedEngine:
    """Load a built engine of a verified bundle.

    Raises:
        SetupError: FV-ENG-010 to FV-ENG-014 when the engine is missing, damaged, or of another bundle, version or GPU
            (with the command that builds it), FV-ENG-005 for a precision it was not built in, FV-ENG-008 without
            TensorRT, FV-ENG-009 without a GPU, FV-ENG-017 when TensorRT refuses it.
    """
    library = tensorrt_library()
    number = cuda_number(options.device, NAME)
    record = read_record(bundle, options.folder)
    folder = options.folder or Path()
    check_record(record, bundle, folder, library.flavour, library.version, gpu_name(number))
    if options.precision not in ("stored", record.precision):
        command = rebuild_command(bundle, folder, options.precision, record.max_batch)
        raise SetupError("FV-ENG-005", f"{folder} was built in {record.precision}. Build it again: {command}")
    plans = verified_plans(record, folder)
    stages = stages_of(bundle, plans, static_prefix=True)
    if number >= (found := torch.cuda.device_count()):
        raise SetupError(
            "FV-ENG-009", f"engine {NAME} runs on cuda:{number}; torch {torch.__version__} sees {found} GPUs."
        )
    graphs = TensorRtGraphs(library, {n: plans[n] for n in stages.graphs}, torch.device("cuda", number))
    return StagedEngine(bundle, stages, graphs, record.precision, record.max_batch)
