"""Forward and backward of one training step against the measured matrix-product rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.policy_step.counts import step_products, training_flops
from benchmarks.policy_step.rates import Rates, best_s
from benchmarks.policy_step.subject import DOF, ROWS, Subject

REPEATS = 3


@dataclass(frozen=True, slots=True)
class TrainFigures:
    """One measured training step.

    Attributes:
        batch: samples per step.
        step_s: forward, backward with recomputed layers, no optimiser.
        flops: operations of forward and backward; recomputation does not count.
        utilisation: their rate over the measured matrix-product rate.
    """

    batch: int
    step_s: float
    flops: int
    utilisation: float


def measure_training(subject: Subject, rates: Rates, batch: int) -> TrainFigures:
    """Measure the policy's own loss with gradient checkpointing, bfloat16 where the backbone is."""
    policy, device = subject.policy, subject.device
    inputs = {name: torch.from_numpy(value).to(device) for name, value in subject.inputs(batch).items()}
    actions = torch.zeros(batch, ROWS, DOF, device=device)
    # Noise and times of the flow-matching loss come from the host, as in the trainer.
    generator = torch.Generator().manual_seed(0)
    policy.train()
    policy.backbone.checkpoint_gradients(True)
    dtype = next(policy.backbone.parameters()).dtype

    def step() -> None:
        for parameter in policy.parameters():
            parameter.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = policy.loss(inputs, actions, generator).mean()
        loss.backward()  # type: ignore[no-untyped-call]

    step_s = best_s(step, device, REPEATS)
    policy.backbone.checkpoint_gradients(False)
    policy.eval()
    flops = training_flops(step_products(policy, batch, subject.length))
    return TrainFigures(batch, step_s, flops, flops / step_s / rates.flops_per_s)
