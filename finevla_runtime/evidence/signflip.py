"""Exact sign-flip tests: under the null each unit's difference is as likely positive as negative.

Up to 16 nonzero units every sign pattern is counted. Beyond that, whole-number differences are convolved, which is
exact too; only differences on no common grid are sampled (100,000 seeded patterns, add-one rule).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from finevla_runtime.evidence.intervals import Interval

ENUMERATED_UNITS = 16
SAMPLES = 100_000
_GRID_LIMIT = 4_000_000
_BATCH_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class SignFlip:
    """Result of one sign-flip test.

    Attributes:
        p: probability of a sum at least as large under the null.
        nonzero: units that decide; ties carry no evidence.
        method: ``enumerated``, ``convolved`` or ``sampled``.
        smallest_p: the smallest p that this many units could ever give.
    """

    p: float
    nonzero: int
    method: str
    smallest_p: float


def sign_flip(differences: Sequence[float], *, two_sided: bool = False, seed: int = 0) -> SignFlip:
    """Test whether the sum of ``differences`` is larger (or other) than chance.

    Args:
        differences: one value per independent unit, already weighted.
        two_sided: compare absolute sums.
        seed: of the sampled patterns, used only when nothing exact is feasible.
    """
    values = np.array([value for value in differences if value != 0], dtype=np.float64)
    smallest = min(1.0, (2 if two_sided else 1) * 2.0 ** -len(values))
    if len(values) == 0:
        return SignFlip(1.0, 0, "enumerated", 1.0)
    if len(values) <= ENUMERATED_UNITS:
        return SignFlip(_enumerated(values, two_sided), len(values), "enumerated", smallest)
    whole = _on_grid(values)
    if whole is not None:
        return SignFlip(_convolved(whole, two_sided), len(values), "convolved", smallest)
    return SignFlip(_sampled(values, two_sided, seed), len(values), "sampled", smallest)


def _extreme(sums: NDArray[np.float64], observed: float, scale: float, two_sided: bool) -> NDArray[np.bool_]:
    """Mark sums at least as extreme; a relative tolerance counts ties of floating sums as ties."""
    tolerance = 1e-9 * scale
    if two_sided:
        return np.abs(sums) >= abs(observed) - tolerance
    return sums >= observed - tolerance


def _enumerated(values: NDArray[np.float64], two_sided: bool) -> float:
    """Count every sign pattern."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(_extreme(sums, float(values.sum()), float(np.abs(values).sum()), two_sided)))


def _on_grid(values: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return the values as whole multiples of one step, or None when there is no useful step."""
    fractions = [Fraction(float(value)).limit_denominator(100_000) for value in values]
    if any(abs(float(f) - v) > 1e-9 * max(1.0, abs(v)) for f, v in zip(fractions, values, strict=True)):
        return None
    denominator = math.lcm(*(f.denominator for f in fractions))
    whole = [int(f * denominator) for f in fractions]
    step = math.gcd(*whole)
    total = sum(abs(w) for w in whole) // step
    if total * len(whole) > _GRID_LIMIT * 100 or total > _GRID_LIMIT:
        return None
    return np.array([w // step for w in whole], dtype=np.int64)


def _convolved(whole: NDArray[np.int64], two_sided: bool) -> float:
    """Convolve the distribution of the sum over all sign patterns; entry k of the table is the sum 2k - total."""
    sizes = np.abs(whole)
    total = int(sizes.sum())
    table = np.zeros(total + 1)
    table[0] = 1.0
    reached = 0
    for size in sizes.tolist():
        table[size : reached + size + 1] += table[: reached + 1].copy()
        table[: reached + size + 1] *= 0.5
        reached += size
    sums = 2 * np.arange(total + 1) - total
    observed = int(whole.sum())
    extreme = np.abs(sums) >= abs(observed) if two_sided else sums >= observed
    return float(min(1.0, table[extreme].sum()))


def _sampled(values: NDArray[np.float64], two_sided: bool, seed: int) -> float:
    """Sample sign patterns; the observed one counts as one of them (add-one)."""
    generator = np.random.default_rng(seed)
    observed, scale = float(values.sum()), float(np.abs(values).sum())
    hits, left = 0, SAMPLES
    while left:
        batch = min(left, max(1, _BATCH_CELLS // len(values)))
        signs = generator.integers(0, 2, size=(batch, len(values)), dtype=np.int8) * 2 - 1
        hits += int(_extreme(signs @ values, observed, scale, two_sided).sum())
        left -= batch
    return (hits + 1) / (SAMPLES + 1)


def shift_interval(
    differences: Sequence[float],
    weights: Sequence[float],
    *,
    limit: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the interval of a common shift that the two-sided sign-flip test does not reject.

    Flipping a subset of units lets the shifted sum reach the observed one exactly when the shift is at least the
    weighted mean of that subset, so the limits are quantiles of subset means (Hartigan 1969): no search, no bootstrap.

    Args:
        differences: unweighted difference per unit.
        weights: weight per unit, above zero; the estimate is the weighted mean.
        limit: largest difference possible; where too few units allow no limit, it is returned.
        confidence: coverage aimed at.
        seed: of the sampled subsets beyond 16 units.
    """
    values, mass = np.asarray(differences, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if len(values) == 0:
        return Interval(-limit, limit)
    chosen = _subsets(len(values), seed)
    weight = chosen @ mass
    means = np.sort((chosen @ (values * mass))[weight > 0] / weight[weight > 0])
    # The empty subset (nothing flipped) always counts as extreme, on both sides.
    total = len(means) + 1
    outside = math.floor((1 - confidence) / 2 * total)
    if outside < 1:
        return Interval(-limit, limit)
    return Interval(float(means[outside - 1]), float(means[-outside]))


def _subsets(units: int, seed: int) -> NDArray[np.float64]:
    """Return all subsets of up to 16 units, or 20,000 sampled ones, as rows of zeros and ones."""
    if units <= ENUMERATED_UNITS:
        patterns = np.arange(2**units)[:, None] >> np.arange(units)[None, :]
        return (patterns & 1).astype(np.float64)
    return np.random.default_rng(seed).integers(0, 2, size=(20_000, units)).astype(np.float64)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p of McNemar's test: discordant pairs fall either way with probability one half."""
    discordant, smaller = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(discordant, k) for k in range(smaller + 1))
    return min(1.0, float(Fraction(2 * tail, 2**discordant)))


def holm(values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p values, in the order given."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    adjusted, running = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = running
    return adjusted
