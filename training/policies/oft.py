"""OFT: action tokens in the prompt, their hidden states regressed to one row each, L1 loss (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finevla_runtime.contracts.errors import SetupError
from training.policies.backbone import Backbone
from training.policies.policy import VLAPolicy, full_precision

RESIDUAL_BLOCKS = 2


class ResidualBlock(nn.Module):
    """x + ReLU(Linear(LayerNorm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., width]."""
        return x + cast(Tensor, self.ffn(x))


class RegressionNetwork(nn.Module):
    """LayerNorm, linear to twice the width, two residual blocks, LayerNorm, linear to one row."""

    def __init__(self, width: int, dof: int) -> None:
        super().__init__()
        inner = 2 * width
        self.layer_norm1 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(inner) for _ in range(RESIDUAL_BLOCKS))
        self.layer_norm2 = nn.LayerNorm(inner)
        self.fc2 = nn.Linear(inner, dof)

    def forward(self, x: Tensor) -> Tensor:
        """Return float[..., dof] for float[..., width]."""
        x = F.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return cast(Tensor, self.fc2(self.layer_norm2(x)))


class OFTHead(nn.Module):
    """Rows from the hidden states of the last ``rows`` action tokens; 65.66 M parameters at width 2560."""

    def __init__(self, width: int, rows: int, dof: int, action_token_id: int) -> None:
        """Build for hidden states of ``width`` channels and prompts with at least ``rows`` action tokens."""
        super().__init__()
        self.rows = rows
        self.action_token_id = action_token_id
        self.model = RegressionNetwork(width, dof)

    def positions(self, tokens: Tensor) -> Tensor:
        """Return int64[B, rows], where the last ``rows`` action tokens stand, in ascending order.

        An instruction may contain the action token itself; only the last ones are the policy's.
        """
        mask = tokens == self.action_token_id
        count = mask.long().cumsum(1)
        rank = count - 1 - (count[:, -1:] - self.rows)
        row = torch.arange(self.rows, device=tokens.device)
        chosen = (rank.unsqueeze(1) == row[:, None]) & mask.unsqueeze(1)
        index = torch.arange(tokens.shape[1], device=tokens.device)
        return (chosen.long() * index).sum(-1)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return float32[B, rows, dof] for float[B, S, width] and int64[B, S]."""
        index = self.positions(tokens).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return cast(Tensor, self.model(hidden.float().gather(1, index)))


class OFTPolicy(VLAPolicy):
    """Backbone and regression head: one pass, deterministic."""

    def __init__(self, backbone: Backbone, head: OFTHead, cameras: Sequence[str]) -> None:
        """Join the parts."""
        super().__init__(backbone, cameras)
        self.head = head

    def loss(self, inputs: Mapping[str, Tensor], actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32[B], the mean absolute error over rows and joints; the generator is not used.

        Raises:
            SetupError: FV-POL-008 and FV-POL-004 as in ``hidden``; FV-POL-009 when a prompt has too few action tokens.
        """
        self._check_prompts(self.read(inputs, "tokens"))
        return (self.act(inputs) - actions.float()).abs().mean(dim=(1, 2))

    def act(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32[B, rows, dof]."""
        hidden = self.hidden(inputs)
        with full_precision(hidden.device):
            return cast(Tensor, self.head(hidden, self.read(inputs, "tokens")))

    def _check_prompts(self, tokens: Tensor) -> None:
        counts = (tokens == self.head.action_token_id).sum(1)
        short = (counts < self.head.rows).nonzero().flatten().tolist()
        if short:
            raise SetupError(
                "FV-POL-009",
                f"samples {short} of the batch have fewer than {self.head.rows} action tokens (id "
                f"{self.head.action_token_id}); build their prompts from the policy's own template.",
            )
