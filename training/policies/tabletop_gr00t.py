"""A small GR00T-style policy: flow matching over action rows that read vision and text (paper section 3.3).

The head is the paper's at small size: action rows with their time, blocks whose normalisation is modulated by the time
(AdaLN), cross-attention over the context with its mask, Beta(1.5, 1) times, velocity targets, Euler integration.
Several noise draws share one pass through the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.policies.tabletop_backbone import Attention, FeedForward, Seen, TabletopConfig
from training.policies.tabletop_policy import Prediction, Readings, TabletopPolicy

TIME_SCALE = 1000.0
LATEST = 0.999


def time_features(time: Tensor, width: int) -> Tensor:
    """Return sinusoids float[N, width] of times float[N] in 0..1, which are spread over 0..1000 first."""
    rates = torch.exp(torch.arange(width // 2, device=time.device) * (-9.21034 / (width // 2)))
    angles = time[:, None] * TIME_SCALE * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimedBlock(nn.Module):
    """Self-attention among the rows of one draw, cross-attention over the context, feed-forward; AdaLN by time."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        width = config.width
        self.modulate = nn.Linear(width, 4 * width)
        self.self_attention = Attention(width, config.heads)
        self.cross_attention = Attention(width, config.heads)
        self.norm_forward = nn.LayerNorm(width)
        self.forward_layers = FeedForward(width, 3)

    def forward(self, x: Tensor, time: Tensor, seen: Seen) -> Tensor:
        """Return float[B, draws, rows, width] for x of that shape and time float[B, draws, width]."""
        batch, draws, rows, width = x.shape
        parts = self.modulate(F.silu(time))[:, :, None, :].chunk(4, dim=3)
        h = F.layer_norm(x, (width,)) * (1.0 + parts[0]) + parts[1]
        h = h.reshape(batch * draws, rows, width)
        x = x + self.self_attention(h, h, None).view_as(x)
        h = F.layer_norm(x, (width,)) * (1.0 + parts[2]) + parts[3]
        # Rows do not meet in cross-attention, so all draws of a sample read one set of keys and values.
        x = x + self.cross_attention(h.reshape(batch, draws * rows, width), seen.context, seen.mask).view_as(x)
        return cast(Tensor, x + self.forward_layers(self.norm_forward(x)))


class TabletopGR00T(TabletopPolicy):
    """Flow matching on the small backbone."""

    needs_noise = True

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__(config)
        width = config.width
        self.enter = nn.Linear(config.dof, width)
        self.mix_time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.position = nn.Parameter(torch.randn(config.chunk_rows, width) * 0.02)
        self.sentence_to_row = nn.Linear(width, width)
        self.blocks = nn.ModuleList(TimedBlock(config) for _ in range(config.blocks))
        self.leave = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.dof)
        )
        self.summary = Attention(width, config.heads)
        self.readings = Readings(config)

    def velocity(self, x: Tensor, time: Tensor, seen: Seen) -> Tensor:
        """Return the velocity float[B, draws, rows, dof] at x of that shape and time float[B, draws] in 0..1."""
        batch, draws = time.shape
        features = time_features(time.reshape(-1), self.config.width).view(batch, draws, -1)
        spread = features[:, :, None, :].expand(-1, -1, self.config.chunk_rows, -1)
        h = self.mix_time(torch.cat([self.enter(x), spread], dim=3)) + self.position
        h = h + self.sentence_to_row(seen.sentence)[:, None, None, :]
        embedded = self.embed_time(features)
        for block in self.blocks:
            h = block(h, embedded, seen)
        return cast(Tensor, self.leave(h))

    def act(self, high: Tensor, left: Tensor, right: Tensor, tokens: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return rows float[B, rows, dof] after Euler steps from ``noise`` of that shape; the context is made once."""
        if noise is None:
            raise ValueError("a flow-matching policy starts from noise; pass it to act().")
        seen = self.backbone(high, left, right, tokens, None)
        x = noise[:, None]
        steps = self.config.denoise_steps
        for step in range(steps):
            time = x.new_full((1, 1), step / steps).expand(x.shape[0], 1)
            x = x + self.velocity(x, time, seen) / steps
        return x[:, 0]

    def forward(
        self, views: Sequence[Tensor], tokens: Tensor, gain: Tensor | None, actions: Tensor, seed: int
    ) -> Prediction:
        """Return the flow-matching error per row, averaged over the draws, and the auxiliary readings."""
        seen = self.backbone(*views, tokens, gain)
        batch, rows, dof = actions.shape
        random = torch.Generator().manual_seed(seed)
        draws = self.config.flow_repeats
        noise = torch.randn((batch, draws, rows, dof), generator=random).to(actions)
        # u ~ Beta(1.5, 1) has the distribution function u^1.5, so a uniform number to the power 2/3 is a draw.
        drawn = torch.rand((batch, draws), generator=random).to(actions) ** (2.0 / 3.0)
        time = ((LATEST - drawn) / LATEST).clamp(min=0.0)
        at = time[:, :, None, None]
        target = actions[:, None]
        said = self.velocity((1.0 - at) * noise + at * target, time, seen)
        error = (said - (target - noise)).square().mean(dim=(1, 3))
        # Noisy rows know the answer in part, so the readings look at the context alone.
        summary = self.summary(seen.sentence[:, None, :], seen.context, seen.mask)[:, 0]
        return cast(Prediction, self.readings(seen, summary, error))
