"""Stepping with accelerate: one CPU, one GPU, many GPUs, many machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch

from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.stepping import OptimiserSettings, Stepped, check_norm, not_finite, set_rates
from training.strategies import STRATEGIES, FullySharded, Replicated, Strategy
from training.task import Batch, Part, StepLoss, Task, step_generator, step_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")
LONGEST_WAIT_H = 4


@dataclass(frozen=True)
class Spread:
    """How a run uses the machine.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        strategy: ``ddp`` (every process holds all weights) or ``fsdp2`` (sharded).
        bf16: bfloat16 autocast; on CUDA only.
        micro_batches: batches per process and step whose gradients are added up.
    """

    device: str = "auto"
    strategy: str = "ddp"
    bf16: bool = True
    micro_batches: int = 1


def micro_batches(global_batch: int, per_device: int, processes: int) -> int:
    """Return how many batches each process adds up per step, so that a step has ``global_batch`` samples anywhere.

    Raises:
        SetupError: FV-TRN-024 when they do not divide.
    """
    together = per_device * processes
    if per_device < 1 or global_batch % together:
        fitting = [n for n in range(1, global_batch // processes + 1) if global_batch % (n * processes) == 0]
        raise SetupError(
            "FV-TRN-024",
            f"a step has {global_batch} samples, but {processes} processes with {per_device} each make {together} at "
            f"a time, which does not divide it. Set batch_per_device to one of {fitting or 'none'}, or another "
            "global_batch.",
        )
    return global_batch // together


def refuse_missing_gpu(device: str) -> None:
    """Refuse ``cuda`` where torch sees no GPU (FV-TRN-014): weeks on a CPU are not what was asked for."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SetupError(
            "FV-TRN-014", f"--device cuda, and torch {torch.__version__} sees no GPU here; use --device auto or cpu."
        )


def open_accelerator(spread: Spread) -> Accelerator:
    """Join the process group that ``torchrun`` or ``accelerate launch`` made; alone when there is none.

    Raises:
        SetupError: FV-TRN-026 for an unknown strategy, FV-TRN-014 for a GPU that is not there.
    """
    if spread.strategy not in STRATEGIES:
        raise unknown_name("FV-TRN-026", "strategy", spread.strategy, STRATEGIES)
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    # Others wait while the main process checks hundreds of thousands of videos or writes 50 GB of state.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=LONGEST_WAIT_H))
    refuse_missing_gpu(spread.device)
    cpu = spread.device == "cpu" or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patience])


def _strategy(
    task: Task[Batch], settings: OptimiserSettings, accelerator: Accelerator, spread: Spread
) -> Strategy[Batch]:
    bf16 = spread.bf16 and accelerator.device.type == "cuda"
    if spread.strategy == "fsdp2" and accelerator.num_processes > 1:
        return FullySharded(task, settings, accelerator, bf16)
    return Replicated(task, settings, accelerator, bf16)


class AccelerateStepper(Generic[Batch]):
    """Steps a task in every process of the group; they meet once per step."""

    def __init__(
        self, task: Task[Batch], settings: OptimiserSettings, accelerator: Accelerator, spread: Spread
    ) -> None:
        """Spread the task's module over the processes (see ``Spread``)."""
        self._task, self._settings, self._accelerator = task, settings, accelerator
        self._micro = spread.micro_batches
        self.strategy = _strategy(task, settings, accelerator, spread)

    @property
    def is_main(self) -> bool:
        """Return whether this is process 0."""
        return bool(self._accelerator.is_main_process)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return self.strategy.optimizer

    def step(self, number: int, rates: Sequence[float]) -> Stepped[Batch]:
        """Do one optimiser step (FV-TRN-013 in every process when a loss is not finite in one)."""
        set_rates(self.strategy.optimizer, rates)
        parts: list[tuple[Batch, StepLoss]] = []
        for micro in range(self._micro):
            parts.append(self._gradients(number, micro))
        samples, fine, finite = self._sums(parts)
        if not finite:
            self.strategy.discard()
            raise self._blame(number, parts)
        norm = self.strategy.clip(self._settings.clip_norm)
        try:
            check_norm(norm, number)
        except SetupError:
            self.strategy.discard()
            raise
        self.strategy.step()
        return Stepped(tuple(parts), samples, fine, norm)

    def _gradients(self, number: int, micro: int) -> tuple[Batch, StepLoss]:
        # The slices of a step are numbered alike for one process with two micro-batches and for two with one.
        slices = self._micro * self._accelerator.num_processes
        index = micro * self._accelerator.num_processes + self._accelerator.process_index
        batch = self._task.batch(number, Part(index, slices))
        seed = self._task.info.seed
        # Dropout draws from the global generators; seeding them here makes a resumed run draw the same.
        torch.manual_seed(step_seed(seed, number, index))
        last = micro == self._micro - 1
        return batch, self.strategy.add(batch, step_generator(seed, number, index), 1.0 / self._micro, last)

    def _sums(self, parts: Sequence[tuple[Batch, StepLoss]]) -> tuple[int, int, bool]:
        """Return samples and fine-grained samples of all processes, and whether every loss is finite."""
        counts = [self._task.count(batch) for batch, _ in parts]
        bad = torch.stack([~torch.isfinite(found.total) for _, found in parts]).sum()
        totals = [sum(c[0] for c in counts), sum(c[1] for c in counts), 0.0]
        mine = torch.tensor(totals, device=self._accelerator.device)
        mine[2] = bad
        together = self._accelerator.reduce(mine, "sum").tolist()
        return int(together[0]), int(together[1]), together[2] == 0

    def _blame(self, number: int, parts: Sequence[tuple[Batch, StepLoss]]) -> SetupError:
        mine = all(bool(torch.isfinite(found.total)) for _, found in parts)
        said = self.collect("" if mine else not_finite(self._task, number, parts).message)
        return SetupError("FV-TRN-013", next(text for text in said if text))

    def agree(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the largest of each value over all processes."""
        if self._accelerator.num_processes == 1:
            return tuple(values)
        from torch import distributed

        mine = torch.tensor(list(values), dtype=torch.float64, device=self._accelerator.device)
        distributed.all_reduce(mine, distributed.ReduceOp.MAX)
        return tuple(mine.tolist())

    def collect(self, value: Value) -> tuple[Value, ...]:
        """Return the values of all processes, by rank."""
        from accelerate.utils import gather_object

        return tuple(cast(list[Any], gather_object([value])))

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group."""
        self._accelerator.end_training()
