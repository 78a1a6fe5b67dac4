"""One evaluation from the command line: policy, suite, run folder; resumed when it was begun before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.paths import DEFAULT_BUNDLE
from finevla_runtime.session.journal import JOURNAL_FILE, counting_records, read_journal
from finevla_runtime.session.manifest import Manifest
from finevla_runtime.session.provenance import collect_provenance, save_provenance
from sim_eval.demos import use_one_thread_per_worker
from sim_eval.expert_policy import EXPERT_LABEL
from sim_eval.plan import Selection, find_suite, freeze, select, tabletop_rubric
from sim_eval.policy_source import (
    PolicySource,
    expert_source,
    physics_world,
    rendering_world,
    serve_bundle,
    server_source,
)
from sim_eval.progress import ProgressLine
from sim_eval.rendering import require_rendering
from sim_eval.runner import RunResult, RunSetup, run_manifest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate and where.

    Attributes:
        out: run folder.
        suite: name of a shipped suite.
        selection: what to take from it.
        workers: processes.
        bundle: bundle to serve; None for the shipped one.
        address: running server to ask instead of serving a bundle.
        policy: ``expert`` for the scripted expert, else empty.
        label: name in the report; empty takes the policy's own.
        render: False runs without cameras, which only the expert can.
        command: what was typed, for the provenance of the report.
    """

    out: Path
    suite: str
    selection: Selection
    workers: int
    bundle: Path | None = None
    address: str = ""
    policy: str = ""
    label: str = ""
    render: bool = True
    command: str = ""


@dataclass(frozen=True, slots=True)
class CellCount:
    """Trials of one family, kind and variant: how many succeeded, followed the instruction, did otherwise.

    Under raw instructions, which ask for no level of the factor, a success is the goal reached in any way.
    """

    family: str
    kind: str
    variant: str
    trials: int
    successes: int
    complied: int
    violated: int
    score_mean: float


def evaluate_suite(wanted: Evaluation) -> tuple[Manifest, RunResult]:
    """Plan and run an evaluation; run again with the same arguments to resume.

    Raises:
        SetupError: FV-SIM-020 without a renderer, FV-RUN-005 for options that contradict each other, and everything
            that planning, serving and running raise.
        PolicyError: FV-RUN-003 when the server was lost.
    """
    _check_options(wanted)
    rubric = tabletop_rubric()
    suite = select(find_suite(wanted.suite, rubric), wanted.selection)
    renderer = require_rendering() if wanted.render else "none"
    use_one_thread_per_worker()
    with _policy_source(wanted) as source, ProgressLine("trials") as line:
        if suite.execution_rows > source.chunk_rows:
            raise SetupError(
                "FV-RUN-005",
                f"suite {suite.name} executes {suite.execution_rows} rows per query, {source.label} predicts "
                f"{source.chunk_rows}; choose a suite with fewer.",
            )
        manifest = freeze(suite, rubric, {source.label: source.digest}, wall_clock_utc())
        facts = {"renderer": renderer, "workers": str(wanted.workers), "started": manifest.created}
        save_provenance(wanted.out, collect_provenance(wanted.command, facts))
        setup = RunSetup(
            run_dir=wanted.out,
            manifest=manifest,
            rubric=rubric,
            workers=wanted.workers,
            world=rendering_world if wanted.render else physics_world,
            policy=source.factory,
            address=source.address,
        )
        return manifest, run_manifest(setup, line.show)


def count_cells(run_dir: Path, manifest: Manifest) -> list[CellCount]:
    """Count what the journal of a run holds, in the order of the manifest."""
    records = counting_records(manifest, read_journal(run_dir / JOURNAL_FILE, manifest.hash))
    cells: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for trial in manifest.trials:
        found = records.get(trial.trial_id)
        if found is not None:
            cells.setdefault((trial.family, trial.instruction.kind.value, trial.variant), []).append(found)
    return [
        CellCount(
            *key,
            trials=len(group),
            successes=sum(_succeeded(record) for record in group),
            complied=sum(record.outcome.compliance.value == "complied" for record in group),
            violated=sum(record.outcome.compliance.value == "violated" for record in group),
            score_mean=sum(record.outcome.score for record in group) / len(group),
        )
        for key, group in cells.items()
    ]


def _succeeded(record: TrialRecord) -> bool:
    raw = record.trial.instruction.kind is InstructionKind.RAW
    return record.outcome.task_done if raw else record.outcome.success


def _check_options(wanted: Evaluation) -> None:
    if wanted.policy and wanted.policy != EXPERT_LABEL:
        raise unknown_name("FV-RUN-005", "policy", wanted.policy, [EXPERT_LABEL], "--policy")
    if sum((wanted.bundle is not None, bool(wanted.address), bool(wanted.policy))) > 1:
        raise SetupError("FV-RUN-005", "give one of --bundle, --address and --policy, not several.")
    if not wanted.render and not wanted.policy:
        raise SetupError("FV-RUN-005", "--no-render shows no images; only --policy expert can do without.")
    if wanted.workers < 1:
        raise SetupError("FV-RUN-005", f"--workers is {wanted.workers}; wanted 1 or more.")


@contextmanager
def _policy_source(wanted: Evaluation) -> Iterator[PolicySource]:
    if wanted.policy:
        yield expert_source()
    elif wanted.address:
        yield server_source(wanted.address, wanted.label)
    else:
        with serve_bundle(wanted.bundle or DEFAULT_BUNDLE, wanted.out) as address:
            yield server_source(address, wanted.label)
