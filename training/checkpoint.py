"""Training state and the single file that holds it; readers see the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError

FORMAT = "finevla-checkpoint/1"
State = Iterator[tuple[str, Tensor]]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done; the next batch is that of ``step``.
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
        tensors: ``model.*``, ``ema.*`` and ``adam.*`` tensors; read from disk one by one where they are large.
        progress: how far the run was.
        meta: texts written with it: recipe, tokenizer, normalisation, factors, dataset hash.
    """

    tensors: Mapping[str, Tensor]
    progress: Progress
    meta: Mapping[str, str]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below ``prefix`` without it."""
        start = f"{prefix}."
        return {name[len(start) :]: self.tensors[name] for name in self.tensors if name.startswith(start)}

    @property
    def weights(self) -> str:
        """Return the prefix of the weights to use: the average where one was kept."""
        return "ema" if any(name.startswith("ema.") for name in self.tensors) else "model"


def state_tensors(module: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> State:
    """Yield every tensor a resumed run needs, whole, in the same order in every process.

    Sharded tensors are put together on the way, so all processes must iterate, and the file does not depend on how
    many there were.
    """
    for name, tensor in module.state_dict().items():
        yield f"model.{name}", _whole(tensor)
    for name, tensor in average.items():
        yield f"ema.{name}", _whole(tensor)
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"adam.{key}.{name}", _whole(torch.as_tensor(value))


def save_checkpoint(path: Path, state: State, progress: Progress, meta: Mapping[str, str]) -> None:
    """Write everything a resumed run needs into one file."""
    from safetensors.torch import save

    written = {"format": FORMAT, "progress": json.dumps(asdict(progress)), **meta}
    data = save({name: t.contiguous() for name, t in state}, metadata=written)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: a file, or a folder written by ``training.checkpoint_folder``.

    Raises:
        SetupError: FV-TRN-009 when it is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        from training.checkpoint_folder import load_checkpoint_folder

        return load_checkpoint_folder(path)
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
    checkpoint: Checkpoint, module: nn.Module, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put a checkpoint's weights, average and optimiser state back, also into sharded tensors.

    Raises:
        SetupError: FV-TRN-010 when the checkpoint belongs to another network.
    """
    load_weights(checkpoint, "model", module)
    for name, tensor in average.items():
        saved = checkpoint.tensors.get(f"ema.{name}")
        if saved is not None:
            _put(tensor, saved)
    keys = sorted({name.split(".", 2)[1] for name in checkpoint.tensors if name.startswith("adam.")})
    for name, parameter in module.named_parameters():
        found = {key: checkpoint.tensors.get(f"adam.{key}.{name}") for key in keys}
        state = {key: value for key, value in found.items() if value is not None}
        if state:
            optimizer.state[parameter] = {
                # The fused optimiser ignores strides, so its state must lie in memory like the parameter.
                key: _counter(parameter, value) if key == "step" else _put(torch.empty_like(parameter), value)
                for key, value in state.items()
            }


def load_weights(checkpoint: Checkpoint, prefix: str, module: nn.Module) -> None:
    """Copy the weights below ``prefix`` into ``module`` (FV-TRN-010 when they do not fit)."""
    wanted = module.state_dict()
    saved = {name[len(prefix) + 1 :] for name in checkpoint.tensors if name.startswith(f"{prefix}.")}
    strange = sorted(saved ^ wanted.keys())
    if strange:
        raise SetupError(
            "FV-TRN-010", f"the checkpoint belongs to another network: only one of the two has {strange[0]!r}."
        )
    for name, tensor in wanted.items():
        value = checkpoint.tensors[f"{prefix}.{name}"]
        if value.shape != tensor.shape:
            raise SetupError(
                "FV-TRN-010",
                f"the checkpoint belongs to another network: {name!r} has shape {tuple(value.shape)}, wanted "
                f"{tuple(tensor.shape)}.",
            )
        _put(tensor, value)


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor, put together from its shards where it has any."""
    from torch.distributed.tensor import DTensor

    found = tensor.detach()
    return found.full_tensor() if isinstance(found, DTensor) else found


def _counter(parameter: Tensor, value: Tensor) -> Tensor:
    """Return the optimiser's count of steps where the fused optimiser wants it: beside the parameter."""
    return value.to(torch.float32).to(parameter.device)


@torch.no_grad()
def _put(target: Tensor, value: Tensor) -> Tensor:
    """Copy a whole tensor into ``target``, each process its own shard, and return ``target``."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(target, DTensor):
        # Every process reads the same file, so nothing needs to be sent.
        mine = distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
        target.to_local().copy_(mine.to_local())
    else:
        target.copy_(value.to(target.device))
    return target
