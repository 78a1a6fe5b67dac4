"""Intervals for rates, mean scores and paired differences; closed forms only, no resampling.

All intervals are two-sided at 95 % unless told otherwise. scipy and statsmodels are oracles in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed range that holds the true value with the stated confidence."""

    low: float
    high: float


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile."""
    return _NORMAL.inv_cdf(probability)


def student_quantile(probability: float, degrees: int) -> float:
    """Return the Student t quantile: exact for one and two degrees, else Hill's expansion (error below 0.3 %)."""
    if degrees < 1:
        raise ValueError("a t quantile needs one degree of freedom or more")
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        centred = 2 * probability - 1
        return centred * math.sqrt(2 / (1 - centred * centred))
    z, n = normal_quantile(probability), float(degrees)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n**power for power, term in enumerate(terms, start=1))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a rate (0..1); without trials it is the whole range."""
    if not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes of {trials} trials")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(0.5 + confidence / 2)
    rate, weight = successes / trials, z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    # At the ends the closed form misses 0 and 1 by rounding only.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def mean_spread(values: Sequence[float], low: float = 0.0, high: float = 100.0) -> float:
    """Return the standard error of a bounded mean, with one imaginary value at the far end added to the spread.

    A column in which every scene scored 100 has no spread at all, which would claim certainty after a handful of
    scenes; the imaginary value keeps the error honest at the ends and fades as 1/n elsewhere.
    """
    count = len(values)
    if count < 2:
        return high - low
    mean = math.fsum(values) / count
    far = max(mean - low, high - mean)
    squares = math.fsum((value - mean) ** 2 for value in values) + far * far
    return math.sqrt(squares / count / count)


def mean_interval(values: Sequence[float], low: float = 0.0, high: float = 100.0, confidence: float = 0.95) -> Interval:
    """Return the Student interval of a bounded mean over independent units (scenes), cut at the bounds.

    Args:
        values: one value per scene.
        low, high: the bounds of the scale.
        confidence: coverage aimed at.
    """
    if len(values) < 2:
        return Interval(low, high)
    mean = math.fsum(values) / len(values)
    half = student_quantile(0.5 + confidence / 2, len(values) - 1) * mean_spread(values, low, high)
    return Interval(max(low, mean - half), min(high, mean + half))


def tango(first_only: int, second_only: int, pairs: int, confidence: float = 0.95) -> Interval:
    """Return Tango's (1998) score interval of a difference of two paired rates, first minus second.

    Args:
        first_only: pairs in which only the first succeeded (b of McNemar's table).
        second_only: pairs in which only the second succeeded (c).
        pairs: all pairs.
        confidence: coverage aimed at.
    """
    if min(first_only, second_only) < 0 or first_only + second_only > pairs:
        raise ValueError(f"got discordant pairs {first_only} and {second_only} of {pairs}")
    if pairs == 0:
        return Interval(-1.0, 1.0)
    z = normal_quantile(0.5 + confidence / 2)
    estimate = (first_only - second_only) / pairs

    def bound(end: float) -> float:
        """Bisect between the estimate and ``end`` for the difference at which the score statistic reaches z."""
        inside, outside = estimate, end
        for _ in range(80):
            middle = (inside + outside) / 2
            if abs(_tango_score(first_only, second_only, pairs, middle)) <= z:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(bound(-1.0), bound(1.0))


def _tango_score(b: int, c: int, n: int, difference: float) -> float:
    """Return Tango's score statistic under ``p1 - p2 = difference``."""
    # Constrained maximum-likelihood estimate of the second-only probability (Tango 1998, equation 12).
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    second = (root - linear) / (4 * n)
    variance = n * (2 * second + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 1e-12:
        return 0.0 if abs(distance) < 1e-9 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
