"""Flow matching against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.policies.flow_matching import (
    flow_loss,
    integrate,
    interpolate,
    sample_noise,
    sample_times,
    time_bucket,
    times_from_beta,
)


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 16, 14, generator=generator), sample_noise((3, 16, 14), generator)


def test_the_path_runs_straight_from_noise_to_the_action() -> None:
    actions, noise = pair()
    assert torch.equal(interpolate(actions, noise, torch.zeros(3)), noise)
    assert torch.equal(interpolate(actions, noise, torch.ones(3)), actions)
    middle = interpolate(actions, noise, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(middle[1], (actions[1] + noise[1]) / 2)
    torch.testing.assert_close(middle[0], 0.25 * actions[0] + 0.75 * noise[0])


def test_the_true_velocity_has_no_loss_and_an_error_counts_squared_per_sample() -> None:
    actions, noise = pair()
    velocity = actions - noise
    assert flow_loss(velocity, actions, noise).tolist() == [0.0, 0.0, 0.0]
    velocity[1] += 2.0
    torch.testing.assert_close(flow_loss(velocity, actions, noise), torch.tensor([0.0, 4.0, 0.0]))


def test_golden_loss_of_a_silent_head() -> None:
    actions, noise = torch.full((1, 2, 2), 0.5), torch.tensor([[[-0.5, 0.5], [1.5, 0.0]]])
    # Velocities 1, 0, -1 and 0.5: their mean square.
    assert flow_loss(torch.zeros(1, 2, 2), actions, noise).tolist() == [0.5625]


@given(st.integers(1, 12))
def test_euler_steps_follow_a_constant_velocity_exactly(steps: int) -> None:
    actions, noise = pair()
    arrived = integrate(lambda x, time: actions - noise, noise, steps)
    torch.testing.assert_close(arrived, actions, atol=1e-5, rtol=1e-5)


def test_four_steps_are_taken_at_the_published_times() -> None:
    asked: list[list[int]] = []

    def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        asked.append(time.tolist())
        return time[:, None, None].float() / 1000 + 0 * x

    end = integrate(velocity, torch.zeros(2, 1, 1), 4)
    assert asked == [[0, 0], [250, 250], [500, 500], [750, 750]]
    torch.testing.assert_close(end, torch.full((2, 1, 1), (0 + 0.25 + 0.5 + 0.75) / 4))


def test_times_come_from_the_published_beta_distribution() -> None:
    times = sample_times(20_000, torch.Generator().manual_seed(7)).double().numpy()
    inside = times[times > 0]

    def share_at_most(t: np.ndarray) -> np.ndarray:
        # t = (s - u) / s falls as u rises, so P(T <= t) = P(U >= s (1 - t)).
        return np.asarray(1.0 - stats.beta.cdf(0.999 * (1.0 - t), 1.5, 1.0))

    low = share_at_most(np.zeros(1))[0]
    result = stats.kstest(inside, lambda t: (share_at_most(t) - low) / (1.0 - low))
    assert result.pvalue > 0.01
    # The mean of Beta(1.5, 1) is 0.6.
    assert times.mean() == pytest.approx((0.999 - 0.6) / 0.999, abs=0.01)
    assert stats.kstest(inside, "uniform").pvalue < 1e-6


def test_times_are_never_negative_and_the_same_generator_repeats_them() -> None:
    assert times_from_beta(torch.tensor([1.0, 0.999, 0.0])).tolist() == [0.0, 0.0, 1.0]
    first, second = (sample_times(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_time_buckets_are_whole_thousandths_below_a_thousand() -> None:
    assert time_bucket(torch.tensor([0.0, 0.0009, 0.25, 0.9996, 1.0])).tolist() == [0, 0, 250, 999, 999]
