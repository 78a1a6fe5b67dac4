"""What the report says, worked out before any HTML: headline, tables, failures, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.columns import Average, ColumnScore, average, score_of
from finevla_runtime.evidence.compare import Comparison, compare_policies
from finevla_runtime.evidence.intervals import Interval
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.probe import Probe, probe
from finevla_runtime.evidence.run import Coverage, Run
from finevla_runtime.evidence.steering import PooledSteering, Steering, pooled, steering
from finevla_runtime.evidence.violations import ViolationRate, factor_violation_rate
from finevla_runtime.report.charts import Mark, Series, dot_chart, series_colour
from finevla_runtime.report.pictures import Film
from finevla_runtime.report.wording import KIND_NAMES

MAX_FAILURES = 60


@dataclass(frozen=True, slots=True)
class Arm:
    """Everything about one policy under one kind of instruction.

    Attributes:
        policy, kind: which.
        name: both in words.
        colour: of its dots in the charts.
        cells: one per column, in order.
        avg_id, avg_all: plain means of columns.
        steering: one per factor that was planned.
        violations: over the single-factor families.
        probes: out-of-distribution probes.
        failures: trials not done as told, at most MAX_FAILURES.
        failed: number of all of them.
    """

    policy: str
    kind: InstructionKind
    name: str
    colour: str
    cells: tuple[ColumnScore, ...]
    avg_id: Average
    avg_all: Average
    steering: tuple[Steering, ...]
    violations: ViolationRate
    probes: tuple[Probe, ...]
    failures: tuple[TrialRecord, ...]
    failed: int

    @property
    def followed(self) -> int:
        """Return the pairs in which both instructions were followed."""
        return sum(item.table.followed for item in self.steering)

    @property
    def pairs(self) -> int:
        """Return all pairs."""
        return sum(item.table.pairs for item in self.steering)

    @property
    def pooled(self) -> PooledSteering:
        """Return the steering over all factors."""
        return pooled(self.steering)

    @property
    def weakest(self) -> Steering | None:
        """Return the factor with the smallest steering index."""
        known = [item for item in self.steering if item.index is not None]
        return min(known, key=lambda item: item.index or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class View:
    """The whole report.

    Attributes:
        run: the run.
        columns: the families with at least one planned trial.
        arms: policy x kind, fine-grained first.
        coverage: policy -> coverage.
        comparisons: every two policies of the run.
        films: film strips.
        score_chart, steering_chart: inline SVG, empty when there is nothing to draw.
        provenance: name -> text.
    """

    run: Run
    columns: tuple[Column, ...]
    arms: tuple[Arm, ...]
    coverage: Mapping[str, Coverage]
    comparisons: tuple[Comparison, ...]
    films: tuple[Film, ...]
    score_chart: str
    steering_chart: str
    provenance: Mapping[str, str]

    @property
    def lead(self) -> Arm:
        """Return the arm of the headline: the first policy, fine-grained if it was asked that way."""
        return self.arms[0]

    @property
    def factors(self) -> tuple[Column, ...]:
        """Return the single-factor columns."""
        return tuple(column for column in self.columns if column.pair is not None)

    @property
    def id_columns(self) -> int:
        """Return the number of in-distribution columns."""
        return sum(not column.ood for column in self.columns)

    def reached(self, arm: Arm) -> tuple[int, int]:
        """Return (successes, trials) of one arm over the single-factor families."""
        cells = [cell for column, cell in zip(self.columns, arm.cells, strict=True) if column.pair]
        return sum(cell.successes for cell in cells), sum(cell.trials for cell in cells)

    @property
    def first_films(self) -> tuple[Film, ...]:
        """Return one pair per control factor: what a reader should see first."""
        found: dict[str, Film] = {}
        for film in self.films:
            if len(film.strips) == 2 and film.kind is self.lead.kind:
                found.setdefault(film.title, film)
        return tuple(found.values())

    @property
    def more_films(self) -> tuple[Film, ...]:
        """Return all other films."""
        first = self.first_films
        return tuple(film for film in self.films if not any(film is shown for shown in first))


def make_view(run: Run, films: tuple[Film, ...], provenance: Mapping[str, str]) -> View:
    """Work out the report of a run.

    Raises:
        SetupError: FV-EVD-006 when the manifest plans no trial.
    """
    if not run.manifest.trials:
        raise SetupError("FV-EVD-006", f"run {run.manifest.name!r} plans no trial; there is nothing to report.")
    planned = {trial.family for trial in run.manifest.trials}
    columns = tuple(column for column in run.columns if column.family in planned)
    wanted = [(policy, kind) for policy in run.policies for kind in run.kinds]
    arms = tuple(_arm(run, columns, policy, kind, series_colour(i)) for i, (policy, kind) in enumerate(wanted))
    return View(
        run=run,
        columns=columns,
        arms=arms,
        coverage={policy: run.coverage(policy) for policy in run.policies},
        comparisons=_comparisons(run),
        films=films,
        score_chart=_score_chart(columns, arms),
        steering_chart=_steering_chart(columns, arms),
        provenance={**_plan_facts(run), **provenance},
    )


def _arm(run: Run, columns: tuple[Column, ...], policy: str, kind: InstructionKind, colour: str) -> Arm:
    """Work out one policy under one kind; averages need all columns of the rubric."""
    every = [(column, score_of(run, policy, kind, column)) for column in run.columns]
    factors = [found for column in columns if (found := steering(run, policy, kind, column))]
    probes = [table for column in columns if (table := probe(run, policy, kind, column))]
    failed = [
        record
        for column in columns
        for record in run.records(policy, kind, column.family, column.variants)
        if not succeeded(record)
    ]
    return Arm(
        policy=policy,
        kind=kind,
        name=f"{policy}, {KIND_NAMES[kind]}",
        colour=colour,
        cells=tuple(cell for column, cell in every if column in columns),
        avg_id=average([cell for column, cell in every if not column.ood]),
        avg_all=average([cell for _, cell in every]),
        steering=tuple(factors),
        violations=factor_violation_rate(run, policy, kind),
        probes=tuple(probes),
        failures=tuple(failed[:MAX_FAILURES]),
        failed=len(failed),
    )


def _comparisons(run: Run) -> tuple[Comparison, ...]:
    """Compare every two policies of the run under every kind they share."""
    found = []
    for kind in run.kinds:
        for pair in combinations(run.policies, 2):
            try:
                found.append(compare_policies(run, run, kind, policies=pair))
            except SetupError as error:
                if error.code != "FV-EVD-005":
                    raise
    return tuple(found)


def _score_chart(columns: tuple[Column, ...], arms: tuple[Arm, ...]) -> str:
    """Draw the mean scores of all columns."""
    series = [Series(arm.name, tuple(Mark(cell.mean, cell.interval) for cell in arm.cells)) for arm in arms]
    names = [column.title for column in columns]
    return dot_chart(names, series, (0, 101), "mean score, 0 to 100, with 95 % interval", "Mean score by family")


def _steering_chart(columns: tuple[Column, ...], arms: tuple[Arm, ...]) -> str:
    """Draw the steering indices of all factors."""
    factors = [column for column in columns if column.pair is not None]
    if not factors:
        return ""
    series = []
    for arm in arms:
        by_family = {item.family: item for item in arm.steering}
        marks = [by_family.get(column.family) for column in factors]
        series.append(
            Series(
                arm.name,
                tuple(Mark(m.index, m.interval) if m else _NOTHING for m in marks),
            )
        )
    lowest = min((m.interval.low for s in series for m in s.marks if m.value is not None), default=0.0)
    limits = (-1.02 if lowest < -0.5 else -0.52, 1.03)
    names = [column.title for column in factors]
    axis = "steering index J: 0 deaf to language, 1 perfect"
    return dot_chart(names, series, limits, axis, "Steering index by control factor")


def _plan_facts(run: Run) -> dict[str, str]:
    """Return what the manifest itself says about where the figures come from."""
    manifest, settings = run.manifest, run.manifest.settings
    seeds = [trial.scene_seed for trial in manifest.trials]
    facts = {"manifest sha256": manifest.hash, "suite": manifest.suite, "begun": manifest.created}
    facts.update({f"policy {label}": digest for label, digest in manifest.policies.items()})
    facts.update(
        {
            "rubric sha256": settings.rubric_hash,
            "body": settings.embodiment,
            "control rate": f"{settings.control_hz:g} Hz" if settings.control_hz else "",
            "execution horizon": f"{settings.execution_rows} rows" if settings.execution_rows else "",
            "scene seeds": f"{min(seeds)} to {max(seeds)}",
            "root seed": str(settings.seed),
        }
    )
    return {name: text for name, text in facts.items() if text}


_NOTHING = Mark(None, Interval(0.0, 0.0))
