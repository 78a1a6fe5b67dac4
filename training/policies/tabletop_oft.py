"""A small OFT-style policy: three views and an instruction in, sixteen action rows out (paper section 3.3).

A fixed number of action queries read vision and text, and a residual regression head turns each query into one row of
normalised joint targets, trained with L1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.policies.tabletop_backbone import DecoderBlock, Seen, TabletopConfig
from training.policies.tabletop_policy import Prediction, Readings, TabletopPolicy


class RegressionHead(nn.Module):
    """LN, linear, two residual LN-linear blocks, LN, linear: the OFT head at small size."""

    def __init__(self, width: int, dof: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()) for _ in range(2)
        )
        self.norm_out = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dof)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[B, rows, dof]."""
        x = F.relu(self.enter(self.norm_in(x)))
        for block in self.blocks:
            x = x + block(x)
        return cast(Tensor, self.leave(self.norm_out(x)))


class TabletopOFT(TabletopPolicy):
    """Action queries and a regression head on the small backbone."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__(config)
        width = config.width
        self.queries = nn.Parameter(torch.randn(config.chunk_rows, width) * 0.02)
        self.sentence_to_query = nn.Linear(width, width)
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.blocks))
        self.head = RegressionHead(width, config.dof)
        self.readings = Readings(config)

    def _decode(self, seen: Seen) -> Tensor:
        x = self.queries + self.sentence_to_query(seen.sentence)[:, None, :]
        for block in self.decoder:
            x = block(x, seen.context, seen.mask)
        return cast(Tensor, x)

    def act(self, high: Tensor, left: Tensor, right: Tensor, tokens: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return normalised rows float[B, rows, dof]; there is no noise to start from."""
        return cast(Tensor, self.head(self._decode(self.backbone(high, left, right, tokens, None))))

    def forward(
        self, views: Sequence[Tensor], tokens: Tensor, gain: Tensor | None, actions: Tensor, seed: int
    ) -> Prediction:
        """Return the L1 error per row and the auxiliary readings; nothing is drawn."""
        seen = self.backbone(*views, tokens, gain)
        x = self._decode(seen)
        error = (self.head(x) - actions).abs().mean(dim=2)
        return cast(Prediction, self.readings(seen, x.mean(1), error))
