"""Writes report.html and summary.json of a run folder."""

from __future__ import annotations

from pathlib import Path

from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.run import Run, read_run
from finevla_runtime.evidence.summary import save_summary, summarise
from finevla_runtime.report import wording
from finevla_runtime.report.pictures import Album, Film, films_of
from finevla_runtime.report.view import View, make_view
from finevla_runtime.session.manifest import write_durably
from finevla_runtime.session.provenance import load_provenance

REPORT = "report.html"
SUMMARY = "summary.json"


def write_report(run_dir: Path, rubric: Rubric) -> tuple[Path, Path]:
    """Write the report and the summary of a run folder and return their paths.

    Raises:
        SetupError: FV-EVD-* when the folder holds no run that this rubric judged, FV-MAN-* and FV-JRN-* for its files.
    """
    run = read_run(run_dir, rubric)
    page = render(make_view(run, _films(run, run_dir), load_provenance(run_dir)))
    write_durably(run_dir / REPORT, page.encode("utf-8"))
    save_summary(summarise(run), run_dir / SUMMARY)
    return run_dir / REPORT, run_dir / SUMMARY


def _films(run: Run, run_dir: Path) -> tuple[Film, ...]:
    """Collect the film strips of all policies within one budget."""
    album = Album(run_dir)
    return tuple(film for policy in run.policies for film in films_of(run, album, policy))


def render(view: View) -> str:
    """Return the page; every text of the run is escaped, the page may load nothing and run nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=wording.percent,
        percent_range=wording.percent_range,
        points=wording.points,
        points_range=wording.points_range,
        index=wording.index,
        index_range=wording.index_range,
        p_value=wording.p_value,
        plain=wording.plain,
        observed=_observed,
    )
    return environment.get_template("report.html.j2").render(view=view, kind_names=wording.KIND_NAMES)


def _observed(record: TrialRecord) -> str:
    """Return what was seen, in words."""
    answers = [wording.plain(level) for level in record.sheet.observed.values()]
    return ", ".join(answers) or wording.DASH
