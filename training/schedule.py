"""Learning rates over a run, as closed forms of how far the run is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError, unknown_name

SCHEDULES = ("constant", "cosine", "cosine_with_min_lr", "cosine_times_warmup")


@dataclass(frozen=True)
class Schedule:
    """How a learning rate changes.

    Attributes:
        kind: ``constant`` after the warm-up; ``cosine`` to zero over the steps after the warm-up;
            ``cosine_with_min_lr`` the same, ending at ``min_lr``; ``cosine_times_warmup``, a cosine to zero over the
            whole run that the warm-up scales, which also works where the budget is minutes.
        warmup_steps: steps of linear warm-up.
        min_lr: last learning rate of the base group for ``cosine_with_min_lr``; other groups end at the same
            fraction of their peak, as in transformers' ``cosine_with_min_lr``.
        base_lr: peak that ``min_lr`` is a fraction of.
    """

    kind: str = "constant"
    warmup_steps: int = 0
    min_lr: float = 0.0
    base_lr: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise unknown_name("FV-TRN-028", "schedule", self.kind, SCHEDULES)
        if self.warmup_steps < 0 or not 0 <= self.min_lr <= self.base_lr:
            raise SetupError(
                "FV-TRN-028",
                f"warm-up of {self.warmup_steps} steps and min_lr {self.min_lr:g} do not fit a peak of "
                f"{self.base_lr:g}; both must be 0 or more, and min_lr at most the peak.",
            )

    def rate(self, peak: float, step: int, share: float, steps: int = 0) -> float:
        """Return the learning rate of the step that comes next.

        Args:
            peak: highest learning rate of the group.
            step: steps done.
            share: how much of the budget is used, 0..1.
            steps: the whole budget in steps; 0 when it is minutes.
        """
        # The first step is not wasted: transformers starts at zero, here the warm-up ends one step earlier.
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.kind == "constant":
            return peak * warm
        if self.kind == "cosine_times_warmup":
            return peak * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        if step < self.warmup_steps:
            return peak * warm
        begun = self.warmup_steps / steps if steps else 0.0
        after = min(1.0, max(0.0, share - begun) / max(1e-12, 1.0 - begun))
        floor = self.min_lr / self.base_lr if self.kind == "cosine_with_min_lr" else 0.0
        return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * after)))
