"""Violation rate: how often the robot did it another way than told, over the single-factor families.

Our reading of the paper's headline (section 5.4): violated trials / scored trials, general tasks and the
out-of-distribution probe left out. A robot that never moves has a rate of zero, so the engaged share and the rate
among engaged trials always stand beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import Compliance, TrialRecord
from finevla_runtime.evidence.detectable import detectable_rate
from finevla_runtime.evidence.intervals import Interval, wilson
from finevla_runtime.evidence.run import Run


@dataclass(frozen=True, slots=True)
class ViolationRate:
    """Counts and rates of one policy under one kind of instruction.

    Attributes:
        complied, violated, not_engaged, unclear: scored trials by compliance.
    """

    complied: int
    violated: int
    not_engaged: int
    unclear: int

    @property
    def trials(self) -> int:
        """Return the scored trials that are clear; unclear ones count against coverage, not against the policy."""
        return self.complied + self.violated + self.not_engaged

    @property
    def engaged(self) -> int:
        """Return the trials in which the factor was decided."""
        return self.complied + self.violated

    @property
    def rate(self) -> float | None:
        """Return violated / trials, None without trials."""
        return self.violated / self.trials if self.trials else None

    @property
    def interval(self) -> Interval:
        """Return the Wilson interval of the rate."""
        return wilson(self.violated, self.trials)

    @property
    def engaged_share(self) -> float | None:
        """Return engaged / trials, None without trials."""
        return self.engaged / self.trials if self.trials else None

    @property
    def conditional_rate(self) -> float | None:
        """Return violated / engaged, None when nothing was engaged."""
        return self.violated / self.engaged if self.engaged else None

    @property
    def conditional_interval(self) -> Interval:
        """Return the Wilson interval of the conditional rate."""
        return wilson(self.violated, self.engaged)

    @property
    def detectable(self) -> float:
        """Return the smallest difference of the rate between two policies that would be found."""
        return detectable_rate(self.violated, self.trials)


def violation_rate(records: Iterable[TrialRecord]) -> ViolationRate:
    """Count the compliance of trials."""
    counts = Counter(record.outcome.compliance for record in records)
    return ViolationRate(
        complied=counts[Compliance.COMPLIED],
        violated=counts[Compliance.VIOLATED],
        not_engaged=counts[Compliance.NOT_ENGAGED],
        unclear=counts[Compliance.UNCLEAR],
    )


def factor_violation_rate(run: Run, policy: str, kind: InstructionKind) -> ViolationRate:
    """Return the violation rate over the single-factor families."""
    return violation_rate(
        record
        for column in run.columns
        if column.pair is not None
        for record in run.records(policy, kind, column.family, column.variants)
    )
