"""The columns and averages of the paper's Tables 3 and 5.

A column of Table 5 is the mean trial score over its variants and scenes. Avg (ID) is the plain mean of the seven
in-distribution columns and Avg (All) of all eight, whatever the number of trials in each; Overall of Table 3 is the
plain mean of consistency, coverage and anti-hallucination. All published averages come out of these three lines.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.detectable import detectable_score
from finevla_runtime.evidence.intervals import Interval, mean_interval, mean_spread, normal_quantile, wilson
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.run import Run


@dataclass(frozen=True, slots=True)
class ColumnScore:
    """One cell of the Table-5-shaped table.

    Attributes:
        family: family id.
        planned: trials planned.
        trials: trials scored.
        successes: trials done as told.
        mean: mean trial score 0..100, None without trials.
        scene_means: mean score per scene, the independent units.
    """

    family: str
    planned: int
    trials: int
    successes: int
    mean: float | None
    scene_means: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """Return the interval of the mean score, over scenes."""
        return mean_interval(self.scene_means)

    @property
    def success_interval(self) -> Interval:
        """Return the Wilson interval of the success rate."""
        return wilson(self.successes, self.trials)

    @property
    def detectable(self) -> float:
        """Return the smallest difference of this column between two policies that would be found."""
        return detectable_score(self.scene_means)


@dataclass(frozen=True, slots=True)
class Average:
    """A plain mean of columns.

    Attributes:
        mean: None unless every column has trials.
        interval: from the columns' own errors, as they are independent.
    """

    mean: float | None
    interval: Interval


def plain_mean(values: Sequence[float]) -> float:
    """Return the plain mean: Avg (ID), Avg (All) and the Overall of Table 3 are nothing else."""
    return math.fsum(values) / len(values)


def column_score(family: str, planned: int, records: Iterable[TrialRecord]) -> ColumnScore:
    """Return one cell of the table."""
    by_scene: dict[int, list[float]] = defaultdict(list)
    counted = list(records)
    for record in counted:
        by_scene[record.trial.scene_seed].append(record.outcome.score)
    return ColumnScore(
        family=family,
        planned=planned,
        trials=len(counted),
        successes=sum(succeeded(record) for record in counted),
        mean=plain_mean([record.outcome.score for record in counted]) if counted else None,
        scene_means=tuple(plain_mean(scores) for _, scores in sorted(by_scene.items())),
    )


def score_of(run: Run, policy: str, kind: InstructionKind, column: Column) -> ColumnScore:
    """Return the cell of one policy, kind and family; seen controls of a probe stay outside."""
    planned = run.trials(policy, kind, column.family, column.variants)
    return column_score(column.family, len(planned), run.records(policy, kind, column.family, column.variants))


def average(cells: Sequence[ColumnScore]) -> Average:
    """Return the plain mean of the columns; with an empty column there is none."""
    means = [cell.mean for cell in cells if cell.mean is not None]
    if not cells or len(means) != len(cells):
        return Average(None, Interval(0.0, 100.0))
    mean = plain_mean(means)
    error = math.sqrt(math.fsum(mean_spread(cell.scene_means) ** 2 for cell in cells)) / len(cells)
    half = normal_quantile(0.975) * error
    return Average(mean, Interval(max(0.0, mean - half), min(100.0, mean + half)))
