"""The language model as a graph: tokens and image embeddings in, last hidden states out.

The prompt of a policy always starts in the same way (chat markup, image placeholders), so the places of the image
tokens and all rotary angles are constants. Prompts are padded on the right and everything is causal, so what follows
a prompt cannot change its hidden states, and no attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.export.gated_delta import DeltaRule
from training.export.rotary import rotate

MASKED = -1e4


class PrefixGraph(nn.Module):
    """``tokens`` int64[B, S] and ``image_embeds`` float[B, N, width] to ``hidden`` float[B, S, width]."""

    def __init__(self, text: nn.Module, image_places: Sequence[int], positions: Tensor, rule: DeltaRule) -> None:
        """Share the modules of a Qwen3.5 text model.

        Args:
            text: Hugging Face's ``Qwen3_5TextModel`` in evaluation mode.
            image_places: index of every image token in the prompt, ascending, cameras in order.
            positions: int64[3, L], time, height and width positions of the longest prompt (M-RoPE).
            rule: dialect of the linear attention layers.
        """
        super().__init__()
        self.rule = rule
        self.embed_tokens = cast(nn.Embedding, text.embed_tokens)
        self.layers = cast(nn.ModuleList, text.layers)
        self.norm = cast(nn.Module, text.norm)
        self.first, self.count = _image_runs(image_places)
        with torch.no_grad():
            sample = torch.zeros(1, dtype=torch.float32, device=positions.device)
            cos, sin = cast(nn.Module, text.rotary_emb)(sample, positions[:, None])
        self.cos, self.sin = nn.Buffer(cos[0].float()), nn.Buffer(sin[0].float())

    def forward(self, tokens: Tensor, image_embeds: Tensor) -> Tensor:
        """Return the hidden states after the final norm, float[B, S, width]; S is at most the longest prompt."""
        length = tokens.shape[1]
        x = self._embed(tokens, image_embeds)
        cos, sin = self.cos[:length], self.sin[:length]
        place = torch.arange(length, device=tokens.device)
        mask = (place[None, :] > place[:, None]).float() * MASKED
        for layer in self.layers:
            h = layer.input_layernorm(x)
            if layer.block_type == "linear_attention":
                x = x + _gated_delta(layer.linear_attn, h, self.rule)
            else:
                x = x + _attend(layer.self_attn, h, cos, sin, mask)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return cast(Tensor, self.norm(x))

    def _embed(self, tokens: Tensor, image_embeds: Tensor) -> Tensor:
        """Put the image embeddings in the place of their placeholders; pure slicing, as the places are known."""
        words = self.embed_tokens(tokens)
        images = image_embeds.to(words.dtype)
        parts, end, used = [], 0, 0
        for first, count in zip(self.first, self.count, strict=True):
            parts += [words[:, end:first], images[:, used : used + count]]
            end, used = first + count, used + count
        return torch.cat([*parts, words[:, end:]], dim=1)


def _image_runs(places: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return first index and length of every unbroken run of image tokens."""
    first: list[int] = []
    count: list[int] = []
    for place in places:
        if first and place == first[-1] + count[-1]:
            count[-1] += 1
        else:
            first.append(place)
            count.append(1)
    return first, count


def _attend(layer: nn.Module, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
    """Return causal, output-gated, grouped-query attention, float[B, S, width]."""
    batch, length, size = x.shape[0], x.shape[1], int(cast(int, layer.head_dim))
    q, gate = layer.q_proj(x).view(batch, length, -1, 2 * size).chunk(2, dim=-1)
    q = layer.q_norm(q).transpose(1, 2)
    k = layer.k_norm(layer.k_proj(x).view(batch, length, -1, size)).transpose(1, 2)
    v = layer.v_proj(x).view(batch, length, -1, size).transpose(1, 2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    # Query heads of one key head stand on their own axis, so keys and values are never copied per query head.
    q = q.unflatten(1, (k.shape[1], -1))
    scores = (q @ k.unsqueeze(2).transpose(-1, -2)).float() * size**-0.5 + mask
    seen = torch.softmax(scores, dim=-1).to(v.dtype) @ v.unsqueeze(2)
    seen = seen.flatten(1, 2).transpose(1, 2).flatten(2)
    return cast(Tensor, layer.o_proj(seen * torch.sigmoid(gate.flatten(2))))


def _gated_delta(layer: nn.Module, x: Tensor, rule: DeltaRule) -> Tensor:
    """Return the output of one gated delta layer, float[B, S, width]."""
    mixed = F.silu(_causal_convolution(layer.in_proj_qkv(x), layer.conv1d.weight))
    query, key, value = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim], dim=-1)
    shared = layer.num_v_heads // layer.num_k_heads
    q = _unit(query.unflatten(2, (-1, layer.head_k_dim)).float()).repeat_interleave(shared, dim=2)
    k = _unit(key.unflatten(2, (-1, layer.head_k_dim)).float()).repeat_interleave(shared, dim=2)
    v = value.unflatten(2, (-1, layer.head_v_dim)).float()
    beta = torch.sigmoid(layer.in_proj_b(x)).float()
    decay = -layer.A_log.float().exp() * F.softplus(layer.in_proj_a(x).float() + layer.dt_bias.float())
    seen = rule(q, k, v, decay, beta).to(x.dtype)
    gate = layer.in_proj_z(x).unflatten(2, (-1, layer.head_v_dim))
    return cast(Tensor, layer.out_proj(layer.norm(seen, gate).flatten(2)))


def _causal_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve every channel of float[B, S, C] with its own taps float[C, 1, k], reading the past only.

    Shifted products instead of a grouped convolution: they need no transposes, and any compiler fuses them.
    """
    taps = weight.shape[-1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    out = x * weight[:, 0, taps - 1]
    for tap in range(taps - 1):
        out = out + padded[:, tap : tap + x.shape[1]] * weight[:, 0, tap]
    return out


def _unit(x: Tensor) -> Tensor:
    """Return vectors of length one along the last axis, with Hugging Face's epsilon."""
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + 1e-6)
