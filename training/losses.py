"""The head's loss on chunks and the auxiliary terms that keep the policy from going deaf."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.policies.tabletop_policy import Prediction
from training.recipes.tabletop import LossSettings

# Metres to roughly unit range, so that the auxiliary position weighs like an action.
XY_SCALE = 5.0


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should have said.

    Attributes:
        target_xy: float[B, 2], metres.
        arm: float[B], 1 where the right arm acts.
        factor: int64[B], class of (family, variant).
        fine_grained: bool[B].
    """

    target_xy: Tensor
    arm: Tensor
    factor: Tensor
    fine_grained: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """Loss terms of a batch.

    Attributes:
        total: what is minimised.
        per_sample: float[B], unweighted error of the chunks (L1, or squared velocity error), for the log.
        target_xy_m: mean error of the decoder's position reading on fine-grained samples, metres.
        arm_right, factor_right: shares of fine-grained samples whose auxiliary reading is right.
    """

    total: Tensor
    per_sample: Tensor
    target_xy_m: Tensor
    arm_right: Tensor
    factor_right: Tensor


def losses(said: Prediction, wanted: Targets, settings: LossSettings) -> Losses:
    """Compare a prediction with its targets."""
    error = said.error
    rows = torch.linspace(1.0, settings.late_rows, error.shape[1], device=error.device)
    action = (error * rows).mean() / rows.mean()
    weight = torch.where(wanted.fine_grained, 1.0, settings.raw_aux).to(error.dtype)
    off = (said.target_xy - XY_SCALE * wanted.target_xy[:, None, :]).abs().mean(dim=2)
    arm = F.binary_cross_entropy_with_logits(said.arm, wanted.arm, reduction="none")
    factor = F.cross_entropy(said.factor, wanted.factor, reduction="none")
    fine = wanted.fine_grained.to(error.dtype)
    count = fine.sum().clamp(min=1.0)
    total = (
        action
        + settings.target_xy * (off.mean(dim=1) * weight).mean()
        + settings.arm * (arm * weight).mean()
        + settings.factor * (factor * fine).mean()
    )
    right_arm = ((said.arm > 0) == (wanted.arm > 0.5)).to(error.dtype)
    right_factor = (said.factor.argmax(dim=1) == wanted.factor).to(error.dtype)
    return Losses(
        total=total,
        per_sample=error.mean(dim=1).detach(),
        target_xy_m=((off[:, 1] * fine).sum() / count / XY_SCALE).detach(),
        arm_right=((right_arm * fine).sum() / count).detach(),
        factor_right=((right_factor * fine).sum() / count).detach(),
    )
