"""GR00T: a flow-matching head that carries noise to a chunk of actions, conditioned on the whole prompt.

The head sees the last hidden state of every prompt token, always with the padding masked: without the mask the
answer of one robot depends on whose prompts share its batch. Noise is an input, so the answer is a function of the
inputs on every engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError
from training.policies.backbone import Backbone
from training.policies.dit import LONGEST_PERIOD, Context, DiT
from training.policies.flow_matching import (
    flow_loss,
    integrate,
    interpolate,
    sample_noise,
    sample_times,
    time_bucket,
)
from training.policies.policy import VLAPolicy, full_precision


@dataclass(frozen=True, slots=True)
class GR00TSizes:
    """Sizes of the head; the defaults are DiT-B with the values of the FineVLA training files.

    Attributes:
        width: channels of the transformer.
        heads: attention heads.
        blocks: transformer blocks; even ones read the prefix, odd ones each other.
        out: channels of the transformer's output.
        inner: hidden channels of the state encoder and the action decoder.
        future_tokens: learned tokens before the action tokens.
        max_rows: learned positions of action tokens.
        dropout: in attention, feed-forward and block outputs while training.
    """

    width: int = 768
    heads: int = 12
    blocks: int = 16
    out: int = 2560
    inner: int = 1024
    future_tokens: int = 32
    max_rows: int = 1024
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Refuse sizes that make no network (FV-POL-010)."""
        sizes = (self.width, self.heads, self.blocks, self.out, self.inner, self.max_rows)
        if min(sizes) < 1 or self.future_tokens < 0 or not 0 <= self.dropout < 1:
            raise SetupError(
                "FV-POL-010", f"the head has {self}; wanted sizes of 1 or more and a dropout from 0 to below 1."
            )


class Perceptron(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, enter: int, inner: int, leave: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(enter, inner)
        self.layer2 = nn.Linear(inner, leave)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., leave]."""
        return cast(Tensor, self.layer2(F.relu(self.layer1(x))))


class ActionEncoder(nn.Module):
    """A row of noisy actions and the time to one token."""

    def __init__(self, dof: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.layer1 = nn.Linear(dof, width)
        self.layer2 = nn.Linear(2 * width, width)
        self.layer3 = nn.Linear(width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return float[B, rows, width] for float[B, rows, dof] and int64[B]."""
        half = self.width // 2
        steps = torch.arange(half, device=time.device, dtype=torch.float32)
        angles = time.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / half * steps)
        moment = torch.cat([angles.sin(), angles.cos()], dim=-1)[:, None].expand(-1, x.shape[1], -1)
        mixed = self.layer2(torch.cat([self.layer1(x), moment], dim=-1))
        return cast(Tensor, self.layer3(F.silu(mixed)))


class GR00THead(nn.Module):
    """Velocity of noisy actions; 164.2 M parameters at the default sizes and a prefix of 2560 channels.

    The state encoder exists in every checkpoint; without state it is unused and takes no gradient.
    """

    def __init__(self, source: int, rows: int, dof: int, pad_id: int, state: bool, sizes: GR00TSizes) -> None:
        """Build for a prefix of ``source`` channels, padded with ``pad_id``.

        Raises:
            SetupError: FV-POL-010 for sizes that do not fit together.
        """
        super().__init__()
        if sizes.width % (2 * sizes.heads) or sizes.blocks < 1 or rows > sizes.max_rows:
            raise SetupError(
                "FV-POL-010",
                f"head sizes do not fit: width {sizes.width} must be a multiple of twice the {sizes.heads} heads, "
                f"{sizes.blocks} blocks must be one or more, {rows} rows at most {sizes.max_rows}.",
            )
        self.rows = rows
        self.pad_id = pad_id
        self.state = state
        self.model = DiT(sizes.width, sizes.heads, sizes.blocks, source, sizes.out, sizes.dropout)
        self.state_encoder = Perceptron(dof, sizes.inner, sizes.width)
        self.action_encoder = ActionEncoder(dof, sizes.width)
        self.action_decoder = Perceptron(sizes.out, sizes.inner, dof)
        self.future_tokens = nn.Embedding(sizes.future_tokens, sizes.width)
        self.position_embedding = nn.Embedding(sizes.max_rows, sizes.width)
        nn.init.normal_(self.future_tokens.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)
        # Data-parallel training refuses parameters that expect a gradient and never get one.
        self.state_encoder.requires_grad_(state)

    def prefix(self, hidden: Tensor, tokens: Tensor) -> Context:
        """Return the keys and values of float[B, S, source] and int64[B, S]; every denoising step reuses them."""
        return self.model.context(hidden.float(), tokens != self.pad_id)

    def velocity(self, context: Context, x: Tensor, time: Tensor, state: Tensor | None = None) -> Tensor:
        """Return float32[B, rows, dof] for noisy actions float32[B, rows, dof] at time buckets int64[B]."""
        actions = self.action_encoder(x, time) + self.position_embedding.weight[: self.rows]
        parts = [self.future_tokens.weight.expand(x.shape[0], -1, -1), actions]
        if state is not None:
            parts.insert(0, self.state_encoder(state)[:, None])
        out = self.model(torch.cat(parts, dim=1), time, context)
        return cast(Tensor, self.action_decoder(out[:, -self.rows :]))

    def forward(self, hidden: Tensor, tokens: Tensor, x: Tensor, time: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the velocity from the hidden states: one denoising step on its own, as exported."""
        return self.velocity(self.prefix(hidden, tokens), x, time, state)


class GR00TPolicy(VLAPolicy):
    """Backbone and flow-matching head."""

    def __init__(
        self, backbone: Backbone, head: GR00THead, cameras: Sequence[str], repeats: int = 4, denoise_steps: int = 4
    ) -> None:
        """Join the parts.

        Args:
            backbone, head: the parts.
            cameras: camera names in model order.
            repeats: noises and times drawn per sample and training step; the backbone runs once for all of them.
            denoise_steps: Euler steps of ``act``.
        """
        super().__init__(backbone, cameras)
        self.head = head
        self.repeats = repeats
        self.denoise_steps = denoise_steps

    def loss(self, inputs: Mapping[str, Tensor], actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32[B], the flow-matching error averaged over ``repeats`` noises and times from ``generator``.

        Dropout, where the sizes ask for it, draws from torch's global generator.

        Raises:
            SetupError: FV-POL-008 and FV-POL-004 as in ``hidden``.
        """
        hidden = self.hidden(inputs)
        with full_precision(hidden.device):
            target = actions.float().repeat(self.repeats, 1, 1)
            noise = sample_noise(tuple(target.shape), generator).to(target.device)
            times = sample_times(target.shape[0], generator).to(target.device)
            context = self.head.prefix(hidden, self.read(inputs, "tokens")).repeat(self.repeats)
            state = self._state(inputs)
            state = None if state is None else state.repeat(self.repeats, 1)
            x = interpolate(target, noise, times)
            velocity = self.head.velocity(context, x, time_bucket(times), state)
            return flow_loss(velocity, target, noise).view(self.repeats, -1).mean(0)

    def act(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32[B, rows, dof], ``inputs['noise']`` carried to t = 1."""
        hidden = self.hidden(inputs)
        with full_precision(hidden.device):
            context = self.head.prefix(hidden, self.read(inputs, "tokens"))
            state = self._state(inputs)
            noise = self.read(inputs, "noise").float()
            return integrate(lambda x, time: self.head.velocity(context, x, time, state), noise, self.denoise_steps)

    def _state(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        return self.read(inputs, "state").float() if self.head.state else None
