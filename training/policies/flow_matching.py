"""Flow matching from noise to actions: straight paths, Beta times, Euler integration.

The path is x_t = (1 - t) eps + t a, so t = 0 is noise, t = 1 is the action, and the velocity to learn is a - eps.
Times are t = max((s - u) / s, 0) with u from Beta(1.5, 1) and s = 0.999, which favours early times (GR00T N1, appendix
on training; the clamp came to StarVLA in May 2026: before, u > s gave slightly negative times).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BETA_ALPHA = 1.5
LARGEST_SAMPLE = 0.999
TIME_BUCKETS = 1000


def sample_times(count: int, generator: torch.Generator) -> Tensor:
    """Return float32[count] in 0..1 on the generator's device.

    Beta(alpha, 1) has the distribution function u ** alpha, so a uniform number to the power 1 / alpha is a sample.
    """
    uniform = torch.rand(count, generator=generator, device=generator.device)
    return times_from_beta(uniform ** (1.0 / BETA_ALPHA))


def times_from_beta(sample: Tensor) -> Tensor:
    """Return the path times of Beta samples."""
    return ((LARGEST_SAMPLE - sample) / LARGEST_SAMPLE).clamp(0.0, 1.0)


def sample_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return float32[shape] standard normal on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def time_bucket(times: Tensor) -> Tensor:
    """Return int64, the bucket 0..999 the network is told."""
    return (times * TIME_BUCKETS).long().clamp(0, TIME_BUCKETS - 1)


def interpolate(actions: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return x_t float[B, rows, dof] for times float[B]."""
    t = times[:, None, None]
    return (1.0 - t) * noise + t * actions


def flow_loss(velocity: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """Return float[B], the mean squared error of a predicted velocity over rows and joints."""
    return (velocity - (actions - noise)).square().mean(dim=(1, 2))


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Return float[B, rows, dof], noise carried to t = 1 by ``steps`` Euler steps.

    Args:
        velocity: of x float[B, rows, dof] at time buckets int64[B].
        noise: float[B, rows, dof], x at t = 0.
        steps: 4 in the paper's policies, at buckets 0, 250, 500 and 750.
    """
    x = noise
    for step in range(steps):
        bucket = TIME_BUCKETS * step // steps
        time = torch.full((noise.shape[0],), bucket, dtype=torch.long, device=noise.device)
        x = x + velocity(x, time) / steps
    return x
