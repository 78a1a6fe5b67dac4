"""How weights and gradients are spread over processes: copied to each of them, or sharded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from training.stepping import OptimiserSettings, adamw
from training.task import Batch, StepLoss, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

STRATEGIES = ("ddp", "fsdp2")
Taken = TypeVar("Taken", contravariant=True)


class Forward(nn.Module, Generic[Batch]):
    """The task's loss as one forward pass, which is where DDP hooks in."""

    def __init__(self, task: Task[Batch], bf16: bool) -> None:
        super().__init__()
        self.module = task.module
        self._task, self._bf16 = task, bf16

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return total, error per sample and terms."""
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._bf16):
            found = self._task.loss(batch, generator)
        return found.total, found.per_sample, dict(found.terms)


class Strategy(Protocol[Taken]):
    """One way of spreading a network over processes."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser whose groups carry the learning rates."""
        ...

    def add(self, batch: Taken, generator: torch.Generator, share: float, last: bool) -> StepLoss:
        """Add ``share`` of the gradients of a batch and return its loss; the processes meet when ``last`` is true."""
        ...

    def clip(self, clip_norm: float) -> float:
        """Clip the gradients and return their norm before."""
        ...

    def step(self) -> None:
        """Step the optimiser and forget the gradients."""
        ...

    def discard(self) -> None:
        """Forget the gradients without stepping."""
        ...


class Replicated(Generic[Batch]):
    """Every process holds all weights; one process needs nothing more (``DistributedDataParallel`` for several)."""

    def __init__(self, task: Task[Batch], settings: OptimiserSettings, accelerator: Accelerator, bf16: bool) -> None:
        self._accelerator = accelerator
        self.optimizer: torch.optim.Optimizer = adamw(task, settings)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._forward = accelerator.prepare_model(Forward(task, bf16))

    def add(self, batch: Batch, generator: torch.Generator, share: float, last: bool) -> StepLoss:
        """Add the gradients; processes meet in the last micro-batch only."""
        # DDP decides in the forward pass whether the backward pass will meet the other processes.
        with self._apart(last):
            found = StepLoss(*self._forward(batch, generator))
            (found.total * share).backward()  # type: ignore[no-untyped-call]
        return StepLoss(found.total.detach(), found.per_sample, found.terms)

    def _apart(self, last: bool) -> AbstractContextManager[None]:
        no_sync: Callable[[], AbstractContextManager[None]] | None = getattr(self._forward, "no_sync", None)
        return nullcontext() if last or no_sync is None else no_sync()

    def clip(self, clip_norm: float) -> float:
        """Clip the gradients and return their norm before."""
        return float(_whole(torch.nn.utils.clip_grad_norm_(self._parameters, clip_norm)))

    def step(self) -> None:
        """Step the optimiser and forget the gradients."""
        self.optimizer.step()
        self.discard()

    def discard(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)


class FullySharded(Replicated[Batch]):
    """FSDP2: every process holds a slice of each weight, its gradient and its moments.

    Blocks are sharded one by one (``TaskInfo.shard_units``), the rest with the root. Weights stay float32 and
    bfloat16 comes from autocast, as without sharding, so that a run does not depend on how it is spread.
    """

    def __init__(self, task: Task[Batch], settings: OptimiserSettings, accelerator: Accelerator, bf16: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        self._accelerator = accelerator
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for module in list(task.module.modules()):
            if type(module).__name__ in task.info.shard_units:
                fully_shard(module, mesh=mesh)
        fully_shard(task.module, mesh=mesh)
        if hasattr(task.module, "act"):
            # Weights are gathered around ``forward`` alone; the check asks for ``act``.
            register_fsdp_forward_method(task.module, "act")
        self._forward: Any = Forward(task, bf16)
        # Sharding replaces the parameters, so the optimiser is made afterwards.
        self.optimizer = adamw(task, settings)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def _apart(self, last: bool) -> AbstractContextManager[None]:
        """Never keep processes apart: gradients are reduced to their shards every time, which keeps memory small."""
        return nullcontext()


def _whole(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
