"""Two policies on the same planned trials: paired differences, exact tests, and words only where they are earned.

The locked primary test is the difference of Avg (ID) by a stratified sign-flip over scenes. A verdict needs coverage of
at least 95 % on both sides and a rejected primary test; everything else is printed as a figure, not as a finding.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import Compliance, Trial, TrialRecord
from finevla_runtime.evidence.columns import plain_mean
from finevla_runtime.evidence.intervals import Interval, tango
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.run import Run
from finevla_runtime.evidence.signflip import SignFlip, holm, mcnemar_exact, shift_interval, sign_flip

MIN_COVERAGE = 0.95
ALPHA = 0.05

Key = tuple[str, str, int, str, int]
Matched = list[tuple[TrialRecord, TrialRecord]]
Value = Callable[[TrialRecord], float]


@dataclass(frozen=True, slots=True)
class ScoreContrast:
    """Difference of mean score, first policy minus second, over scenes.

    Attributes:
        name: family id or ``avg_id``.
        first, second: mean scores, None without matched trials.
        trials: matched trials.
        scenes: independent units.
        interval: shifts the two-sided test does not reject.
        test: two-sided sign-flip test.
        p_holm: p adjusted over the family columns; the primary contrast stands alone.
    """

    name: str
    first: float | None
    second: float | None
    trials: int
    scenes: int
    interval: Interval
    test: SignFlip
    p_holm: float

    @property
    def difference(self) -> float | None:
        """Return first minus second."""
        return None if self.first is None or self.second is None else self.first - self.second


@dataclass(frozen=True, slots=True)
class RateContrast:
    """Difference of a rate, first policy minus second, on matched trials.

    Attributes:
        name: ``success`` or ``violation``.
        trials: matched trials.
        first, second: events of each policy.
        first_only, second_only: discordant trials, b and c of McNemar's table.
        interval: Tango's interval of the difference; it treats trials as independent.
        p_mcnemar: exact McNemar p over trials.
        test: two-sided sign-flip over scenes, which keeps both variants of a scene together.
        p_holm: sign-flip p adjusted over the rate contrasts.
    """

    name: str
    trials: int
    first: int
    second: int
    first_only: int
    second_only: int
    interval: Interval
    p_mcnemar: float
    test: SignFlip
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that may be said about two policies under one kind of instruction.

    Attributes:
        first, second: labels of the policies.
        kind: instruction kind.
        matched: planned trials that both plans share.
        coverage_first, coverage_second: share of those with a clear scored record.
        primary: the locked test on Avg (ID).
        columns: one contrast per family.
        success: success rate in percent, averaged over the in-distribution families like Avg (ID); its interval is over
            scenes, unlike that of ``rates``.
        rates: success over the in-distribution families and violations over the single-factor ones.
        warnings: why the two runs may not be comparable.
        verdict: one sentence.
        decided: whether the verdict says that one scores higher.
    """

    first: str
    second: str
    kind: InstructionKind
    matched: int
    coverage_first: float
    coverage_second: float
    primary: ScoreContrast
    columns: tuple[ScoreContrast, ...]
    success: ScoreContrast
    rates: tuple[RateContrast, ...]
    warnings: tuple[str, ...]
    verdict: str
    decided: bool


def choose_policy(run: Run, label: str, option: str) -> str:
    """Return the policy to compare: the one named, or the only one of the run.

    Raises:
        SetupError: FV-EVD-004 when the name is unknown or a choice is needed.
    """
    known = tuple(run.manifest.policies)
    if label:
        if label not in known:
            raise unknown_name("FV-EVD-004", "policy", label, known, run.manifest.name)
        return label
    if len(known) != 1:
        raise SetupError(
            "FV-EVD-004",
            f"run {run.manifest.name!r} holds {len(known)} policies ({', '.join(known)}); name one with {option}.",
        )
    return known[0]


def _planned(run: Run, policy: str, kind: InstructionKind) -> dict[Key, Trial]:
    """Return the planned trials by what makes two trials the same; repeats of a cell are numbered."""
    repeats: Counter[tuple[str, str, int, str]] = Counter()
    found: dict[Key, Trial] = {}
    for trial in run.manifest.trials:
        if trial.policy != policy or trial.instruction.kind is not kind:
            continue
        cell = (trial.family, trial.variant, trial.scene_seed, trial.instruction.text)
        found[(*cell, repeats[cell])] = trial
        repeats[cell] += 1
    return found


def _clear(run: Run, trial: Trial) -> TrialRecord | None:
    """Return the record that counts when it is clear."""
    record = run.counting.get(trial.trial_id)
    return None if record is None or record.outcome.compliance is Compliance.UNCLEAR else record


def _warnings(first: Run, second: Run, unmatched: int, matched: dict[str, Matched]) -> tuple[str, ...]:
    """Return what makes the two runs differ besides the policy, and what the average leaves out."""
    a, b = first.manifest.settings, second.manifest.settings
    found = []
    for name, left, right in (
        ("embodiment", a.embodiment, b.embodiment),
        ("control rate", a.control_hz, b.control_hz),
        ("execution rows", a.execution_rows, b.execution_rows),
        ("rubric", a.rubric_hash[:12], b.rubric_hash[:12]),
        ("root seed", a.seed, b.seed),
    ):
        if left != right:
            found.append(f"{name} differs: {left} and {right}.")
    wanted = [column for column in first.columns if not column.ood]
    have = sum(bool(matched.get(column.family)) for column in wanted)
    if have != len(wanted):
        found.append(
            f"the average covers {have} of {len(wanted)} in-distribution families; the others share no trials."
        )
    if unmatched:
        found.append(f"{unmatched} planned trials exist in one plan only and are left out.")
    return tuple(found)


def compare_policies(
    first: Run, second: Run, kind: InstructionKind, *, policies: tuple[str, str], seed: int = 0
) -> Comparison:
    """Compare two policies on the trials that both plans share.

    Args:
        first, second: the runs; they may be the same run.
        kind: instruction kind that is compared.
        policies: labels in the first and in the second run.
        seed: of sampled sign patterns, used only when nothing exact is feasible.

    Raises:
        SetupError: FV-EVD-005 when no planned trial is shared.
    """
    plan_a, plan_b = _planned(first, policies[0], kind), _planned(second, policies[1], kind)
    shared = [key for key in plan_a if key in plan_b]
    if not shared:
        raise SetupError(
            "FV-EVD-005",
            f"the plans of {policies[0]!r} and {policies[1]!r} share no {kind.value} trial; run both on one suite with "
            "the same seeds and instructions.",
        )
    clear_a = {key: record for key in shared if (record := _clear(first, plan_a[key]))}
    clear_b = {key: record for key in shared if (record := _clear(second, plan_b[key]))}
    matched: dict[str, Matched] = defaultdict(list)
    for key in shared:
        if key in clear_a and key in clear_b:
            matched[key[0]].append((clear_a[key], clear_b[key]))
    columns = first.columns
    primary = _average_contrast(columns, matched, seed)
    cells = [
        _score_contrast(column.family, [(pairs, 1.0)], seed)
        for column in columns
        if (pairs := _in_column(column, matched.get(column.family, [])))
    ]
    adjusted = holm([cell.test.p for cell in cells])
    unmatched = len(plan_a) + len(plan_b) - 2 * len(shared)
    coverage = (len(clear_a) / len(shared), len(clear_b) / len(shared))
    decided, verdict = _verdict(policies, kind, coverage, primary)
    return Comparison(
        first=policies[0],
        second=policies[1],
        kind=kind,
        matched=len(shared),
        coverage_first=coverage[0],
        coverage_second=coverage[1],
        primary=primary,
        columns=tuple(replace(cell, p_holm=p) for cell, p in zip(cells, adjusted, strict=True)),
        success=_average_contrast(columns, matched, seed, "success_id", _success_percent),
        rates=_rates(columns, matched, seed),
        warnings=_warnings(first, second, unmatched, matched),
        verdict=verdict,
        decided=decided,
    )


def _in_column(column: Column, pairs: Matched) -> Matched:
    """Return the matched trials that form the column (seen controls of a probe are left out)."""
    return [pair for pair in pairs if pair[0].trial.variant in column.variants]


def _score(record: TrialRecord) -> float:
    return record.outcome.score


def _success_percent(record: TrialRecord) -> float:
    return 100.0 * succeeded(record)


def _average_contrast(
    columns: tuple[Column, ...], matched: dict[str, Matched], seed: int, name: str = "avg_id", value: Value = _score
) -> ScoreContrast:
    """Return the contrast of an average over columns: every in-distribution column that has trials weighs the same."""
    strata = [
        (pairs, 1.0)
        for column in columns
        if not column.ood and (pairs := _in_column(column, matched.get(column.family, [])))
    ]
    return _score_contrast(name, strata, seed, value)


def _score_contrast(name: str, strata: list[tuple[Matched, float]], seed: int, value: Value = _score) -> ScoreContrast:
    """Return the stratified contrast of a mean value per trial, the score; a unit is a scene within its column."""
    differences: list[float] = []
    weights: list[float] = []
    means: list[tuple[float, float]] = []
    trials = 0
    for pairs, share in strata:
        by_scene: dict[int, list[float]] = defaultdict(list)
        for a, b in pairs:
            by_scene[a.trial.scene_seed].append(value(a) - value(b))
        trials += len(pairs)
        means.append((plain_mean([value(a) for a, _ in pairs]), plain_mean([value(b) for _, b in pairs])))
        for values in by_scene.values():
            differences.append(plain_mean(values))
            # A scene weighs by its trials, so that the weighted mean is the difference of the column means.
            weights.append(share * len(values) / len(pairs) / len(strata))
    test = sign_flip([d * w for d, w in zip(differences, weights, strict=True)], two_sided=True, seed=seed)
    return ScoreContrast(
        name=name,
        first=plain_mean([a for a, _ in means]) if means else None,
        second=plain_mean([b for _, b in means]) if means else None,
        trials=trials,
        scenes=len(differences),
        interval=shift_interval(differences, weights, limit=100.0, seed=seed),
        test=test,
        p_holm=test.p,
    )


def _rates(columns: tuple[Column, ...], matched: dict[str, Matched], seed: int) -> tuple[RateContrast, ...]:
    """Return the contrasts of success and of violations."""
    in_distribution = [pair for c in columns if not c.ood for pair in _in_column(c, matched.get(c.family, []))]
    single_factor = [pair for c in columns if c.pair for pair in _in_column(c, matched.get(c.family, []))]
    found = [
        _rate_contrast("success", in_distribution, succeeded, seed),
        _rate_contrast(
            "violation",
            single_factor,
            lambda record: record.outcome.compliance is Compliance.VIOLATED,
            seed,
        ),
    ]
    adjusted = holm([item.test.p for item in found])
    return tuple(replace(item, p_holm=p) for item, p in zip(found, adjusted, strict=True))


def _rate_contrast(name: str, pairs: Matched, event: Callable[[TrialRecord], bool], seed: int) -> RateContrast:
    """Return the contrast of one yes-or-no outcome."""
    both = [(event(a), event(b)) for a, b in pairs]
    first_only = sum(a and not b for a, b in both)
    second_only = sum(b and not a for a, b in both)
    by_scene: dict[tuple[str, int], int] = defaultdict(int)
    for (record, _), (a, b) in zip(pairs, both, strict=True):
        by_scene[(record.trial.family, record.trial.scene_seed)] += int(a) - int(b)
    test = sign_flip([float(value) for value in by_scene.values()], two_sided=True, seed=seed)
    return RateContrast(
        name=name,
        trials=len(pairs),
        first=sum(a for a, _ in both),
        second=sum(b for _, b in both),
        first_only=first_only,
        second_only=second_only,
        interval=tango(first_only, second_only, len(pairs)),
        p_mcnemar=mcnemar_exact(first_only, second_only),
        test=test,
        p_holm=test.p,
    )


def _verdict(
    policies: tuple[str, str], kind: InstructionKind, coverage: tuple[float, float], primary: ScoreContrast
) -> tuple[bool, str]:
    """Return whether a winner may be named, and the sentence."""
    difference = primary.difference
    words = kind.value.replace("_", "-")
    if min(coverage) < MIN_COVERAGE:
        return False, (
            f"No verdict: only {min(coverage):.0%} of the shared trials are scored and clear, {MIN_COVERAGE:.0%} are "
            "needed. Finish or repeat the missing trials."
        )
    if difference is None or math.isclose(difference, 0.0, abs_tol=1e-12):
        return False, f"No difference between {policies[0]} and {policies[1]} was seen under {words} instructions."
    if primary.test.p >= ALPHA:
        reach = (
            f" With {primary.test.nonzero} scenes that differ, p can never fall below {primary.test.smallest_p:.3g}."
            if primary.test.smallest_p >= ALPHA
            else ""
        )
        return False, (
            f"Not shown: a difference of {difference:+.1f} points under {words} instructions can be chance "
            f"(p = {primary.test.p:.3g}, 95 % interval {primary.interval.low:+.1f} to {primary.interval.high:+.1f})."
            + reach
        )
    better, worse = policies if difference > 0 else policies[::-1]
    return True, (
        f"{better} scores higher than {worse} under {words} instructions: {abs(difference):.1f} points "
        f"(p = {primary.test.p:.3g}, 95 % interval of {policies[0]} minus {policies[1]} "
        f"{primary.interval.low:+.1f} to {primary.interval.high:+.1f})."
    )
