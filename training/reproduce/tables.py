"""The figures as tables in the paper's shapes; the page and the Markdown file show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finevla_runtime.bundle import load_bundle
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.report.wording import DASH, KIND_NAMES, percent, percent_range, plain, points, points_range
from finevla_runtime.report.wording import index as write_index
from training.reproduce.figures import FINE, KINDS, RAW, FrameworkFigures, KindFigures
from training.reproduce.plan import RATIOS, Experiment


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: what it shows.
        note: how to read it.
        head: column headings.
        rows: cells as text; the best cells of a column stand in ``**``.
    """

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"| {' | '.join(self.head)} |", f"|{'---|' * len(self.head)}"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return f"### {self.title}\n\n{self.note}\n\n" + "\n".join(lines) + "\n"


def all_tables(frameworks: Sequence[FrameworkFigures]) -> tuple[Table, ...]:
    """Return every table of the report in reading order."""
    tables = [success_table(frameworks)]
    for one in frameworks:
        tables += [score_table(one), steering_table(one), raw_table(one), contrast_table(one)]
    return tuple(tables)


def success_table(frameworks: Sequence[FrameworkFigures]) -> Table:
    """Return the table in the shape of the paper's Table 4: success rate by ratio."""
    columns = [(one, kind) for one in frameworks for kind in KINDS]
    values = [[_kind(one, ratio.name, kind) for one, kind in columns] for ratio in RATIOS]
    best = [max((item.success for row in values if (item := row[i])), default=None) for i in range(len(columns))]
    rows = []
    for ratio, row in zip(RATIOS, values, strict=True):
        cells = [
            DASH
            if item is None
            else f"{_best(percent(item.success), item.success == best[i])} ({percent_range(item.success_interval)})"
            for i, item in enumerate(row)
        ]
        rows.append((ratio.name, *cells))
    head = ("FG:Raw", *(f"{one.framework.upper()}, {KIND_NAMES[kind]} text" for one, kind in columns))
    return Table(
        "Success rate (Table 4 of the paper in miniature)",
        "Plain mean over the seven in-distribution families with its 95 % interval over scenes. Under raw text "
        "success is the goal alone; under fine-grained text it must be reached as told. Best value of a column in "
        "bold.",
        head,
        tuple(rows),
    )


def score_table(one: FrameworkFigures) -> Table:
    """Return the table in the shape of the paper's Table 5: scores by ratio and family."""
    found = {ratio.name: _kind(one, ratio.name, FINE) for ratio in RATIOS}
    values = {name: _scores(item) for name, item in found.items()}
    width = len(one.titles) + 2
    known = [[row[i] for row in values.values() if row and row[i] is not None] for i in range(width)]
    best = [max((v for v in column if v is not None), default=None) for column in known]
    rows = []
    for name, row in values.items():
        item = found[name]
        if row is None or item is None:
            rows.append((name, *(DASH,) * width))
            continue
        cells = [_best(points(v), v is not None and v == best[i]) for i, v in enumerate(row)]
        cells[-2] += f" ({points_range(item.avg_id.interval)})"
        rows.append((name, *cells))
    return Table(
        f"{one.framework.upper()} under fine-grained instructions: scores (Table 5 of the paper in miniature)",
        "Mean trial score 0–100 by ordered subgoals. Avg (ID) is the plain mean of the in-distribution families with "
        "its 95 % interval over scenes, Avg (All) includes the out-of-distribution probe.",
        ("FG:Raw", *one.titles, "Avg (ID)", "Avg (All)"),
        tuple(rows),
    )


def steering_table(one: FrameworkFigures) -> Table:
    """Return compliance with each control factor under fine-grained text."""
    rows = []
    families: tuple[str, ...] = ()
    for ratio in RATIOS:
        item = _kind(one, ratio.name, FINE)
        if item is None:
            continue
        families = tuple(plain(s.family) for s in item.steering)
        cells = [f"{s.table.followed}/{s.table.pairs}, J {write_index(s.index)}" for s in item.steering]
        violated = f"{percent(item.violations.rate)} ({percent_range(item.violations.interval)})"
        rows.append((ratio.name, *cells, write_index(item.pooled.index), violated))
    return Table(
        f"{one.framework.upper()} under fine-grained instructions: does it do it the way it was told?",
        "Per control factor: pairs in which both instructions of one scene were followed, and the steering index J = "
        "P(did A | told A) − P(did A | told B); 0 is deaf, 1 perfect. Violations: trials done another way than told.",
        ("FG:Raw", *families, "mean J", "violations"),
        tuple(rows),
    )


def raw_table(one: FrameworkFigures) -> Table:
    """Return the success rate of every family under raw text, and whether the words nevertheless steer."""
    rows = []
    for ratio in RATIOS:
        item = _kind(one, ratio.name, RAW)
        if item is not None:
            cells = [f"{cell.successes}/{cell.trials}" for cell in item.cells]
            rows.append((ratio.name, *cells, percent(item.success), write_index(item.pooled.index)))
    return Table(
        f"{one.framework.upper()} under raw instructions: goals reached",
        "The goal alone counts, in whichever way. J under raw text is near 0 by construction: the text names no level.",
        ("FG:Raw", *one.titles, "mean (ID)", "mean J"),
        tuple(rows),
    )


def contrast_table(one: FrameworkFigures) -> Table:
    """Return the paired tests."""
    rows = []
    for kind in KINDS:
        for c in one.contrasts[kind]:
            rows.append(
                (
                    KIND_NAMES[kind],
                    f"{c.first} − {c.second}",
                    c.measure,
                    f"{c.difference:+.1f}",
                    f"{c.interval.low:+.1f} to {c.interval.high:+.1f}",
                    str(c.scenes),
                    f"{c.p:.2g}",
                    f"{c.p_holm:.2g}",
                )
            )
    return Table(
        f"{one.framework.upper()}: paired differences",
        "Same scenes, same instructions; two-sided sign-flip test over scenes, p adjusted after Holm within each kind "
        "of instruction. The contrasts were fixed before the runs: every ratio against Raw-only, and "
        "1:1 against FG-only.",
        ("text", "contrast", "measure", "difference", "95 % interval", "scenes", "p", "p Holm"),
        tuple(rows),
    )


def training_table(experiment: Experiment) -> Table:
    """Return how each policy was made, as its bundle tells."""
    rows = []
    for arm in experiment.arms():
        if not (experiment.bundle(arm) / "policy.json").is_file():
            continue
        bundle = load_bundle(experiment.bundle(arm))
        told = bundle.provenance
        rows.append(
            (
                arm.label,
                f"{bundle.spec.fg_share:.4f}",
                told["training_samples"],
                told["training_minutes"],
                told["parameters"],
                told["dataset_digest"][:12],
                told["git_commit"][:12],
            )
        )
    return Table(
        "Training",
        "The share of fine-grained samples as it was measured, not as it was asked for.",
        ("policy", "measured FG share", "samples", "minutes", "parameters", "dataset", "commit"),
        tuple(rows),
    )


def _kind(one: FrameworkFigures, name: str, kind: InstructionKind) -> KindFigures | None:
    return one.arms.get(name, {}).get(kind)


def _scores(item: KindFigures | None) -> list[float | None] | None:
    if item is None:
        return None
    return [*(cell.mean for cell in item.cells), item.avg_id.mean, item.avg_all.mean]


def _best(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text
