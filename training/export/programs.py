"""torch.export programs of the stages, without their weights: those lie once in the bundle, for all engines.

A program names its weights, and ``graphs/weights.json`` says where in the shared file each of them lies; in the archive
one element stands for each. So an archive holds the computation only, a few hundred kilobytes of JSON and no pickle.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.export.onnx_graph import Port
from training.export.stages import BATCH, LENGTH, Stage
from training.export.torch_operations import TorchOperations
from training.export.weight_names import WeightNames

LARGEST_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Program:
    """One traced stage.

    Attributes:
        archive: bytes of the ``.pt2`` file.
        weights: state-dict name -> weight.
    """

    archive: bytes
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompts a program accepts.

    Attributes:
        shortest: ends behind the last image token.
        longest: of the prompt specification.
    """

    shortest: int
    longest: int


class _Collecting(TorchOperations):
    """Runs a stage and notes the weights it asks for, laid out as in a bundle: matrices with their inputs first."""

    def __init__(self, names: WeightNames) -> None:
        self._names = names
        self.found: dict[str, Tensor] = {}

    def weight(self, tensor: Tensor, *, transposed: bool = False, name: str = "") -> Tensor:
        value = tensor.detach().t() if transposed else tensor.detach()
        return self.found.setdefault(self._names.name(tensor, transposed, name), value)

    def derived(self, tensor: Tensor, what: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        return self.found.setdefault(f"{self._names.name(tensor)}.{what}", compute(tensor.detach()))


class _Bound(TorchOperations):
    """Takes weights from the arguments of the program."""

    def __init__(self, names: WeightNames, given: Mapping[str, Tensor]) -> None:
        self._names = names
        self._given = given

    def weight(self, tensor: Tensor, *, transposed: bool = False, name: str = "") -> Tensor:
        return self._given[self._names.name(tensor, transposed, name)]

    def derived(self, tensor: Tensor, what: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        return self._given[f"{self._names.name(tensor)}.{what}"]


class _StageModule(nn.Module):
    """A stage as a module whose buffers are its weights."""

    def __init__(self, stage: Stage, names: WeightNames, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._stage = stage
        self._names = names
        self._order = tuple(weights)
        for name, tensor in weights.items():
            self.register_buffer(_buffer(name), tensor)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the stage's output."""
        given = {name: self.get_buffer(_buffer(name)) for name in self._order}
        found: Tensor = self._stage.build(_Bound(self._names, given), inputs)
        return found


def _buffer(name: str) -> str:
    """Return a weight's name without dots, which buffers may not have."""
    return name.replace(".", "__")


def trace_stage(stage: Stage, names: WeightNames, sample: Mapping[str, Tensor], lengths: Lengths) -> Program:
    """Trace a stage for any batch and any length of prompt.

    Args:
        stage: the stage.
        names: of the policy's weights.
        sample: inputs with a batch of two or more and a prompt shorter than the longest.
        lengths: of prompts.
    """
    collecting = _Collecting(names)
    with torch.no_grad():
        # Strides of a cut prompt would otherwise become a law of the program.
        sample = {name: value.contiguous() for name, value in sample.items()}
        stage.build(collecting, sample)
    weights = collecting.found
    sizes: dict[str, object] = {
        BATCH: torch.export.Dim("batch", min=1, max=LARGEST_BATCH),
        LENGTH: torch.export.Dim("length", min=lengths.shortest, max=lengths.longest),
    }
    shapes = {port.name: _dynamic(port, sizes) for port in stage.inputs}
    inputs = {port.name: sample[port.name] for port in stage.inputs}
    with warnings.catch_warnings(), torch.no_grad():
        # Torch warns about its own deprecated calls here.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _StageModule(stage, names, weights), (inputs,), dynamic_shapes=(shapes,), strict=False
        )
        _strip(program)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return Program(buffer.getvalue(), {_buffer(name): tensor for name, tensor in weights.items()})


def _strip(program: torch.export.ExportedProgram) -> None:
    """Leave the computation: no sample (it would be pickled), no traces of this machine's files, no weights.

    Torch's assertions about its own casts go too: they name the device of the export, and half-precision engines
    cast elsewhere.
    """
    program.example_inputs = None
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        program.graph.erase_node(node)
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    for name, tensor in program.state_dict.items():
        program.state_dict[name] = torch.zeros(1, dtype=tensor.dtype).expand(tensor.shape)


def _dynamic(port: Port, sizes: Mapping[str, object]) -> dict[int, object]:
    return {axis: sizes[size] for axis, size in enumerate(port.shape) if isinstance(size, str)}
