"""A run as the statistics see it: what was planned, what counts, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.trial import Compliance, Trial, TrialRecord
from finevla_runtime.evidence.layout import Column, columns_of
from finevla_runtime.session.journal import JOURNAL_FILE, counting_records, read_journal
from finevla_runtime.session.manifest import MANIFEST_FILE, Manifest, load_manifest


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the plan counts.

    Attributes:
        planned: trials of the manifest.
        scored: trials with a scored record.
        unclear: scored trials in which the judge could not tell the level.
        voids: reason -> void records; void trials are repeated and never counted against a policy.
    """

    planned: int
    scored: int
    unclear: int
    voids: Mapping[str, int]

    @property
    def share(self) -> float:
        """Return the share of planned trials that are scored and clear (unclear counts against coverage)."""
        return (self.scored - self.unclear) / self.planned if self.planned else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """One manifest with the records that count.

    Attributes:
        manifest: the frozen plan.
        columns: the families, in rubric order.
        counting: trial id -> record that counts.
        voids: all void records, in order.
    """

    manifest: Manifest
    columns: tuple[Column, ...]
    counting: Mapping[str, TrialRecord]
    voids: tuple[TrialRecord, ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """Return the policies in the order in which the plan first names them."""
        return tuple(dict.fromkeys(trial.policy for trial in self.manifest.trials))

    @property
    def kinds(self) -> tuple[InstructionKind, ...]:
        """Return the instruction kinds that were planned, fine-grained first."""
        planned = {trial.instruction.kind for trial in self.manifest.trials}
        return tuple(kind for kind in (InstructionKind.FINE_GRAINED, InstructionKind.RAW) if kind in planned)

    def trials(
        self, policy: str, kind: InstructionKind, family: str, variants: tuple[str, ...] = ()
    ) -> tuple[Trial, ...]:
        """Return the planned trials of one cell, in manifest order; no variants = all of the family."""
        return tuple(
            trial
            for trial in self.manifest.trials
            if trial.policy == policy
            and trial.instruction.kind is kind
            and trial.family == family
            and (not variants or trial.variant in variants)
        )

    def records(
        self, policy: str, kind: InstructionKind, family: str, variants: tuple[str, ...] = ()
    ) -> tuple[TrialRecord, ...]:
        """Return the records that count of one cell."""
        found = (self.counting.get(trial.trial_id) for trial in self.trials(policy, kind, family, variants))
        return tuple(record for record in found if record is not None)

    def coverage(self, policy: str | None = None) -> Coverage:
        """Return how much of the plan counts, of one policy or of all."""
        planned = [trial for trial in self.manifest.trials if policy in (None, trial.policy)]
        scored = [self.counting[trial.trial_id] for trial in planned if trial.trial_id in self.counting]
        unclear = sum(record.outcome.compliance is Compliance.UNCLEAR for record in scored)
        voids = Counter(record.void_reason for record in self.voids if policy in (None, record.trial.policy))
        return Coverage(len(planned), len(scored), unclear, dict(sorted(voids.items())))


def make_run(manifest: Manifest, records: list[TrialRecord], rubric: Rubric) -> Run:
    """Combine a plan with its journal.

    Raises:
        SetupError: FV-EVD-001 for a family or variant that the rubric does not know, FV-JRN-007 for foreign records.
    """
    columns = {column.family: column for column in columns_of(rubric)}
    for trial in manifest.trials:
        column = columns.get(trial.family)
        if column is None:
            raise unknown_name("FV-EVD-001", "family", trial.family, columns, f"trial {trial.trial_id!r}")
        known = (*column.variants, *column.controls)
        if trial.variant not in known:
            raise unknown_name("FV-EVD-001", "variant", trial.variant, known, f"trial {trial.trial_id!r}")
    voids = tuple(record for record in records if record.status == "void")
    return Run(manifest, tuple(columns.values()), counting_records(manifest, records), voids)


def read_run(folder: Path, rubric: Rubric) -> Run:
    """Read the manifest and the journal of a run folder; a run that has not begun has no records.

    Raises:
        SetupError: FV-EVD-002 when the folder holds no run, FV-EVD-003 when it was judged with another rubric, and
            the errors of manifest and journal.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise SetupError("FV-EVD-002", f"{folder} holds no {MANIFEST_FILE}; name the folder of a run.")
    manifest = load_manifest(folder / MANIFEST_FILE)
    judged = manifest.settings.rubric_hash
    if judged and judged != rubric.digest:
        raise SetupError(
            "FV-EVD-003",
            f"the trials in {folder} were judged with rubric {judged[:12]}, this one is {rubric.digest[:12]}; pass the "
            "rubric of the run with --rubric.",
        )
    journal = folder / JOURNAL_FILE
    records = read_journal(journal, manifest.hash) if journal.is_file() else []
    return make_run(manifest, records, rubric)
