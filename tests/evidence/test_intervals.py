"""Intervals and exact tests agree with scipy, statsmodels, published examples and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from finevla_runtime.evidence.detectable import detectable_rate, detectable_score, detectable_steering, steering_power
from finevla_runtime.evidence.intervals import Interval, mean_interval, student_quantile, tango, wilson
from finevla_runtime.evidence.signflip import holm, mcnemar_exact, shift_interval, sign_flip


@given(trials=st.integers(1, 400), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_is_statsmodels_wilson(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    low, high = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
    ours = wilson(successes, trials, confidence)
    assert ours.low == pytest.approx(low, abs=1e-12)
    assert ours.high == pytest.approx(high, abs=1e-12)
    assert 0 <= ours.low <= successes / trials <= ours.high <= 1


def test_wilson_gives_the_figures_of_the_field_and_says_nothing_without_trials() -> None:
    assert wilson(9, 10) == Interval(pytest.approx(0.596, abs=5e-4), pytest.approx(0.982, abs=5e-4))
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(0, 50).low == 0.0
    assert wilson(50, 50).high == 1.0
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson(3, 2)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 19, 49, 500])
def test_student_quantiles_are_scipys(degrees: int) -> None:
    for probability in (0.025, 0.5, 0.8, 0.95, 0.975):
        assert student_quantile(probability, degrees) == pytest.approx(
            stats.t.ppf(probability, degrees), rel=0.01, abs=1e-9
        )


@pytest.mark.parametrize(
    ("draw", "mean", "scenes"),
    [("steps", 50.0, 10), ("steps", 80.0, 20), ("yes_no", 95.0, 20), ("yes_no", 60.0, 10), ("yes_no", 98.0, 50)],
)
def test_the_interval_of_a_mean_score_covers_the_truth(draw: str, mean: float, scenes: int) -> None:
    generator = np.random.default_rng(1)
    parts, size = (5, 20.0) if draw == "steps" else (1, 100.0)
    samples = generator.binomial(parts, mean / 100, size=(1500, scenes)) * size
    covered = sum(i.low <= mean <= i.high for i in (mean_interval(row.tolist()) for row in samples))
    assert covered / len(samples) >= 0.93


def test_a_column_of_full_scores_is_not_certain() -> None:
    full = mean_interval([100.0] * 10)
    assert full.high == 100.0
    assert 70 < full.low < 95
    assert mean_interval([100.0] * 100).low > full.low
    assert mean_interval([100.0]) == Interval(0.0, 100.0)
    assert mean_interval([]) == Interval(0.0, 100.0)


def test_tango_gives_the_published_interval_of_the_airway_example() -> None:
    # Fagerland, Lydersen and Laake (2014), airway hyper-responsiveness before and after transplantation: of 21
    # children one changed one way and seven the other.
    found = tango(1, 7, 21)
    assert found == Interval(pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


@settings(max_examples=40, deadline=None)
@given(b=st.integers(0, 15), c=st.integers(0, 15), rest=st.integers(1, 30))
def test_tango_inverts_the_score_test_found_by_a_numeric_likelihood(b: int, c: int, rest: int) -> None:
    n = b + c + rest
    interval = tango(b, c, n)
    assert -1 <= interval.low <= (b - c) / n <= interval.high <= 1
    for limit in (interval.low, interval.high):
        if abs(limit) > 0.999:
            continue

        def loss(second: float, shift: float = limit) -> float:
            first, both = second + shift, 1 - 2 * second - shift
            parts = ((b, first), (c, second), (n - b - c, both))
            return -sum(k * np.log(max(p, 1e-300)) for k, p in parts if k)

        low, high = max(0.0, -limit), (1 - limit) / 2
        best = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        z = (b - c - n * limit) / np.sqrt(n * (2 * best + limit * (1 - limit)))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975), abs=2e-3)


@given(b=st.integers(0, 60), c=st.integers(0, 60))
def test_mcnemar_is_statsmodels_exact_mcnemar(b: int, c: int) -> None:
    expected = mcnemar([[5, b], [c, 5]], exact=True).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels_holm(values: list[float]) -> None:
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(-5, 5), min_size=2, max_size=9), two_sided=st.booleans())
def test_sign_flip_is_scipys_exact_permutation_test(values: list[int], two_sided: bool) -> None:
    oracle = stats.permutation_test(
        (np.array(values, dtype=float),),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided" if two_sided else "greater",
    )
    ours = sign_flip([float(v) for v in values], two_sided=two_sided)
    assert ours.p == pytest.approx(min(1.0, oracle.pvalue), abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(values=st.lists(st.sampled_from([-100, -60, -20, 20, 40, 80, 12.5]), min_size=17, max_size=18))
def test_convolution_counts_exactly_what_enumeration_counts(values: list[float]) -> None:
    for two_sided in (False, True):
        found = sign_flip(values, two_sided=two_sided)
        assert found.method == "convolved"
        observed = sum(values)
        signs = ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1) * 2 - 1
        sums = signs @ np.array(values)
        hits = np.abs(sums) >= abs(observed) if two_sided else sums >= observed
        assert found.p == pytest.approx(hits.mean(), abs=1e-9)


def test_values_on_no_grid_are_sampled_with_a_seed_and_add_one() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, size=40).tolist()
    first, again, other = (sign_flip(values, seed=seed) for seed in (1, 1, 2))
    assert first.method == "sampled"
    assert first == again
    assert first.p == pytest.approx(other.p, abs=0.01)
    assert sign_flip([1 + 1e-7 * np.pi * i for i in range(60)]).p == pytest.approx(1 / 100_001)


def test_ties_carry_no_evidence_and_the_smallest_p_is_told() -> None:
    assert sign_flip([0.0] * 30).p == 1.0
    found = sign_flip([1.0, 0.0, 1.0, 1.0, 0.0])
    assert (found.p, found.nonzero, found.smallest_p) == (0.125, 3, 0.125)
    assert sign_flip([1.0] * 3, two_sided=True).smallest_p == 0.25


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(-5, 5).map(lambda v: 20.0 * v), min_size=7, max_size=10),
    share=st.floats(0.05, 0.95),
)
def test_the_shift_interval_holds_exactly_the_shifts_that_the_test_does_not_reject(
    values: list[float], share: float
) -> None:
    weights = [1.0 + (i % 2) for i in range(len(values))]
    interval = shift_interval(values, weights, limit=100.0)

    def rejected(shift: float) -> bool:
        parts = [(v - shift) * w for v, w in zip(values, weights, strict=True)]
        return min(sign_flip(parts).p, sign_flip([-part for part in parts]).p) <= 0.025

    inside = interval.low + share * (interval.high - interval.low)
    assert not rejected(inside)
    assert rejected(interval.low - 0.37)
    assert rejected(interval.high + 0.37)


def test_too_few_units_allow_no_shift_interval() -> None:
    assert shift_interval([5.0, 6.0, 7.0, 8.0, 9.0], [1.0] * 5, limit=100.0) == Interval(-100.0, 100.0)
    assert shift_interval([], [], limit=100.0) == Interval(-100.0, 100.0)


def test_the_shift_interval_covers_a_true_difference() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        values = (20.0 + generator.choice([-40.0, -20.0, 0.0, 20.0, 40.0], size=12)).tolist()
        interval = shift_interval(values, [1.0] * 12, limit=100.0)
        covered += interval.low <= 20.0 <= interval.high
    assert covered >= 186


def test_steering_power_is_that_of_brute_force() -> None:
    for follow, scenes in itertools.product((0.3, 0.7), (5, 8)):
        power = sum(stats.binom.pmf(k, scenes, follow) for k in range(scenes + 1) if sign_flip([1.0] * k).p <= 0.05)
        assert steering_power(follow, scenes) == pytest.approx(power, abs=1e-12)
    assert steering_power(0.5, 10) == pytest.approx(0.62, abs=0.005)


def test_detectable_differences_shrink_with_trials_and_are_told_where_nothing_is_detectable() -> None:
    assert detectable_steering(4) is None
    five, fifty = detectable_steering(5), detectable_steering(50)
    assert five is not None
    assert fifty is not None
    assert fifty < 0.15 < 0.9 < five
    assert detectable_rate(10, 20) == pytest.approx(2.8016 * np.sqrt(2 * 0.25 / 20), abs=1e-3)
    assert detectable_rate(0, 0) == 1.0
    # Trial spread 35 points over 20 scenes: about 31 points at 80 % power, and never certain at the ceiling.
    assert 30 < detectable_score([15.0, 85.0] * 10) < 36
    assert detectable_score([100.0] * 50) > 5
