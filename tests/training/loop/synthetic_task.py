"""A task small enough to be read at a glance: a line is fitted, with dropout and noise, by two modules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.task import ParameterGroup, Part, StepLoss, TaskInfo

BATCH = 8


@dataclass(frozen=True, eq=False)
class Points:
    x: Tensor
    y: Tensor
    numbers: tuple[int, ...]


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        return found


class SyntheticTask:
    """Samples ``8 * step`` to ``8 * step + 7`` make a step; sample ``bad`` has a target that is not a number."""

    def __init__(self, seed: int = 3, bad: int = -1, rates: tuple[float, float] = (1e-2, 2e-2)) -> None:
        torch.manual_seed(seed)
        self._line = Line()
        self._seed, self._bad, self._rates = seed, bad, rates

    @property
    def info(self) -> TaskInfo:
        return TaskInfo(self._seed, "l1", "half", ("Sequential",))

    @property
    def module(self) -> Line:
        return self._line

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        return (
            ParameterGroup("body", tuple(self._line.body.parameters()), self._rates[0]),
            ParameterGroup("head", tuple(self._line.head.parameters()), self._rates[1]),
        )

    def batch(self, step: int, part: Part) -> Points:
        size = BATCH // part.world
        rows = np.random.default_rng([self._seed, step]).standard_normal((BATCH, 3)).astype(np.float32)
        wanted = np.stack([rows[:, 0] - rows[:, 1], rows[:, 2]], axis=1)
        numbers = tuple(range(BATCH * step, BATCH * (step + 1)))[part.rank * size : (part.rank + 1) * size]
        span = slice(part.rank * size, (part.rank + 1) * size)
        y = torch.from_numpy(wanted[span].copy())
        if self._bad in numbers:
            y[numbers.index(self._bad)] = torch.nan
        return Points(torch.from_numpy(rows[span].copy()), y, numbers)

    def loss(self, batch: Points, generator: torch.Generator) -> StepLoss:
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        error = (self._line(batch.x + noise) - batch.y).abs().mean(dim=1)
        return StepLoss(error.mean(), error.detach(), {"largest": error.detach().max()})

    def count(self, batch: Points) -> tuple[int, int]:
        return len(batch.numbers), sum(number % 2 for number in batch.numbers)

    def groups(self, batch: Points) -> Sequence[str]:
        return ["odd" if number % 2 else "even" for number in batch.numbers]

    def where(self, batch: Points, index: int) -> str:
        return f"episode {batch.numbers[index] // BATCH}, frame {batch.numbers[index] % BATCH}"

    def check(self) -> Mapping[str, object]:
        with torch.no_grad():
            return {"at_zero": {"size": float(self._line.eval()(torch.zeros(1, 3)).abs().sum())}}

    def meta(self, fg_share: float) -> Mapping[str, str]:
        return {"recipe": json.dumps({"seed": self._seed, "steps": 0}), "data": "line", "share": f"{fg_share:.3f}"}
