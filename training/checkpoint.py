"""Training state on disk: one safetensors file, replaced atomically; a killed run goes on from the last one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError

FORMAT = "finevla-checkpoint/1"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done; the next batch is ``mixture.draw(step)``.
        samples, fine_grained: samples seen, and how many of them had fine-grained text.
        trained_s: seconds spent training, over all resumptions.
    """

    step: int = 0
    samples: int = 0
    fine_grained: int = 0
    trained_s: float = 0.0

    @property
    def fg_share(self) -> float:
        """Return the measured share of fine-grained samples."""
        return self.fine_grained / self.samples if self.samples else 0.0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A read checkpoint.

    Attributes:
        tensors: ``model.*``, ``ema.*`` and ``adam.*`` tensors.
        progress: how far the run was.
        meta: texts written with it: recipe, tokenizer, normalisation, factors, dataset hash.
    """

    tensors: Mapping[str, Tensor]
    progress: Progress
    meta: Mapping[str, str]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below ``prefix`` without it."""
        start = f"{prefix}."
        return {name[len(start) :]: t for name, t in self.tensors.items() if name.startswith(start)}


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    meta: Mapping[str, str],
) -> None:
    """Write everything a resumed run needs; readers see the old file or the new one."""
    from safetensors.torch import save

    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors.update({f"ema.{name}": tensor for name, tensor in average.items()})
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = torch.as_tensor(value)
    written = {"format": FORMAT, "progress": json.dumps(asdict(progress)), **meta}
    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata=written)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        SetupError: FV-TRN-009 when the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SetupError("FV-TRN-009", f"there is no checkpoint {path}; train first or check the path.")
    try:
        with safe_open(path, "pt") as file:
            meta = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # No mapping.
        if meta.get("format") != FORMAT:
            raise SetupError("FV-TRN-009", f"{path} has format {meta.get('format')!r}, wanted {FORMAT!r}.")
        return Checkpoint(tensors, Progress(**json.loads(meta["progress"])), meta)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise SetupError("FV-TRN-009", f"{path} is no readable checkpoint: {error}") from error


def restore(
    checkpoint: Checkpoint, model: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put a checkpoint's weights, average and optimiser state back.

    Raises:
        SetupError: FV-TRN-010 when the checkpoint belongs to another network.
    """
    load_weights(checkpoint, "model", model)
    device = next(model.parameters()).device
    for name, tensor in checkpoint.part("ema").items():
        average[name].copy_(tensor.to(device))
    keys = sorted({name.split(".", 1)[0] for name in checkpoint.part("adam")})
    for name, parameter in model.named_parameters():
        found = {key: checkpoint.tensors.get(f"adam.{key}.{name}") for key in keys}
        state = {key: value for key, value in found.items() if value is not None}
        if state:
            optimizer.state[parameter] = {
                # The fused optimiser ignores strides, so its state must lie in memory like the parameter.
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in state.items()
            }


def load_weights(checkpoint: Checkpoint, prefix: str, model: nn.Module) -> None:
    """Copy the weights below ``prefix`` into ``model`` (FV-TRN-010 when they do not fit)."""
    try:
        model.load_state_dict(checkpoint.part(prefix))
    except RuntimeError as error:
        raise SetupError("FV-TRN-010", f"the checkpoint belongs to another network: {error}") from error
