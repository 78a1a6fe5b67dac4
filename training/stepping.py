"""How one optimiser step is done: the interface, and the way of a single process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from training.task import Batch, Part, StepLoss, Task, step_generator

Value = TypeVar("Value")
REMEDY = (
    "Look at that sample; or lower the learning rates (--set learning_rate=..., learning_rate_backbone=..., "
    "learning_rate_head=...) or clip_norm and run the command again: it resumes from the last good checkpoint."
)


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW and the clipping before it.

    Attributes:
        betas, eps, weight_decay: of AdamW.
        clip_norm: largest norm of all gradients together.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0


@dataclass(frozen=True, eq=False)
class Stepped(Generic[Batch]):
    """What a step did.

    Attributes:
        parts: the batches of this process with their losses.
        samples, fine_grained: samples of all processes, and how many carried fine-grained text.
        grad_norm: norm of the gradients before clipping.
    """

    parts: tuple[tuple[Batch, StepLoss], ...]
    samples: int
    fine_grained: int
    grad_norm: float


class Stepper(Protocol[Batch]):
    """One way of stepping a task: in this process, or in many that meet once per step."""

    @property
    def is_main(self) -> bool:
        """Return whether this process writes logs and checkpoints."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser; its parameters are those of the task's module."""
        ...

    def step(self, number: int, rates: Sequence[float]) -> Stepped[Batch]:
        """Do optimiser step ``number`` with one learning rate per parameter group.

        Raises:
            SetupError: FV-TRN-013 naming step, episode and frame when a loss is not finite, or the step when the
                gradients are not; no weight has changed.
        """
        ...

    def agree(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the largest of each value over all processes, so that all decide alike."""
        ...

    def collect(self, value: Value) -> tuple[Value, ...]:
        """Return the values of all processes, by rank."""
        ...

    def wait(self) -> None:
        """Wait until every process is here."""
        ...

    def close(self) -> None:
        """Give back threads and process groups."""
        ...


def adamw(task: Task[Batch], settings: OptimiserSettings) -> torch.optim.AdamW:
    """Return the optimiser of a task, one parameter group per learning rate."""
    groups = [
        {"params": list(group.parameters), "lr": group.learning_rate, "name": group.name}
        for group in task.parameter_groups()
    ]
    return torch.optim.AdamW(
        groups, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, fused=True
    )


def set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Set the learning rate of every parameter group."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def not_finite(task: Task[Batch], number: int, parts: Sequence[tuple[Batch, StepLoss]]) -> SetupError:
    """Return the error that names the first sample whose loss is not finite."""
    place = ""
    for batch, found in parts:
        if not bool(torch.isfinite(found.total)):
            bad = np.flatnonzero(~np.isfinite(found.per_sample.float().cpu().numpy()))
            place = task.where(batch, int(bad[0]) if bad.size else 0)
            break
    return SetupError(
        "FV-TRN-013",
        f"the loss is not finite at step {number}; first at {place}. {REMEDY}",
    )


def check_norm(norm: float, number: int) -> None:
    """Refuse gradients that are not finite before they reach a weight (FV-TRN-013)."""
    if not np.isfinite(norm):
        raise SetupError("FV-TRN-013", f"the gradients are not finite at step {number} though every loss is. {REMEDY}")


class LocalStepper(Generic[Batch]):
    """One process on one device; on a CPU each core works on its own part of the batch.

    Each core works with one thread, and the parts meet once per step. Threads inside every operation would meet a
    thousand times per step, which costs up to five times the time as soon as anything else runs on the machine.
    """

    def __init__(self, task: Task[Batch], settings: OptimiserSettings, threads: int = 1) -> None:
        """Prepare the optimiser; ``threads`` parts per batch, which only small networks without shared state bear."""
        self._task, self._settings, self._threads = task, settings, threads
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self._optimizer = adamw(task, settings)
        self._parameters = tuple(p for group in self._optimizer.param_groups for p in group["params"])

    @property
    def is_main(self) -> bool:
        """Return True: there is no other process."""
        return True

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return self._optimizer

    def step(self, number: int, rates: Sequence[float]) -> Stepped[Batch]:
        """Do one optimiser step (FV-TRN-013 when the loss is not finite)."""
        set_rates(self._optimizer, rates)
        batches = [self._task.batch(number, Part(i, self._threads)) for i in range(self._threads)]
        done = list(self._pool.map(lambda i: self._gradients(number, i, batches[i]), range(self._threads)))
        parts = tuple((batch, found) for batch, (found, _) in zip(batches, done, strict=True))
        if not all(bool(torch.isfinite(found.total)) for _, found in parts):
            raise not_finite(self._task, number, parts)
        for index, parameter in enumerate(self._parameters):
            # The fused optimiser walks memory and ignores strides, so a gradient must lie like its parameter.
            mean = torch.stack([gradients[index] for _, gradients in done]).mean(dim=0)
            parameter.grad = torch.empty_like(parameter).copy_(mean)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm))
        check_norm(norm, number)
        self._optimizer.step()
        counts = [self._task.count(batch) for batch in batches]
        return Stepped(parts, sum(c[0] for c in counts), sum(c[1] for c in counts), norm)

    def _gradients(self, number: int, index: int, batch: Batch) -> tuple[StepLoss, tuple[Tensor, ...]]:
        """Return the loss of a part of the batch and the gradient of every parameter."""
        found = self._task.loss(batch, step_generator(self._task.info.seed, number, index))
        gradients = torch.autograd.grad(found.total, self._parameters)
        return StepLoss(found.total.detach(), found.per_sample, found.terms), gradients

    def agree(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the values: nobody else has a say."""
        return tuple(values)

    def collect(self, value: Value) -> tuple[Value, ...]:
        """Return the value alone."""
        return (value,)

    def wait(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()
