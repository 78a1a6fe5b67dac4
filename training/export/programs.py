"""torch.export programs of the stages, without their weights: those lie once in the bundle, for all engines.

A program takes the weights it reads as its first arguments, in the order of ``graphs/weights.json``, and the stage's
inputs after them. So an archive holds the computation only, a few hundred kilobytes of JSON and no pickle.
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
        weights: name -> weight, in the order of the program's first arguments.
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
    """A stage as a module without state."""

    def __init__(self, stage: Stage, names: WeightNames, order: tuple[str, ...]) -> None:
        super().__init__()
        self._stage = stage
        self._names = names
        self._order = order

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the stage's output for weights, then inputs."""
        count = len(self._order)
        given = dict(zip(self._order, arguments[:count], strict=True))
        ports = (port.name for port in self._stage.inputs)
        found = self._stage.build(_Bound(self._names, given), dict(zip(ports, arguments[count:], strict=True)))
        assert isinstance(found, Tensor)
        return found


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
    shapes = (*({} for _ in weights), *(_dynamic(port, sizes) for port in stage.inputs))
    arguments = (*weights.values(), *(sample[port.name] for port in stage.inputs))
    with warnings.catch_warnings(), torch.no_grad():
        # Torch warns about its own deprecated calls here.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _StageModule(stage, names, tuple(weights)), arguments, dynamic_shapes={"arguments": shapes}, strict=False
        )
        # The sample would be pickled into the archive, weights included.
        program.example_inputs = None
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return Program(buffer.getvalue(), weights)


def _dynamic(port: Port, sizes: Mapping[str, object]) -> dict[int, object]:
    return {axis: sizes[size] for axis, size in enumerate(port.shape) if isinstance(size, str)}
