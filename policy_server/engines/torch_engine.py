"""PyTorch as reference: runs the exported programs of a bundle, without the code that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export import ExportedProgram

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.program_archive import check_program
from policy_server.engines.engine import EngineOptions, LoadedEngine, cuda_number, refuse_unused, stored_precision
from policy_server.engines.shared_weights import shared_weights
from policy_server.engines.staged import HEAD, POLICY, StagedEngine, Stages, stages_of

NAME = "torch"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Program:
    """One loaded program.

    Attributes:
        module: its graph, runnable.
        inputs: names of its inputs, in order.
        as_mapping: whether it takes them as one dictionary.
        length: fixed prompt length, 0 where any length goes.
    """

    module: torch.fx.GraphModule
    inputs: tuple[str, ...]
    as_mapping: bool
    length: int


class TorchPrograms:
    """Exported programs on one device."""

    def __init__(self, programs: Mapping[str, Program], device: torch.device, precision: str) -> None:
        """Run ``programs`` on ``device``, products with weights in ``precision`` where that is a half one."""
        self._programs = programs
        self._device = device
        self._half = DTYPES.get(precision)
        for name, program in programs.items():
            program.module.to(device)
            if self._half is not None and name != HEAD:
                _drop_type_assertions(program.module)

    def upload(self, array: npt.NDArray[np.generic]) -> Tensor:
        """Return the array on the device."""
        # Arrays that arrived over the wire are read-only, and torch has no such tensors: they are copied.
        own = array if array.flags.writeable else array.copy()
        return torch.from_numpy(own).to(self._device, non_blocking=True)

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the program's output (PolicyError FV-ENG-004 when it fails)."""
        program = self._programs[graph]
        # Heads are float32 wherever they are a program of their own, as they were in training.
        enabled = self._half is not None and graph != HEAD
        half = torch.autocast(self._device.type, self._half or torch.bfloat16, enabled=enabled)
        try:
            feed = {name: inputs[name] for name in program.inputs}
            with torch.inference_mode(), half:
                answer: Tensor = program.module(feed) if program.as_mapping else program.module(*feed.values())
        except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
            raise PolicyError("FV-ENG-004", f"program {graph} failed on {sorted(inputs)}: {error}") from error
        return answer

    def advance(self, x: Tensor, velocity: Tensor, step: float) -> Tensor:
        """Return ``x + step * velocity`` in the precision of ``x``."""
        return x + step * velocity.to(x.dtype)

    def blend(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return ``(1 - weight) * x + weight * target`` in the precision of ``x``."""
        return ((1 - weight) * x + weight * target).to(x.dtype)

    def download(self, tensor: Tensor) -> FloatArray:
        """Return a tensor as float32 in host memory."""
        return np.asarray(tensor.detach().to("cpu", torch.float32).numpy(), dtype=np.float32)


def load(bundle: Bundle, options: EngineOptions) -> LoadedEngine:
    """Load the programs of a verified bundle: ``policy`` where it has that, else ``vision``, ``prefix`` and ``head``.

    Raises:
        SetupError: FV-ENG-001 when it has neither, FV-ENG-007 when torch refuses one, FV-ENG-009 for a device that is
            not there, FV-BUN-013 when one holds more than tensors and aten operators.
    """
    refuse_unused(options, NAME)
    stored = stored_precision(bundle)
    if stored != "fp32" and options.precision not in ("stored", stored):
        raise SetupError(
            "FV-ENG-005",
            f"{bundle.path} is stored in {stored} and runs in that, not in {options.precision}; leave --precision.",
        )
    device = _device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    weights = shared_weights(bundle)
    if POLICY in bundle.programs:
        programs = {POLICY: load_program(bundle.programs[POLICY], weights)}
        stages = Stages(bundle.plan, POLICY, bundle.plan.kind == "staged" and not programs[POLICY].length)
    else:
        stages = stages_of(bundle, bundle.programs, what="programs")
        programs = {name: load_program(bundle.programs[name], weights) for name in stages.graphs}
    return StagedEngine(bundle, stages, TorchPrograms(programs, device, options.precision), options.precision)


def load_program(path: Path, weights: Mapping[str, Tensor]) -> Program:
    """Check and load one archive.

    Args:
        path: the archive.
        weights: state-dict name -> tensor that replaces the archive's own.

    Raises:
        SetupError: FV-BUN-013 when it is not safe, FV-ENG-007 when torch refuses it.
    """
    check_program(path)
    try:
        exported = torch.export.load(path)
        # Guards are source text of the archive; what they would check, the server's own checks cover.
        module = exported.module(check_guards=False)
        own = {name: weights[name] for name in module.state_dict() if name in weights}
        module.load_state_dict(own, strict=False, assign=True)
    except Exception as error:  # The reader of torch raises whatever its parts raise.
        raise SetupError(
            "FV-ENG-007", f"torch {torch.__version__} cannot load {path.name}: {error}; export the bundle again."
        ) from error
    signature = exported.module_call_graph[0].signature
    if signature is None or not signature.forward_arg_names:
        raise SetupError("FV-ENG-007", f"{path.name} does not name its inputs; export the bundle again.")
    arguments = signature.in_spec.child(0)
    as_mapping = arguments.num_children == 1 and arguments.child(0).type is dict
    names = arguments.child(0).context if as_mapping else [n.replace("__", ".") for n in signature.forward_arg_names]
    return Program(module, tuple(names), as_mapping, _fixed_length(exported, tuple(names)))


def _drop_type_assertions(module: torch.fx.GraphModule) -> None:
    """Remove the assertions that values have the types of the export; under autocast some are of half precision."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        module.graph.erase_node(node)
    module.recompile()


def _fixed_length(exported: ExportedProgram, names: tuple[str, ...]) -> int:
    """Return the prompt length a program was exported for, 0 where it takes any."""
    shapes = {n.name: n.meta["val"].shape for n in exported.graph.nodes if n.op == "placeholder" and "val" in n.meta}
    leaves = dict(zip(names, exported.graph_signature.user_inputs, strict=True))
    length = shapes[str(leaves["tokens"])][1] if "tokens" in leaves else 0
    return length if isinstance(length, int) else 0


def _device(name: str) -> torch.device:
    if name in ("", "cpu"):
        return torch.device("cpu")
    number = cuda_number(name, NAME)
    if number >= torch.cuda.device_count():
        raise SetupError(
            "FV-ENG-009",
            f"cuda:{number} is not there, torch {torch.__version__} sees {torch.cuda.device_count()} GPUs.",
        )
    return torch.device("cuda", number)
