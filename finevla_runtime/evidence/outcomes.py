"""When a trial counts as done: the same rule for every table."""

from __future__ import annotations

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import Compliance, Outcome, TrialRecord


def succeeded(record: TrialRecord) -> bool:
    """Return whether a recorded trial was done as told."""
    return done_as_told(record.outcome, record.trial.instruction.kind)


def done_as_told(outcome: Outcome, kind: InstructionKind) -> bool:
    """Return whether what happened is what an instruction of this kind asked for.

    A fine-grained instruction names the level, so the goal must be reached that way. A raw instruction names only
    the goal, so reaching it either way is success. Families without a factor need every subgoal.
    """
    if kind is InstructionKind.RAW and outcome.compliance is not Compliance.NO_FACTOR:
        return outcome.task_done
    return outcome.success
