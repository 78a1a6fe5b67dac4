"""The action heads as graphs: OFT answers at once, GR00T gives the velocity of one denoising step."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from training.export.layers import MASKED, attend, layer_norm
from training.export.operations import Operations, Value
from training.policies.dit import LONGEST_PERIOD, TIME_CHANNELS, DiT
from training.policies.flow_matching import TIME_BUCKETS
from training.policies.gr00t import GR00THead
from training.policies.oft import OFTHead


class OFTHeadGraph:
    """``hidden`` and ``tokens`` to ``actions``."""

    def __init__(self, head: OFTHead, places: int) -> None:
        """Read the weights of a head; ``places`` is one more than the longest prompt has."""
        self._head = head
        # Places are counted in float32, which is exact and which every compiler can sum.
        self._places = torch.arange(places, dtype=torch.float32)
        self._rank = torch.arange(head.rows - 1, -1, -1, dtype=torch.float32).reshape(1, head.rows, 1)
        self._action_token = torch.tensor([head.action_token_id])

    def build(self, ops: Operations, hidden: Value, tokens: Value) -> Value:
        """Return float32[B, rows, dof] of float32[B, S, width] and int64[B, S]."""
        network = self._head.model
        x = ops.take(hidden, self._positions(ops, tokens))
        x = ops.elementwise("relu", ops.linear(layer_norm(ops, x, network.layer_norm1), network.fc1))
        for block in network.mlp_resnet_blocks:
            norm, linear = cast(Any, block).ffn[0], cast(Any, block).ffn[1]
            x = x + ops.elementwise("relu", ops.linear(layer_norm(ops, x, norm), linear))
        return ops.linear(layer_norm(ops, x, network.layer_norm2), network.fc2)

    def _positions(self, ops: Operations, tokens: Value) -> Value:
        """Return int64[B, rows], where the last action tokens of every prompt stand, ascending."""
        wanted = ops.weight(self._action_token, name="head.action_token")
        found = ops.floats(ops.compare("equal", tokens, wanted))
        count = ops.cumsum(found, 1)
        # How many action tokens follow, so the last one has rank 0 from the end.
        following = ops.slice(count, 1, -1, None) - count
        rank = ops.weight(self._rank, name="head.rank")
        chosen = ops.floats(ops.compare("equal", ops.reshape(following, 0, 1, -1), rank)) * ops.reshape(found, 0, 1, -1)
        places = ops.first(ops.weight(self._places, name="head.places"), 0, tokens)
        return ops.cast(ops.squeeze(ops.reduce("sum", chosen * places), 2), torch.int64)


class GR00THeadGraph:
    """``hidden``, ``tokens``, ``x``, ``time`` and perhaps ``state`` to ``velocity``."""

    def __init__(self, head: GR00THead) -> None:
        """Read the weights of a head and tabulate the sinusoids of its 1000 time buckets.

        Tables make the angles the same on every engine; fast sines of large angles are not.
        """
        self._head = head
        width, half = head.action_encoder.width, TIME_CHANNELS // 2
        self._moments = _sinusoids(width // 2, width // 2, sine_first=True)
        self._features = _sinusoids(half, half - 1, sine_first=False)
        self._pad = torch.tensor([head.pad_id])
        self._every_row = torch.ones(1, head.rows, 1)

    def build(self, ops: Operations, hidden: Value, tokens: Value, x: Value, time: Value, state: Value | None) -> Value:
        """Return float32[B, rows, dof].

        Args:
            ops: operations.
            hidden: float32[B, S, width].
            tokens: int64[B, S].
            x: float32[B, rows, dof], noisy actions.
            time: int64[B], bucket 0..999.
            state: float32[B, dof] in model units, None where the policy reads none.
        """
        head = self._head
        parts = [ops.per_entry(ops.weight(head.future_tokens.weight), x), self._action_tokens(ops, x, time)]
        if state is not None:
            encoded = _perceptron(ops, state, head.state_encoder)
            parts.insert(0, ops.reshape(encoded, 0, 1, -1))
        pad = ops.weight(self._pad, name="head.pad")
        padding = ops.floats(ops.compare("equal", tokens, pad)) * MASKED
        out = self._transform(ops, ops.concat(parts, 1), time, hidden, ops.reshape(padding, 0, 1, 1, -1))
        return _perceptron(ops, ops.slice(out, 1, -head.rows, None), head.action_decoder)

    def _action_tokens(self, ops: Operations, x: Value, time: Value) -> Value:
        """Return float32[B, rows, channels]."""
        encoder, rows = self._head.action_encoder, self._head.rows
        moment = ops.embedding(ops.weight(self._moments, name="head.moments"), ops.reshape(time, 0, 1))
        row = ops.linear(x, encoder.layer1)
        # Every row gets the moment: a product with ones is the broadcast that concatenation needs.
        every = ops.weight(self._every_row, name="head.every_row")
        mixed = ops.linear(ops.concat([row, moment * every], 2), encoder.layer2)
        places = ops.slice(ops.weight(self._head.position_embedding.weight), 0, 0, rows)
        return ops.linear(ops.silu(mixed), encoder.layer3) + places

    def _transform(self, ops: Operations, x: Value, time: Value, hidden: Value, padding: Value) -> Value:
        """Return float32[B, T, out] of tokens float32[B, T, channels]."""
        model: DiT = self._head.model
        embedder = model.timestep_encoder.timestep_embedder
        features = ops.embedding(ops.weight(self._features, name="head.time_features"), ops.reshape(time, 0, 1))
        modulation = ops.linear(ops.silu(ops.linear(features, embedder.linear_1)), embedder.linear_2)
        driven = ops.silu(modulation)
        for index, part in enumerate(model.transformer_blocks):
            block, reads = cast(Any, part), index % 2 == 0
            scale, shift = _halves(ops, ops.linear(driven, block.norm1.linear), block.norm1.linear)
            normed = layer_norm(ops, x, block.norm1.norm) * (scale + 1.0) + shift
            source = hidden if reads else normed
            x = x + _attention(ops, block.attn1, normed, source, padding if reads else None)
            inner = ops.linear(layer_norm(ops, x, block.norm3), block.ff.net[0].proj)
            x = x + ops.linear(ops.elementwise("gelu_tanh", inner), block.ff.net[2])
        shift, scale = _halves(ops, ops.linear(driven, model.proj_out_1), model.proj_out_1)
        return ops.linear(layer_norm(ops, x, model.norm_out) * (scale + 1.0) + shift, model.proj_out_2)


def _attention(ops: Operations, layer: Any, x: Value, source: Value, mask: Value | None) -> Value:
    """Return multi-head attention of [B, T, width] over [B, S, source]."""
    heads, size = int(layer.heads), layer.to_q.out_features // int(layer.heads)
    q, k, v = (
        ops.reshape(ops.linear(y, part), 0, 0, heads, size)
        for y, part in ((x, layer.to_q), (source, layer.to_k), (source, layer.to_v))
    )
    seen = attend(
        ops, ops.transpose(q, 0, 2, 1, 3), ops.transpose(k, 0, 2, 3, 1), ops.transpose(v, 0, 2, 1, 3), size**-0.5, mask
    )
    return ops.linear(ops.reshape(ops.transpose(seen, 0, 2, 1, 3), 0, 0, -1), layer.to_out[0])


def _halves(ops: Operations, x: Value, layer: nn.Linear) -> tuple[Value, Value]:
    """Return the two halves of the channels a layer gave."""
    half = layer.out_features // 2
    return ops.slice(x, 2, 0, half), ops.slice(x, 2, half, None)


def _perceptron(ops: Operations, x: Value, layers: Any) -> Value:
    """Return linear, ReLU, linear."""
    return ops.linear(ops.elementwise("relu", ops.linear(x, layers.layer1)), layers.layer2)


def _sinusoids(half: int, steps: int, sine_first: bool) -> Tensor:
    """Return float32[1000, 2 * half], sines and cosines of every bucket at falling frequencies.

    Args:
        half: frequencies.
        steps: over how many of them the frequency falls by the longest period.
        sine_first: whether sines stand before cosines.
    """
    scale = torch.exp(-math.log(LONGEST_PERIOD) / steps * torch.arange(half, dtype=torch.float32))
    angles = torch.arange(TIME_BUCKETS, dtype=torch.float32)[:, None] * scale
    pair = (angles.sin(), angles.cos())
    return torch.cat(pair if sine_first else pair[::-1], dim=-1)
