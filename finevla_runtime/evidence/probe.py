"""The out-of-distribution probe: can two factors seen apart be bound together? Reported apart, never pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.intervals import Interval, wilson
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.run import Run


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One variant of the probe, or one seen control.

    Attributes:
        variant: variant id.
        control: whether it is a seen control.
        trials: scored trials.
        complied: observe question -> trials in which that level was as told.
        both: trials in which every level was as told.
    """

    variant: str
    control: bool
    trials: int
    complied: Mapping[str, int]
    both: int

    @property
    def interval(self) -> Interval:
        """Return the Wilson interval of the rate of ``both``."""
        return wilson(self.both, self.trials)

    @property
    def product(self) -> float | None:
        """Return the rate expected if the factors were followed independently of each other."""
        if not self.trials:
            return None
        rate = 1.0
        for count in self.complied.values():
            rate *= count / self.trials
        return rate


@dataclass(frozen=True, slots=True)
class Probe:
    """All rows of one probe family under one policy and kind."""

    family: str
    questions: tuple[str, ...]
    rows: tuple[ProbeRow, ...]

    @property
    def seen_product(self) -> float | None:
        """Return the product over the questions of their rates in the seen controls; the binding gap is below it."""
        controls = [row for row in self.rows if row.control]
        trials = sum(row.trials for row in controls)
        if not trials:
            return None
        rate = 1.0
        for question in self.questions:
            rate *= sum(row.complied[question] for row in controls) / trials
        return rate


def probe(run: Run, policy: str, kind: InstructionKind, column: Column) -> Probe | None:
    """Return the probe table of one family, None when it is no probe or nothing of it was planned."""
    if not column.ood:
        return None
    rows = tuple(
        _row(variant, column, run.records(policy, kind, column.family, (variant,)))
        for variant in (*column.variants, *column.controls)
        if run.trials(policy, kind, column.family, (variant,))
    )
    if not rows:
        return None
    return Probe(column.family, tuple(next(iter(column.requested.values()))), rows)


def _row(variant: str, column: Column, records: Iterable[TrialRecord]) -> ProbeRow:
    """Count one variant."""
    wanted = column.requested[variant]
    counted = list(records)
    answers = [
        {question: record.sheet.observed.get(question) == level for question, level in wanted.items()}
        for record in counted
    ]
    return ProbeRow(
        variant=variant,
        control=variant in column.controls,
        trials=len(counted),
        complied={question: sum(answer[question] for answer in answers) for question in wanted},
        both=sum(all(answer.values()) for answer in answers),
    )
