"""The smallest difference that a cell could show: printed beside every figure, so that noise is not read as news."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finevla_runtime.evidence.intervals import mean_spread, normal_quantile

ALPHA = 0.05
POWER = 0.80


def detectable_score(scene_means: Sequence[float], alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest true difference of mean score between two policies that would be found.

    Two such cells with this many scenes and this spread, compared two-sidedly as independent samples; pairing on the
    same scenes only improves on it. At most 100.
    """
    factor = normal_quantile(1 - alpha / 2) + normal_quantile(power)
    return min(100.0, factor * math.sqrt(2.0) * mean_spread(scene_means))


def detectable_rate(successes: int, trials: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest true difference of a rate (0..1) between two policies that would be found.

    One imaginary success and failure keep it honest at 0 and 100 %. Without trials it is 1.
    """
    if trials == 0:
        return 1.0
    rate = (successes + 1) / (trials + 2)
    factor = normal_quantile(1 - alpha / 2) + normal_quantile(power)
    return min(1.0, factor * math.sqrt(2.0 * rate * (1 - rate) / trials))


def steering_power(follow: float, scenes: int, alpha: float = ALPHA) -> float:
    """Return the power of the one-sided sign-flip test when each scene follows the instruction with ``follow``.

    Otherwise the policy behaves the same under both instructions. With k scenes followed and none swapped p = 2^-k.
    """
    needed = math.ceil(-math.log2(alpha))
    return sum(math.comb(scenes, k) * follow**k * (1 - follow) ** (scenes - k) for k in range(needed, scenes + 1))


def detectable_steering(scenes: int, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Return the smallest steering index found with ``power``; None when even 1.0 cannot reach ``alpha``."""
    if steering_power(1.0, scenes, alpha) < power:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if steering_power(middle, scenes, alpha) >= power:
            high = middle
        else:
            low = middle
    return high
