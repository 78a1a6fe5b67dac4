"""The diffusion transformer of the GR00T head: blocks that read the prefix and blocks that read each other, in turn.

Module names are those of the released checkpoints (StarVLA's, which follow the diffusers library), so that their
weights load by name. Even blocks attend to the prefix, odd blocks among themselves; every block is modulated by the
time, and there are no positions inside. The prefix enters as keys and values that depend neither on the time nor on
the noisy actions: they are computed once and serve every denoising step.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_CHANNELS = 256
LONGEST_PERIOD = 10000.0


class Context(NamedTuple):
    """The prefix as the cross-attention blocks read it.

    Attributes:
        keys, values: float[cross blocks, B, heads, S, size].
        mask: bool[B, 1, 1, S], true where a token may be read.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor

    def repeat(self, times: int) -> Context:
        """Return the context for a batch laid out as ``times`` whole copies, one after the other."""
        return Context(
            self.keys.repeat(1, times, 1, 1, 1),
            self.values.repeat(1, times, 1, 1, 1),
            self.mask.repeat(times, 1, 1, 1),
        )


class TimeEmbedder(nn.Module):
    """Two linear layers with SiLU between, over cosine and sine features of the time bucket."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIME_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return float[B, width]."""
        return cast(Tensor, self.linear_2(F.silu(self.linear_1(features))))


class TimeEncoder(nn.Module):
    """Time bucket to the vector that modulates every block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimeEmbedder(width)

    def forward(self, time: Tensor) -> Tensor:
        """Return float[B, width] for int64[B]."""
        half = TIME_CHANNELS // 2
        steps = torch.arange(half, device=time.device, dtype=torch.float32)
        angles = time.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / (half - 1) * steps)
        return cast(Tensor, self.timestep_embedder(torch.cat([angles.cos(), angles.sin()], dim=-1)))


class AdaptiveNorm(nn.Module):
    """LayerNorm without own weights, scaled and shifted by the time vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, eps=1e-5, elementwise_affine=False)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return float[B, T, width]; the first half of the modulation scales, the second shifts."""
        scale, shift = self.linear(F.silu(modulation)).unsqueeze(1).chunk(2, dim=-1)
        return cast(Tensor, self.norm(x) * (1.0 + scale) + shift)


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from elsewhere, prepared in advance."""

    def __init__(self, width: int, heads: int, source: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(source, width)
        self.to_v = nn.Linear(source, width)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, float[B, heads, S, size], of float[B, S, source]."""
        return self._split(self.to_k(source)), self._split(self.to_v(source))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return float[B, T, width]."""
        mixed = F.scaled_dot_product_attention(self._split(self.to_q(x)), keys, values, attn_mask=mask)
        return cast(Tensor, self.to_out(mixed.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        return x.reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)


class Projection(nn.Module):
    """Linear, then GELU in its tanh approximation."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., inner]."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Four times the width inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Projection(width, 4 * width), nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., width]."""
        return cast(Tensor, self.net(x))


class Block(nn.Module):
    """Adaptive norm, attention, feed-forward; ``source`` channels make it read the prefix."""

    def __init__(self, width: int, heads: int, source: int | None, dropout: float) -> None:
        super().__init__()
        self.norm1 = AdaptiveNorm(width)
        self.attn1 = Attention(width, heads, source or width, dropout)
        self.norm3 = nn.LayerNorm(width, eps=1e-5, elementwise_affine=False)
        self.ff = FeedForward(width, dropout)
        self.final_dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, modulation: Tensor, prefix: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> Tensor:
        """Return float[B, T, width]; without a prefix the tokens read each other."""
        normed = self.norm1(x, modulation)
        keys, values = prefix if prefix is not None else self.attn1.keys_values(normed)
        x = x + self.final_dropout(self.attn1(normed, keys, values, mask if prefix is not None else None))
        return cast(Tensor, x + self.ff(self.norm3(x)))


class DiT(nn.Module):
    """The transformer; at DiT-B size 16 blocks of 768 channels and 12 heads."""

    def __init__(self, width: int, heads: int, blocks: int, source: int, out: int, dropout: float) -> None:
        """Build for a prefix of ``source`` channels and ``out`` channels per token out."""
        super().__init__()
        self.timestep_encoder = TimeEncoder(width)
        self.transformer_blocks = nn.ModuleList(
            Block(width, heads, source if index % 2 == 0 else None, dropout) for index in range(blocks)
        )
        self.norm_out = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, out)

    def context(self, prefix: Tensor, mask: Tensor) -> Context:
        """Return what the cross-attention blocks read of float[B, S, source]; ``mask`` bool[B, S], true to read."""
        pairs = [cast(Block, block).attn1.keys_values(prefix) for block in self.transformer_blocks[::2]]
        keys = torch.stack([key for key, _ in pairs])
        values = torch.stack([value for _, value in pairs])
        return Context(keys, values, mask[:, None, None, :])

    def forward(self, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """Return float[B, T, out] for tokens float[B, T, width] and time buckets int64[B]."""
        modulation = self.timestep_encoder(time)
        for index, block in enumerate(self.transformer_blocks):
            half = index // 2
            prefix = (context.keys[half], context.values[half]) if index % 2 == 0 else None
            x = block(x, modulation, prefix, context.mask)
        shift, scale = self.proj_out_1(F.silu(modulation)).unsqueeze(1).chunk(2, dim=-1)
        return cast(Tensor, self.proj_out_2(self.norm_out(x) * (1.0 + scale) + shift))
