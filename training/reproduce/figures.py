"""The figures of the mixing experiment, read from its evaluation runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.evidence.columns import Average, ColumnScore, average, plain_mean, score_of
from finevla_runtime.evidence.compare import Comparison, compare_policies
from finevla_runtime.evidence.intervals import Interval, wilson
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.run import Run, read_run
from finevla_runtime.evidence.signflip import holm
from finevla_runtime.evidence.steering import PooledSteering, Steering, pooled, steering
from finevla_runtime.evidence.violations import ViolationRate, factor_violation_rate
from training.reproduce.plan import RATIOS, Arm, Experiment
from training.reproduce.runner import is_evaluated

FINE, RAW = InstructionKind.FINE_GRAINED, InstructionKind.RAW
KINDS = (FINE, RAW)
BASE, CENTRE, END = "Raw-only", "1:1", "FG-only"


@dataclass(frozen=True, slots=True)
class KindFigures:
    """One policy under one kind of instruction.

    Attributes:
        cells: one per column of Table 5.
        avg_id, avg_all: plain means of columns.
        success: plain mean of the in-distribution success rates, 0..1.
        success_interval: its 95 % interval, from the families' Wilson intervals.
        steering: one per control factor.
        violations: over the control factors.
    """

    cells: tuple[ColumnScore, ...]
    avg_id: Average
    avg_all: Average
    success: float
    success_interval: Interval
    steering: tuple[Steering, ...]
    violations: ViolationRate

    @property
    def pooled(self) -> PooledSteering:
        """Return the steering over all factors."""
        return pooled(self.steering)


@dataclass(frozen=True, slots=True)
class Contrast:
    """One mixture against another under one kind of instruction.

    Attributes:
        first, second: names of the ratios.
        measure: what is compared: ``Avg (ID)`` under fine-grained text, ``success rate`` in percent under raw text,
            where the subgoals would count a level that was not asked for.
        difference, interval: first minus second, points.
        scenes: independent units.
        p: exact two-sided sign-flip p over scenes.
        p_holm: p adjusted over the contrasts of the same framework and kind.
    """

    first: str
    second: str
    measure: str
    difference: float
    interval: Interval
    scenes: int
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class FrameworkFigures:
    """Everything about one framework.

    Attributes:
        framework: ``oft`` or ``gr00t``.
        titles: column headings of Table 5.
        arms: ratio name -> kind -> figures, in the paper's order; ratios without a finished run are missing.
        contrasts: kind -> every other ratio against Raw-only, and the 1:1 mixture against FG-only.
    """

    framework: str
    titles: tuple[str, ...]
    arms: Mapping[str, Mapping[InstructionKind, KindFigures]]
    contrasts: Mapping[InstructionKind, tuple[Contrast, ...]]

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the ratios that have not been evaluated."""
        return tuple(ratio.name for ratio in RATIOS if ratio.name not in self.arms)

    def finding(self, kind: InstructionKind) -> str:
        """Say in words what the planned contrasts of 1:1 allow; the best of seven is never tested after the fact."""
        if self.missing:
            return f"incomplete: {', '.join(self.missing)} missing."
        rates = {name: arm[kind].success for name, arm in self.arms.items()}
        best = max(rates, key=lambda name: rates[name])
        tested = {(c.first, c.second): c for c in self.contrasts[kind]}
        words = [
            _verdict(tested[CENTRE, BASE], "Raw-only"),
            _verdict(tested[CENTRE, END], "FG-only"),
        ]
        above = [tested[CENTRE, other].difference > 0 for other in (BASE, END)]
        significant = [tested[CENTRE, other].p_holm < 0.05 for other in (BASE, END)]
        if all(above) and all(significant):
            shape = "The inverted U of the paper appears."
        elif all(above):
            shape = "The order is that of an inverted U, but the trials do not separate all of it from chance."
        else:
            shape = "The inverted U of the paper does not appear."
        measure = tested[CENTRE, BASE].measure
        return (
            f"Highest success rate: {best} ({100 * rates[best]:.1f} %). "
            f"In {measure}, 1:1 is {words[0]} and {words[1]}. {shape}"
        )


def _verdict(contrast: Contrast, other: str) -> str:
    return (
        f"{contrast.difference:+.1f} points against {other} (95 % interval {contrast.interval.low:+.1f} to "
        f"{contrast.interval.high:+.1f}, Holm p {contrast.p_holm:.2g})"
    )


def read_figures(experiment: Experiment, rubric: Rubric) -> tuple[FrameworkFigures, ...]:
    """Read every finished evaluation (SetupError of the readers for a damaged one)."""
    return tuple(_framework(experiment, name, rubric) for name in experiment.frameworks)


def _framework(experiment: Experiment, framework: str, rubric: Rubric) -> FrameworkFigures:
    arms = [Arm(framework, ratio) for ratio in RATIOS]
    runs = {
        arm.ratio.name: (arm, read_run(experiment.evaluation(arm), rubric))
        for arm in arms
        if is_evaluated(experiment, arm)
    }
    figures = {
        name: {kind: _kind(run, arm.label, kind) for kind in KINDS if kind in run.kinds}
        for name, (arm, run) in runs.items()
    }
    titles = tuple(c.title for c in next(iter(runs.values()))[1].columns) if runs else ()
    return FrameworkFigures(framework, titles, figures, {kind: _contrasts(runs, kind) for kind in KINDS})


def _kind(run: Run, policy: str, kind: InstructionKind) -> KindFigures:
    columns = [(column, score_of(run, policy, kind, column)) for column in run.columns]
    inside = [cell for column, cell in columns if not column.ood]
    rates = [_rate(run, policy, kind, column) for column in run.columns if not column.ood]
    return KindFigures(
        cells=tuple(cell for _, cell in columns),
        avg_id=average(inside),
        avg_all=average([cell for _, cell in columns]),
        success=plain_mean([rate for rate, _ in rates]),
        success_interval=mean_of_rates(rates),
        steering=tuple(found for column in run.columns if (found := steering(run, policy, kind, column)) is not None),
        violations=factor_violation_rate(run, policy, kind),
    )


def _rate(run: Run, policy: str, kind: InstructionKind, column: Column) -> tuple[float, Interval]:
    """Return the success rate of a family and its Wilson interval.

    Both variants of a scene have one raw text, so a policy does the same thing twice there: trials of one scene with
    one text are one unit, or the interval would be too narrow by a factor of 1.4.
    """
    units: dict[tuple[int, str], list[bool]] = {}
    for record in run.records(policy, kind, column.family, column.variants):
        trial = record.trial
        units.setdefault((trial.scene_seed, trial.instruction.text), []).append(succeeded(record))
    reached = sum(sum(found) / len(found) for found in units.values())
    rate = reached / len(units) if units else 0.0
    return rate, wilson(round(reached), len(units))


def mean_of_rates(rates: Sequence[tuple[float, Interval]]) -> Interval:
    """Return the interval of the plain mean of independent rates.

    Distances to the limits of each rate add up in squares (MOVER: Zou and Donner, Statistics in Medicine 27, 2008).
    """
    mean = plain_mean([rate for rate, _ in rates])
    below = math.sqrt(math.fsum((rate - span.low) ** 2 for rate, span in rates)) / len(rates)
    above = math.sqrt(math.fsum((span.high - rate) ** 2 for rate, span in rates)) / len(rates)
    return Interval(max(0.0, mean - below), min(1.0, mean + above))


def _contrasts(runs: Mapping[str, tuple[Arm, Run]], kind: InstructionKind) -> tuple[Contrast, ...]:
    wanted = [(ratio.name, BASE) for ratio in RATIOS if ratio.name != BASE] + [(CENTRE, END)]
    found = []
    for first, second in wanted:
        if first in runs and second in runs:
            (arm_a, run_a), (arm_b, run_b) = runs[first], runs[second]
            comparison = compare_policies(run_a, run_b, kind, policies=(arm_a.label, arm_b.label))
            found.append(_contrast(first, second, comparison))
    adjusted = holm([contrast.p for contrast in found])
    return tuple(replace(contrast, p_holm=p) for contrast, p in zip(found, adjusted, strict=True))


def _contrast(first: str, second: str, comparison: Comparison) -> Contrast:
    """Return the planned contrast: Avg (ID) where the text says how, the success rate where it does not."""
    fine = comparison.kind is FINE
    measure, found = ("Avg (ID)", comparison.primary) if fine else ("success rate", comparison.success)
    p = found.test.p
    return Contrast(first, second, measure, found.difference or 0.0, found.interval, found.scenes, p, p)
