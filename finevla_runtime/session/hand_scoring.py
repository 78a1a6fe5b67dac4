"""From hand-filled sheets to a run folder: the same journal, statistics and report as a simulated run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError, nearest
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.session.journal import Journal, counting_records
from finevla_runtime.session.manifest import Manifest, RolloutSettings
from finevla_runtime.session.scoring import score, void_reason
from finevla_runtime.session.sheets import FilledSheet


@dataclass(frozen=True, slots=True)
class Entered:
    """What a scoring run wrote.

    Attributes:
        added: records of trials that had none.
        corrected: records that count instead of an earlier, different one.
        unchanged: sheets that say what the journal already says.
        void: of the records written, how many are void.
    """

    added: int
    corrected: int
    unchanged: int
    void: int


def plan_of_sheets(filled: Sequence[FilledSheet], rubric: Rubric, name: str, created: str, embodiment: str) -> Manifest:
    """Return a manifest made of the sheets themselves, for trials that were run without one.

    Raises:
        SetupError: FV-SCO-010 when no trial was filled in.
    """
    if not filled:
        raise SetupError("FV-SCO-010", "no trial is filled in; answer at least one row of the sheet.")
    policies = {item.trial.policy: "" for item in filled}
    settings = RolloutSettings(embodiment, control_hz=0.0, execution_rows=0, rubric_hash=rubric.digest)
    return Manifest(name, "sheets", created, policies, settings, tuple(item.trial for item in filled))


def record_of_sheet(item: FilledSheet, rubric: Rubric) -> TrialRecord:
    """Score one sheet; a protocol violation makes the trial void."""
    family = rubric.family(item.trial.family)
    reason = void_reason(family, item.sheet)
    return TrialRecord(
        trial=item.trial,
        sheet=item.sheet,
        outcome=score(family, item.trial.variant, item.sheet),
        status="void" if reason else "scored",
        void_reason=reason,
    )


def check_planned(filled: Sequence[FilledSheet], manifest: Manifest, rubric: Rubric) -> None:
    """Refuse sheets that answer other trials than the planned ones.

    Raises:
        SetupError: FV-SCO-011 (unplanned or altered trial, with its place), FV-SCO-012 (another rubric).
    """
    wanted = manifest.settings.rubric_hash
    if wanted and wanted != rubric.digest:
        raise SetupError(
            "FV-SCO-012",
            f"the manifest asks for rubric {wanted[:12]}, this one is {rubric.digest[:12]}; pass the rubric of the "
            "plan.",
        )
    planned = {trial.trial_id: trial for trial in manifest.trials}
    for item in filled:
        trial = planned.get(item.trial.trial_id)
        if trial is None:
            guess = nearest(item.trial.trial_id, planned)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise SetupError("FV-SCO-011", f"{item.place}: trial {item.trial.trial_id!r} is not in the manifest.{hint}")
        if trial != item.trial:
            raise SetupError(
                "FV-SCO-011",
                f"{item.place}: trial {trial.trial_id!r} was planned with another family, variant, scene, policy or "
                "instruction; restore those cells of the sheet.",
            )


def enter_sheets(filled: Sequence[FilledSheet], manifest: Manifest, rubric: Rubric, journal: Path) -> Entered:
    """Append what the sheets say to the journal of the plan.

    A sheet may be scored again while it is being filled in: what the journal already says is not repeated, and a
    changed answer becomes a new record that counts instead of the old one.

    Raises:
        SetupError: FV-SCO-011 and FV-SCO-012 before anything is written; FV-JRN-* from the journal.
    """
    check_planned(filled, manifest, rubric)
    records = [record_of_sheet(item, rubric) for item in filled]
    added = corrected = unchanged = void = 0
    with Journal(journal, manifest.hash) as log:
        # Refuses a journal with trials of another plan before anything is added to it.
        counting_records(manifest, log.records)
        last = {record.trial.trial_id: record for record in log.records}
        for record in records:
            earlier = last.get(record.trial.trial_id)
            if earlier == record:
                unchanged += 1
                continue
            log.append(record)
            void += record.status == "void"
            corrected += earlier is not None
            added += earlier is None
    return Entered(added, corrected, unchanged, void)
