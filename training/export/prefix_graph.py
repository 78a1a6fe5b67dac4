"""The language model as a graph: ``tokens`` and ``image_embeds`` in, ``hidden`` out.

The prompt of a policy always starts in the same way (chat markup, image placeholders), so the places of the image
tokens and all rotary angles are constants. Prompts are padded on the right and everything is causal, so what follows
a prompt cannot change its hidden states, and the only mask is the causal one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from training.export.layers import MASKED, attend, rotate
from training.export.operations import Operations, Value
from training.export.prompt_positions import PromptPositions


class PrefixGraph:
    """The text model of a Qwen3.5 or Qwen3-VL backbone over a fixed prompt layout."""

    def __init__(self, text: nn.Module, layout: PromptPositions, deepstack: int = 0) -> None:
        """Precompute the rotary tables of the longest prompt.

        Args:
            text: Hugging Face's text model, whose weights the graph reads.
            layout: places and positions of the prompt.
            deepstack: language layers that add features of earlier vision layers (Qwen3-VL).
        """
        self._text = cast(Any, text)
        self._runs = layout.runs
        self._deepstack = deepstack
        table = self._text.embed_tokens.weight
        self._width = int(table.shape[1])
        with torch.no_grad():
            sample = torch.zeros(1, dtype=torch.float32, device=table.device)
            cos, sin = self._text.rotary_emb(sample, layout.positions[:, None].to(table.device))
        self._cos, self._sin = cos[0].float().contiguous(), sin[0].float().contiguous()
        self._places = torch.arange(layout.positions.shape[1], dtype=torch.float32)

    def build(self, ops: Operations, tokens: Value, image_embeds: Value, length: int | None) -> Value:
        """Return float32[B, S, width], the hidden states after the final norm.

        Args:
            ops: operations.
            tokens: int64[B, S].
            image_embeds: float32[B, image tokens, width, times one plus the deepstack levels].
            length: S where it is fixed, None for any length up to the longest prompt.
        """
        words = ops.embedding(ops.weight(self._text.embed_tokens.weight), tokens)
        images = ops.cast(image_embeds, words.dtype)
        levels = [ops.slice(images, 2, i * self._width, (i + 1) * self._width) for i in range(self._deepstack + 1)]
        x = self._at_images(ops, words, levels[0], added=False)
        cos, sin, mask = self._tables(ops, tokens)
        for number, layer in enumerate(self._text.layers):
            h = _norm(ops, x, layer.input_layernorm)
            if hasattr(layer, "linear_attn"):
                x = x + _gated_delta(ops, layer.linear_attn, h, length)
            else:
                x = x + self._attention(ops, layer.self_attn, h, cos, sin, mask)
            x = x + _feed_forward(ops, layer.mlp, _norm(ops, x, layer.post_attention_layernorm))
            if number < self._deepstack:
                x = self._at_images(ops, x, levels[number + 1], added=True)
        return ops.floats(_norm(ops, x, self._text.norm))

    def _at_images(self, ops: Operations, x: Value, images: Value, added: bool) -> Value:
        """Put image features in their places or add them there; pure slicing, as the places are known."""
        parts, end, used = [], 0, 0
        for first, count in self._runs:
            if first > end:
                parts.append(ops.slice(x, 1, end, first))
            features = ops.slice(images, 1, used, used + count)
            parts.append(ops.slice(x, 1, first, first + count) + features if added else features)
            end, used = first + count, used + count
        return ops.concat([*parts, ops.slice(x, 1, end, None)], 1)

    def _tables(self, ops: Operations, tokens: Value) -> tuple[Value, Value, Value]:
        """Return cos and sin float32[S, R] and the causal mask float32[S, S]."""
        cos = ops.first(ops.weight(self._cos, name="prefix.cos"), 0, tokens)
        sin = ops.first(ops.weight(self._sin, name="prefix.sin"), 0, tokens)
        places = ops.first(ops.weight(self._places, name="prefix.places"), 0, tokens)
        later = ops.compare("greater", ops.reshape(places, 1, -1), ops.reshape(places, -1, 1))
        return cos, sin, ops.floats(later) * MASKED

    def _attention(self, ops: Operations, layer: Any, x: Value, cos: Value, sin: Value, mask: Value) -> Value:
        """Return causal grouped-query attention, gated where the layer has a gate, float[B, S, width]."""
        size = int(layer.head_dim)
        shared = int(layer.num_key_value_groups)
        turn, gate = int(self._cos.shape[-1]), None
        q = ops.linear(x, layer.q_proj)
        groups = layer.k_proj.out_features // size
        if layer.q_proj.out_features == 2 * layer.o_proj.in_features:
            q = ops.reshape(q, 0, 0, groups * shared, 2 * size)
            gate = ops.reshape(ops.slice(q, 3, size, None), 0, 0, -1)
            q = ops.slice(q, 3, 0, size)
        else:
            q = ops.reshape(q, 0, 0, groups * shared, size)
        q = ops.transpose(_norm(ops, q, layer.q_norm), 0, 2, 1, 3)
        k = ops.reshape(ops.linear(x, layer.k_proj), 0, 0, groups, size)
        k = ops.transpose(_norm(ops, k, layer.k_norm), 0, 2, 1, 3)
        q, k = rotate(ops, q, cos, sin, turn, size), rotate(ops, k, cos, sin, turn, size)
        v = ops.transpose(ops.reshape(ops.linear(x, layer.v_proj), 0, 0, groups, size), 0, 2, 1, 3)
        # Query heads that share keys have an axis of their own, so keys and values are never copied per query head.
        q = ops.reshape(q, 0, groups, shared, -1, size)
        k = ops.reshape(ops.transpose(k, 0, 1, 3, 2), 0, groups, 1, size, -1)
        seen = attend(ops, q, k, ops.reshape(v, 0, groups, 1, -1, size), size**-0.5, mask)
        seen = ops.transpose(ops.reshape(seen, 0, groups * shared, -1, size), 0, 2, 1, 3)
        seen = ops.reshape(seen, 0, 0, -1)
        if gate is not None:
            seen = seen * ops.elementwise("sigmoid", gate)
        return ops.linear(seen, layer.o_proj)


def _norm(ops: Operations, x: Value, norm: Any) -> Value:
    """Return Qwen's RMS norm; Qwen3.5 stores weights around zero, Qwen3-VL around one."""
    eps = float(getattr(norm, "eps", None) or norm.variance_epsilon)
    if type(norm).__name__ == "Qwen3_5RMSNorm":
        return ops.rms_norm(x, ops.derived(norm.weight, "plus_one", lambda w: 1.0 + w.float()), eps)
    return ops.rms_norm(x, ops.weight(norm.weight), eps)


def _feed_forward(ops: Operations, mlp: Any, x: Value) -> Value:
    """Return the gated feed-forward network."""
    return ops.linear(ops.silu(ops.linear(x, mlp.gate_proj)) * ops.linear(x, mlp.up_proj), mlp.down_proj)


def _gated_delta(ops: Operations, layer: Any, x: Value, length: int | None) -> Value:
    """Return the output of one gated delta layer, float[B, S, width]."""
    mixed = ops.causal_convolution(ops.linear(x, layer.in_proj_qkv), layer.conv1d.weight)
    keys, heads, size = layer.key_dim, layer.num_v_heads, layer.head_k_dim
    q, k = (ops.slice(mixed, 2, start, start + keys) for start in (0, keys))
    q, k = (_unit(ops, ops.floats(ops.reshape(part, 0, 0, layer.num_k_heads, size))) for part in (q, k))
    q, k = (_shared_heads(ops, part, layer.num_k_heads, heads, size) for part in (q * size**-0.5, k))
    v = ops.floats(ops.reshape(ops.slice(mixed, 2, 2 * keys, None), 0, 0, heads, layer.head_v_dim))
    beta = ops.floats(ops.elementwise("sigmoid", ops.linear(x, layer.in_proj_b)))
    raised = ops.floats(ops.linear(x, layer.in_proj_a)) + ops.derived(layer.dt_bias, "float", Tensor.float)
    decay = ops.elementwise("softplus", raised) * ops.derived(layer.A_log, "rate", lambda a: -a.float().exp())
    seen = ops.cast(ops.delta_rule(q, k, v, decay, beta, heads, length), x.dtype)
    gate = ops.floats(ops.reshape(ops.linear(x, layer.in_proj_z), 0, 0, heads, layer.head_v_dim))
    normed = ops.rms_norm(seen, ops.weight(layer.norm.weight), float(layer.norm.variance_epsilon))
    gated = ops.cast(ops.floats(normed) * ops.silu(gate), x.dtype)
    return ops.linear(ops.reshape(gated, 0, 0, -1), layer.out_proj)


def _shared_heads(ops: Operations, x: Value, have: int, want: int, size: int) -> Value:
    """Repeat every head of [B, S, have, size] for the consecutive value heads it serves, [B, S, want, size]."""
    if have == want:
        return x
    wide = ops.concat([ops.reshape(x, 0, 0, have, 1, size)] * (want // have), 3)
    return ops.reshape(wide, 0, 0, want, size)


def _unit(ops: Operations, x: Value) -> Value:
    """Return vectors of length one along the last axis, with Hugging Face's epsilon."""
    return x * ops.elementwise("rsqrt", ops.reduce("sum", x * x) + 1e-6)
