"""report.html and report.md of the mixing experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.evidence.intervals import Interval
from finevla_runtime.paths import RUBRICS
from finevla_runtime.report import page as core_page
from finevla_runtime.report.charts import Mark, Series, curve_chart, series_colour
from finevla_runtime.report.wording import KIND_NAMES
from finevla_runtime.session.manifest import write_durably
from finevla_runtime.session.provenance import collect_provenance
from training.reproduce.figures import FINE, KINDS, FrameworkFigures, read_figures
from training.reproduce.plan import RATIOS, Experiment
from training.reproduce.tables import Table, all_tables, training_table


@dataclass(frozen=True, slots=True)
class Legend:
    """One line of a chart's legend."""

    name: str
    colour: str


@dataclass(frozen=True, slots=True)
class MixingView:
    """What the page says.

    Attributes:
        experiment: plan and budgets.
        findings: one sentence per framework and kind of instruction.
        curve: chart of the success rate by ratio.
        control: chart of the mean steering index by ratio.
        legend, control_legend: their legends.
        tables: all tables.
        facts: provenance.
        complete: whether every planned policy is evaluated.
    """

    experiment: Experiment
    findings: tuple[tuple[str, str], ...]
    curve: str
    control: str
    legend: tuple[Legend, ...]
    control_legend: tuple[Legend, ...]
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, str], ...]
    complete: bool


def write_mixing_report(experiment: Experiment) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.md`` into the experiment's folder and return their paths.

    Unfinished experiments are reported as such, with dashes.
    """
    view = make_view(experiment, read_figures(experiment, load_rubric(RUBRICS / "tabletop.yaml")))
    page, text = experiment.out / "report.html", experiment.out / "report.md"
    write_durably(page, render(view).encode("utf-8"))
    write_durably(text, markdown(view).encode("utf-8"))
    return page, text


def make_view(experiment: Experiment, frameworks: Sequence[FrameworkFigures]) -> MixingView:
    """Work out everything that the page says."""
    ticks = [ratio.name for ratio in RATIOS]
    curves = [(one, kind, _curve(one, kind)) for one in frameworks for kind in KINDS]
    steer = [(one, _control(one)) for one in frameworks]
    setting = experiment.setting
    facts = {
        "setting": f"{setting.name}: {setting.steps} steps of {setting.batch} samples, seed {setting.seed}",
        "evaluation": f"{setting.trials} scenes per variant and kind of instruction, the same for every policy",
        "date": wall_clock_utc()[:10],
        **collect_provenance(f"finevla reproduce tabletop --setting {setting.name}"),
    }
    return MixingView(
        experiment=experiment,
        findings=tuple(
            (f"{one.framework.upper()}, {KIND_NAMES[kind]} instructions", one.finding(kind))
            for one in frameworks
            for kind in KINDS
        ),
        curve=curve_chart(
            ticks,
            [Series(_name(one, KIND_NAMES[kind]), marks) for one, kind, marks in curves],
            (0.0, 100.0),
            "success rate, %",
            "Success rate by FG:Raw ratio with 95 % intervals",
        ),
        control=curve_chart(
            ticks,
            [Series(_name(one, "J"), marks) for one, marks in steer],
            (-0.2, 1.0),
            "mean steering index J",
            "Mean steering index by FG:Raw ratio",
        ),
        legend=tuple(
            Legend(_name(one, f"{KIND_NAMES[kind]} text"), series_colour(i)) for i, (one, kind, _) in enumerate(curves)
        ),
        control_legend=tuple(
            Legend(_name(one, "fine-grained text"), series_colour(i)) for i, (one, _) in enumerate(steer)
        ),
        tables=(*all_tables(frameworks), training_table(experiment)),
        facts=tuple(facts.items()),
        complete=not any(one.missing for one in frameworks),
    )


def _name(one: FrameworkFigures, what: str) -> str:
    return f"{one.framework.upper()}, {what}"


def _curve(one: FrameworkFigures, kind: InstructionKind) -> tuple[Mark, ...]:
    marks = []
    for ratio in RATIOS:
        arm = one.arms.get(ratio.name, {}).get(kind)
        if arm is None:
            marks.append(Mark(None, Interval(0.0, 100.0)))
        else:
            low, high = arm.success_interval.low, arm.success_interval.high
            marks.append(Mark(100 * arm.success, Interval(100 * low, 100 * high)))
    return tuple(marks)


def _control(one: FrameworkFigures) -> tuple[Mark, ...]:
    marks = []
    for ratio in RATIOS:
        arm = one.arms.get(ratio.name, {}).get(FINE)
        index = arm.pooled.index if arm else None
        # The mean of five indices has no interval of its own; the table gives each factor's.
        marks.append(Mark(index, Interval(index or 0.0, index or 0.0)))
    return tuple(marks)


def render(view: MixingView) -> str:
    """Return the page; every text is escaped, the page loads nothing and runs nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent, Path(core_page.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("mixing.html.j2").render(view=view)


def markdown(view: MixingView) -> str:
    """Return the report as Markdown, for ``docs/results``."""
    setting = view.experiment.setting
    head = (
        "# The mixing experiment on the tabletop suite\n\n"
        f"`finevla reproduce tabletop --setting {setting.name} --frameworks {' '.join(view.experiment.frameworks)}`\n\n"
    )
    warning = "" if view.complete else "**Incomplete:** some policies are not evaluated yet.\n\n"
    findings = "".join(f"- {name}: {text}\n" for name, text in view.findings)
    facts = "".join(f"- {name}: {value}\n" for name, value in view.facts)
    tables = "\n".join(table.markdown() for table in view.tables)
    return f"{head}{warning}## Findings\n\n{findings}\n## Tables\n\n{tables}\n## Provenance\n\n{facts}"
