"""`finevla report`: the HTML report and summary.json of a run folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.paths import RUBRICS


@dataclass(frozen=True)
class ReportOptions:
    """Write report.html and summary.json of a run folder: `finevla report RUN_DIR`.

    The report is one file that opens anywhere: no network, no script.
    """

    run_dir: Path
    """Folder with manifest.json and journal.jsonl."""
    rubric: Path = RUBRICS / "tabletop.yaml"
    """Rubric that judged the trials."""
    json: bool = False
    """Print summary.json as well."""


def report(argv: Sequence[str]) -> int:
    """Write the HTML report and summary.json of a run folder."""
    options = parse(ReportOptions, positional(argv, "run-dir"), prog="finevla report")
    from finevla_runtime.report.page import write_report

    page, summary = write_report(options.run_dir, load_rubric(options.rubric))
    if options.json:
        sys.stdout.write(json.dumps(json.loads(summary.read_text(encoding="utf-8")), indent=2) + "\n")
    else:
        sys.stdout.write(f"{page}\n{summary}\n")
    return 0


def positional(argv: Sequence[str], *names: str) -> list[str]:
    """Turn leading words into options, so that `report RUN` means `report --run-dir RUN`."""
    words = list(argv)
    found: list[str] = []
    for name in names:
        if not words or words[0].startswith("-"):
            break
        found += [f"--{name}", words.pop(0)]
    return found + words
