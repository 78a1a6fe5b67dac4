"""The ways to answer one observation that are measured beside one another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.policy_step.rates import synchronise, used_bytes
from benchmarks.policy_step.subject import Arrays, Subject
from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions
from policy_server.served_model import load_engine_checked

Step = Callable[[Arrays], npt.NDArray[np.float32]]
HUGGING_FACE, EAGER, COMPILED = "Hugging Face eager", "policy eager", "torch.compile"
WARM_UP = 2


@dataclass(eq=False)
class Side:
    """One way to run a step, and what was measured.

    Attributes:
        name: row of the table.
        run: observation tensors in host memory to rows in host memory.
        memory_bytes: what loading and a first run added to the memory in use.
        seconds: batch size -> time of every step.
    """

    name: str
    run: Step
    memory_bytes: int
    seconds: dict[int, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """A side that does not run here.

    Attributes:
        name: row of the table.
        reason: why, as the engine says it.
    """

    name: str
    reason: str


def torch_sides(subject: Subject, base_bytes: int, probe: Arrays, compiled: bool) -> list[Side]:
    """Return plain Hugging Face, the policy itself and, where asked for, the policy through torch.compile.

    Args:
        subject: the policy.
        base_bytes: what building it added to the memory in use; all of these sides need that.
        probe: a batch for the first run.
        compiled: whether to compile.
    """
    forwards: dict[str, Callable[..., torch.Tensor]] = {HUGGING_FACE: subject.act_plainly, EAGER: subject.act}
    if compiled:
        forwards[COMPILED] = torch.compile(subject.act, dynamic=False)
    sides = []
    for name, forward in forwards.items():
        before = used_bytes(subject.device)
        run = subject.step(forward)
        run(probe)
        sides.append(Side(name, run, base_bytes + max(0, used_bytes(subject.device) - before)))
    return sides


def engine_sides(
    bundle: Bundle, engines: Mapping[str, EngineOptions], device: torch.device, probe: Arrays
) -> list[Side | Missing]:
    """Load engines through their parity gate; one that does not run here comes back with its reason."""
    sides: list[Side | Missing] = []
    for name, options in engines.items():
        before = used_bytes(device)
        try:
            engine, _ = load_engine_checked(bundle, name, options)
        except SetupError as error:
            sides.append(Missing(name, str(error)))
            continue
        engine.run(probe)
        label = name if options.precision == "stored" else f"{name} {options.precision}"
        sides.append(Side(label, engine.run, max(0, used_bytes(device) - before)))
    return sides


def interleave(
    sides: Sequence[Side], batches: Mapping[int, Arrays], rounds: int, steps: int, device: torch.device
) -> None:
    """Time every side on every batch: rounds of ``steps`` steps, the sides alternating.

    A machine changes from minute to minute, so only figures of one run may be compared, and the order turns around
    every round.
    """
    for size, inputs in batches.items():
        for side in sides:
            side.seconds[size] = []
            for _ in range(WARM_UP):
                side.run(inputs)
        for number in range(rounds):
            for side in list(sides)[:: -1 if number % 2 else 1]:
                for _ in range(steps):
                    synchronise(device)
                    start = time.perf_counter()
                    side.run(inputs)
                    synchronise(device)
                    side.seconds[size].append(time.perf_counter() - start)
