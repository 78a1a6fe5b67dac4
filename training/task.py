"""What is learnt, apart from how it is stepped: a module, its batches and its loss.

The trainer knows nothing of cameras, words or chunks. A task gives batches that are a pure function of (seed, step,
part), so that a resumed run, and a run on another number of processes, sees the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Part:
    """A slice of the samples of one step.

    Attributes:
        rank: which slice, from 0.
        world: how many slices the step has; slices are of equal size where ``world`` divides the batch.
    """

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, eq=False)
class StepLoss:
    """Loss of a batch.

    Attributes:
        total: what is minimised, a mean over the batch.
        per_sample: float[B], the error of each sample without auxiliary terms, detached; for the log.
        terms: further scalars for the log, detached.
    """

    total: Tensor
    per_sample: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: shown in the log, for example ``head``.
        parameters: they must be trained; each belongs to one group.
        learning_rate: peak of the schedule.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float


@dataclass(frozen=True)
class TaskInfo:
    """What is fixed about a task.

    Attributes:
        seed: seed of samples, noise and weights.
        sample_error: what ``StepLoss.per_sample`` is called in the log, for example ``l1``.
        group_kind: what ``Task.groups`` names, for example ``family``; the log's key is ``l1_by_family``.
        shard_units: class names of the blocks that FSDP shards one by one.
        warm_keys: keys of ``meta`` that another run must share for its weights to mean the same here, with what to
            do where it does not; empty when nothing helps.
    """

    seed: int
    sample_error: str
    group_kind: str
    shard_units: tuple[str, ...] = ()
    warm_keys: Mapping[str, str] = field(default_factory=dict)


class Task(Protocol[Batch]):
    """One thing to learn. Nothing here depends on how many processes or threads do it."""

    @property
    def info(self) -> TaskInfo:
        """Return what is fixed."""
        ...

    @property
    def module(self) -> nn.Module:
        """Return the network, on the device it is trained on."""
        ...

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return every trained parameter once, with its learning rate."""
        ...

    def batch(self, step: int, part: Part) -> Batch:
        """Return a slice of the samples of ``step``: a pure function of (seed, step, part).

        The slices of one step together are the same samples for every ``world`` that divides the batch.
        """
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> StepLoss:
        """Return the loss of a batch.

        It calls the module (not a method of it), which is where FSDP hooks in. Everything random comes from
        ``generator``, which is on the CPU, or from the global generators, which the stepper seeds alike.
        """
        ...

    def count(self, batch: Batch) -> tuple[int, int]:
        """Return how many samples a batch has, and how many of them carry fine-grained text."""
        ...

    def groups(self, batch: Batch) -> Sequence[str]:
        """Return per sample the name under which its error is averaged in the log."""
        ...

    def where(self, batch: Batch, index: int) -> str:
        """Return where a sample comes from, for example ``episode 3, frame 17``."""
        ...

    def check(self) -> Mapping[str, object]:
        """Ask the policy what the log should watch besides the loss; empty when there is nothing."""
        ...

    def meta(self, fg_share: float) -> Mapping[str, str]:
        """Return the texts that travel with a checkpoint; ``fg_share`` is what was measured so far.

        A run is resumed only when ``recipe`` (without its budget) and ``data`` are the same.
        """
        ...


def step_seed(seed: int, step: int, part: int) -> int:
    """Return the seed of everything random inside one slice of one step.

    Noise is a function of it alone, so a resumed run needs no stored generator state.
    """
    return int(np.random.default_rng([seed, step, part]).integers(2**62))


def step_generator(seed: int, step: int, part: int) -> torch.Generator:
    """Return a CPU generator for one slice of one step; its ``initial_seed()`` is ``step_seed``."""
    return torch.Generator().manual_seed(step_seed(seed, step, part))
