"""`finevla score`: hand-filled sheets of real trials become a journal and a summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.cli.options import parse
from finevla_runtime.cli.report import positional
from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.evidence.run import read_run
from finevla_runtime.evidence.summary import save_summary, summarise
from finevla_runtime.paths import RUBRICS
from finevla_runtime.session.hand_scoring import enter_sheets, plan_of_sheets
from finevla_runtime.session.journal import JOURNAL_FILE
from finevla_runtime.session.manifest import MANIFEST_FILE, Manifest, load_manifest, save_manifest
from finevla_runtime.session.sheet_template import csv_template, yaml_template
from finevla_runtime.session.sheets import FilledSheet, read_sheets


@dataclass(frozen=True)
class ScoreOptions:
    """Score hand-filled sheets of real trials: `finevla score SHEET --out RUN_DIR`.

    The sheet (CSV or YAML) says what was seen; compliance, score and success follow from the rubric. The run folder
    then works with `finevla report` and `finevla compare` like a simulated run. Scoring the sheet again appends only
    what changed. `--template` writes an empty sheet for a manifest instead.
    """

    sheet: Path
    """Sheet to read, .csv, .yaml or .yml (with --template: to write)."""
    out: Path | None = None
    """Run folder for manifest.json, journal.jsonl and summary.json; beside the sheet when left out."""
    manifest: Path | None = None
    """Plan of the session; without it the trials of the sheet are the plan, and may not grow later."""
    rubric: Path = RUBRICS / "tabletop.yaml"
    """Rubric with the questions."""
    embodiment: str = "cobot_magic"
    """Body of the trials, for the manifest that is made of a sheet."""
    template: bool = False
    """Write an empty sheet for the trials of --manifest."""


def score(argv: Sequence[str]) -> int:
    """Score hand-filled CSV or YAML sheets of real trials with the rubric."""
    options = parse(ScoreOptions, positional(argv, "sheet"), prog="finevla score")
    rubric = load_rubric(options.rubric)
    if options.template:
        return _template(options, rubric)
    filled = read_sheets(options.sheet, rubric)
    folder = options.out or options.sheet.with_suffix("")
    plan = _plan(options, rubric, filled, folder / MANIFEST_FILE)
    save_manifest(plan, folder / MANIFEST_FILE)
    entered = enter_sheets(filled, plan, rubric, folder / JOURNAL_FILE)
    run = read_run(folder, rubric)
    save_summary(summarise(run), folder / "summary.json")
    coverage = run.coverage()
    sys.stdout.write(
        f"{entered.added} trials added, {entered.corrected} corrected, {entered.unchanged} unchanged, {entered.void} "
        f"void; {coverage.scored} of {coverage.planned} planned trials are scored.\n{folder / 'summary.json'}\n"
        f"Next: finevla report {folder}\n"
    )
    return 0


def _plan(options: ScoreOptions, rubric: Rubric, filled: Sequence[FilledSheet], existing: Path) -> Manifest:
    """Return the plan: the one named, the one the folder already has, or the sheet itself."""
    if options.manifest is not None:
        return load_manifest(options.manifest)
    if existing.is_file():
        return load_manifest(existing)
    return plan_of_sheets(filled, rubric, options.sheet.stem, wall_clock_utc(), options.embodiment)


def _template(options: ScoreOptions, rubric: Rubric) -> int:
    """Write an empty sheet; an existing file is never overwritten."""
    from finevla_runtime.contracts.errors import SetupError

    if options.manifest is None:
        raise SetupError("FV-SCO-013", "a template needs the planned trials; pass --manifest.")
    trials = load_manifest(options.manifest).trials
    make = csv_template if options.sheet.suffix.lower() == ".csv" else yaml_template
    try:
        with open(options.sheet, "x", encoding="utf-8") as file:
            file.write(make(trials, rubric))
    except FileExistsError:
        raise SetupError("FV-SCO-013", f"{options.sheet} exists; choose another name for the template.") from None
    except OSError as error:
        raise SetupError("FV-SCO-013", f"cannot write {options.sheet}: {error.strerror}.") from error
    sys.stdout.write(f"{options.sheet}: {len(trials)} trials to fill in\n")
    return 0
