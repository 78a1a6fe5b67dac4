"""What every tabletop policy is to its trainer: a module with a loss per sample, auxiliary readings and an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from training.policies.tabletop_backbone import Seen, TabletopBackbone, TabletopConfig


class Prediction(NamedTuple):
    """What the network says about a batch of samples with their labels.

    Attributes:
        error: float[B, rows], the head's own loss per predicted row (L1 or flow matching).
        target_xy: float[B, 2, 2], two readings (vision, decoder) of where the object acted on first lies.
        arm: float[B], logit that the right arm acts.
        factor: float[B, factors], logits of what the text asks for.
    """

    error: Tensor
    target_xy: Tensor
    arm: Tensor
    factor: Tensor


class Readings(nn.Module):
    """Auxiliary readings that keep a policy from going deaf; training uses them, export drops them."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        width = config.width
        self.look = nn.Linear(width, 1)
        self.aux_vision = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.aux_decoder = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
        self.aux_factor = nn.Linear(width, config.factors)

    def forward(self, seen: Seen, summary: Tensor, error: Tensor) -> Prediction:
        """Return the readings for a summary float[B, width] of what the head attends to."""
        focus = torch.softmax(self.look(seen.head), dim=1)
        seen_xy = self.aux_vision((seen.head * focus).sum(1))
        read = self.aux_decoder(summary)
        return Prediction(
            error=error,
            target_xy=torch.stack([seen_xy, read[:, :2]], dim=1),
            arm=read[:, 2],
            factor=self.aux_factor(seen.sentence),
        )


class TabletopPolicy(nn.Module, ABC):
    """A policy on the small backbone; ``act`` is what is exported."""

    needs_noise = False

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = TabletopBackbone(config)

    @abstractmethod
    def act(self, high: Tensor, left: Tensor, right: Tensor, tokens: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return normalised rows float[B, rows, dof] for uint8 NHWC frames and int64[B, L] tokens.

        ``noise`` float[B, rows, dof] is where a flow-matching head starts; a regression head takes none.
        """

    @abstractmethod
    def forward(
        self, views: Sequence[Tensor], tokens: Tensor, gain: Tensor | None, actions: Tensor, seed: int
    ) -> Prediction:
        """Return the loss per row against ``actions`` float[B, rows, dof] and the auxiliary readings.

        ``gain`` float[B] is the brightness augmentation; ``seed`` decides what a flow-matching head draws.
        """

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Return the noise float[count, rows, dof] that ``act`` needs, or nothing."""
        if not self.needs_noise:
            return ()
        shape = (count, self.config.chunk_rows, self.config.dof)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)),)

    def parameter_count(self) -> int:
        """Return the number of trained numbers."""
        return cast(int, sum(p.numel() for p in self.parameters()))
