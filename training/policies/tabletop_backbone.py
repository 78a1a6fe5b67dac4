"""The small from-scratch backbone of the tabletop policies: three views and an instruction to context tokens.

It is small enough to be trained on two CPU cores: patch-like stems, few tokens, no normalisation over channels inside
the convolutions, uint8 NHWC frames converted inside the graph. There is no proprioception and no history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TabletopConfig:
    """Sizes of the network.

    Attributes:
        vocabulary: number of word ids, 0 is padding.
        max_tokens: longest instruction in words.
        chunk_rows: rows predicted per query.
        dof: width of one row.
        width: channels of tokens.
        heads: attention heads.
        blocks: decoder blocks.
        text_blocks: self-attention blocks of the text encoder.
        head_px, wrist_px: side of the square frames.
        factors: classes of the auxiliary text classification (family and variant pairs).
        flow_repeats: noise draws per sample and step of a flow-matching head (paper recipe: 4).
        denoise_steps: Euler steps of a flow-matching head.
    """

    vocabulary: int
    max_tokens: int = 48
    chunk_rows: int = 16
    dof: int = 14
    width: int = 160
    heads: int = 5
    blocks: int = 3
    text_blocks: int = 1
    head_px: int = 96
    wrist_px: int = 64
    factors: int = 14
    flow_repeats: int = 4
    denoise_steps: int = 4


class Seen(NamedTuple):
    """What the backbone makes of a batch.

    Attributes:
        context: float[B, C, width], tokens of head view, left wrist, right wrist and words.
        mask: bool[B, 1, 1, C], true where a context token may be read.
        head: float[B, 36, width], tokens of the head view alone.
        sentence: float[B, width].
    """

    context: Tensor
    mask: Tensor
    head: Tensor
    sentence: Tensor


class Attention(nn.Module):
    """Multi-head attention of queries over a context, with a mask for padded context tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Return float[B, Q, width]; ``mask`` bool[B, 1, 1, C] is true where a context token may be read."""
        batch, count, width = queries.shape
        size = width // self.heads
        q = self.query(queries).view(batch, count, self.heads, size).transpose(1, 2)
        k, v = self.key_value(context).view(batch, -1, 2, self.heads, size).unbind(2)
        mixed = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(batch, count, width)
        return cast(Tensor, self.out(mixed))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU, which is the cheapest activation on a CPU."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, factor * width)
        self.outer = nn.Linear(factor * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., width]."""
        return cast(Tensor, self.outer(F.relu(self.inner(x))))


class TextEncoder(nn.Module):
    """Words to contextual tokens and one sentence vector."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        self.position = nn.Parameter(torch.randn(config.max_tokens, config.width) * 0.02)
        self.blocks = nn.ModuleList(DecoderBlock(config, cross=False) for _ in range(config.text_blocks))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens float[B, L, width], sentence float[B, width] and mask bool[B, L]."""
        present = tokens != 0
        x = self.words(tokens) + self.position[: tokens.shape[1]]
        mask = present[:, None, None, :]
        for block in self.blocks:
            x = block(x, x, mask)
        x = self.norm(x)
        weight = present.to(x.dtype).unsqueeze(-1)
        sentence = (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return x, sentence, present


class DecoderBlock(nn.Module):
    """Pre-norm block: self-attention, optional cross-attention over the context, feed-forward."""

    def __init__(self, config: TabletopConfig, cross: bool = True) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(config.width)
        self.self_attention = Attention(config.width, config.heads)
        self.norm_cross = nn.LayerNorm(config.width) if cross else None
        self.cross_attention = Attention(config.width, config.heads) if cross else None
        self.norm_forward = nn.LayerNorm(config.width)
        self.forward_layers = FeedForward(config.width, 3)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Return float[B, Q, width].

        Without cross-attention, ``mask`` belongs to ``x`` itself and ``context`` is ignored.
        """
        h = self.norm_self(x)
        x = x + self.self_attention(h, h, None if self.cross_attention is not None else mask)
        if self.cross_attention is not None and self.norm_cross is not None:
            x = x + self.cross_attention(self.norm_cross(x), context, mask)
        return cast(Tensor, x + self.forward_layers(self.norm_forward(x)))


class FiLM(nn.Module):
    """Scales and shifts channels by the sentence (feature-wise linear modulation)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(width, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        """Return float[B, C, H, W]."""
        scale, shift = self.affine(sentence)[:, :, None, None].chunk(2, dim=1)
        return cast(Tensor, x * (1.0 + scale) + shift)


class HeadView(nn.Module):
    """96x96 head view to 6x6 tokens; the text modulates two of the convolutions."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, stride=4)
        self.halve = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.film_half = FiLM(config.width, 64)
        self.mix = nn.Conv2d(64, 64, 3, padding=1)
        self.reduce = nn.Conv2d(64, config.width, 3, stride=2, padding=1)
        self.film_quarter = FiLM(config.width, config.width)
        self.last = nn.Conv2d(config.width, config.width, 3, padding=1)
        side = config.head_px // 16
        self.position = nn.Parameter(torch.randn(side * side, config.width) * 0.02)

    def forward(self, frames: Tensor, sentence: Tensor) -> Tensor:
        """Return float[B, 36, width] for frames float[B, 3, 96, 96] in 0..1."""
        x = F.relu(self.stem(frames))
        x = F.relu(self.film_half(self.halve(x), sentence))
        x = x + F.relu(self.mix(x))
        x = F.relu(self.film_quarter(self.reduce(x), sentence))
        x = x + F.relu(self.last(x))
        return x.flatten(2).transpose(1, 2) + self.position


class WristView(nn.Module):
    """64x64 wrist view to 3x3 tokens; both wrists share the weights."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 96, 8, stride=8)
        self.film = FiLM(config.width, 96)
        self.halve = nn.Conv2d(96, config.width, 4, stride=2)
        side = (config.wrist_px // 8 - 4) // 2 + 1
        self.position = nn.Parameter(torch.randn(side * side, config.width) * 0.02)

    def forward(self, frames: Tensor, sentence: Tensor) -> Tensor:
        """Return float[B, 9, width] for frames float[B, 3, 64, 64] in 0..1."""
        x = F.relu(self.film(self.stem(frames), sentence))
        x = F.relu(self.halve(x))
        return x.flatten(2).transpose(1, 2) + self.position


class TabletopBackbone(nn.Module):
    """Text encoder, convolutional stems modulated by the text, and one normalised context."""

    def __init__(self, config: TabletopConfig) -> None:
        super().__init__()
        self.text = TextEncoder(config)
        self.head_view = HeadView(config)
        self.wrist_view = WristView(config)
        self.side = nn.Parameter(torch.randn(2, config.width) * 0.02)
        self.norm_context = nn.LayerNorm(config.width)

    def _frames(self, frames: Tensor) -> Tensor:
        """Turn uint8[B, H, W, 3] into float[B, 3, H, W] around zero, kept channels-last in memory."""
        return frames.permute(0, 3, 1, 2).to(self.side.dtype) * (1.0 / 127.5) - 1.0

    def forward(self, high: Tensor, left: Tensor, right: Tensor, tokens: Tensor, gain: Tensor | None) -> Seen:
        """Return the context of uint8 NHWC frames and int64[B, L] tokens; ``gain`` float[B] scales brightness."""
        words, sentence, present = self.text(tokens)
        views = [self._frames(high), self._frames(left), self._frames(right)]
        if gain is not None:
            views = [view * gain[:, None, None, None] for view in views]
        head = self.head_view(views[0], sentence)
        left_tokens = self.wrist_view(views[1], sentence) + self.side[0]
        right_tokens = self.wrist_view(views[2], sentence) + self.side[1]
        context = self.norm_context(torch.cat([head, left_tokens, right_tokens, words], dim=1))
        seen = present.new_ones((1, 1)).expand(tokens.shape[0], context.shape[1] - tokens.shape[1])
        mask = torch.cat([seen, present], dim=1)[:, None, None, :]
        return Seen(context, mask, head, sentence)
