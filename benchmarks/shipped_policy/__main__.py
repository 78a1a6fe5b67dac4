"""The shipped bundle against its bar: held-out scenes and paraphrases, closed loop, 50 trials per variant and kind.

`python -m benchmarks.shipped_policy [--run out/shipped] [--out docs/results]` runs (or resumes) the full suite through
the command line, writes shipped_policy.md, and exits 1 when a bar is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.bundle import load_bundle
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.evidence.intervals import wilson
from finevla_runtime.paths import DEFAULT_BUNDLE

FACTORS = ("colour", "pose", "approach", "rotate", "arm")
FINE, RAW = "fine_grained", "raw"


@dataclass(frozen=True)
class BarOptions:
    """Evaluate a bundle on the full tabletop suite and hold it against the bar of the shipped policy."""

    bundle: Path = DEFAULT_BUNDLE
    """Policy bundle."""
    run: Path = Path("out/shipped")
    """Run folder; an interrupted run in it is resumed."""
    out: Path = Path("docs/results")
    """Folder of the table."""
    workers: int = 2
    """Worker processes."""


@dataclass(frozen=True)
class Cell:
    """Counts of one variant under one kind of instruction, as in summary.json."""

    trials: int
    successes: int
    engaged: int
    compliant: int
    violated: int
    score_mean: float

    @property
    def rate(self) -> str:
        """Return the success rate in percent with its 95 % Wilson interval."""
        interval = wilson(self.successes, self.trials)
        return f"{100 * self.successes / self.trials:.0f} % ({100 * interval.low:.0f}–{100 * interval.high:.0f})"


@dataclass(frozen=True)
class Bar:
    """One demand and what was measured."""

    demand: str
    measured: float
    wanted: float

    @property
    def met(self) -> bool:
        """Return whether the figure reaches the bar."""
        return self.measured >= self.wanted


@dataclass(frozen=True)
class Figures:
    """What summary.json holds for one policy: cells by kind, family and variant; J by kind and factor."""

    cells: dict[str, dict[str, dict[str, Cell]]]
    steering: dict[str, dict[str, tuple[float, float]]]

    def bars(self) -> tuple[Bar, ...]:
        """Return every demand in reading order."""
        fine, raw = self.cells[FINE], self.cells[RAW]
        bars = []
        for family in FACTORS:
            success = _share(fine[family])
            bars.append(Bar(f"{family}: success under fine-grained text", success, 0.90))
            bars.append(
                Bar(f"{family}: steering index J under fine-grained text", self.steering[FINE][family][0], 0.90)
            )
            bars.append(Bar(f"{family}: success under raw text", _share(raw[family]), 0.85))
        bars.append(Bar("stack_block: mean score", _score(fine["stack_block"]), 80.0))
        bars.append(Bar("clean_table: mean score", _score(fine["clean_table"]), 60.0))
        cells = [c for kind in self.cells.values() for f in kind.values() for c in f.values()]
        bars.append(Bar("trials of every variant and kind", min(c.trials for c in cells), 50))
        return tuple(bars)


def _share(cells: dict[str, Cell]) -> float:
    return sum(c.successes for c in cells.values()) / sum(c.trials for c in cells.values())


def _score(cells: dict[str, Cell]) -> float:
    return sum(c.score_mean * c.trials for c in cells.values()) / sum(c.trials for c in cells.values())


def evaluate(options: BarOptions) -> Path:
    """Run `finevla eval tabletop` and return summary.json."""
    command = [sys.executable, "-m", "finevla_runtime.cli.main", "eval", "tabletop", "--bundle", str(options.bundle)]
    subprocess.run([*command, "--out", str(options.run), "--workers", str(options.workers)], check=True)
    return options.run / "summary.json"


def read_figures(summary: Path) -> Figures:
    """Read the only policy of a summary."""
    data = json.loads(summary.read_text(encoding="utf-8"))
    ((policy, kinds),) = data["policies"].items()
    cells = {
        kind: {family: {v: Cell(**counts) for v, counts in variants.items()} for family, variants in families.items()}
        for kind, families in kinds.items()
    }
    steering = {
        kind: {family: (row["j"], row["p"]) for family, row in rows.items()}
        for kind, rows in data["steering"][policy].items()
    }
    return Figures(cells, steering)


def page(figures: Figures, options: BarOptions) -> str:
    """Return the result page."""
    bundle = load_bundle(options.bundle)
    rows = []
    for kind in (FINE, RAW):
        for family, variants in figures.cells[kind].items():
            for variant, c in variants.items():
                rows.append(
                    f"| {kind} | {family} | {variant} | {c.trials} | {c.rate} | {c.compliant} | {c.violated} | "
                    f"{c.trials - c.engaged if family in FACTORS else '–'} | {c.score_mean:.1f} |"
                )
    index = "\n".join(
        f"| {family} | {figures.steering[FINE][family][0]:.2f} (p {figures.steering[FINE][family][1]:.1g}) | "
        f"{figures.steering[RAW][family][0]:.2f} (p {figures.steering[RAW][family][1]:.2g}) |"
        for family in FACTORS
    )
    bars = "\n".join(
        f"| {bar.demand} | {bar.wanted:g} | {bar.measured:.3g} | {'met' if bar.met else '**MISSED**'} |"
        for bar in figures.bars()
    )
    table = "\n".join(rows)
    return f"""# The shipped policy on held-out scenes and paraphrases

`python -m benchmarks.shipped_policy`, {wall_clock_utc()[:10]}, {os.cpu_count()} cores. Bundle `{bundle.spec.name}`
{bundle.spec.version}, digest `{bundle.digest[:16]}`, trained with FG:Raw share {bundle.spec.fg_share:.3f} of
fine-grained samples. Closed loop over gRPC, {bundle.spec.execution_rows} of {bundle.spec.chunk_rows} rows executed per
query. Success in brackets with its 95 % Wilson interval. Under raw text success is the goal alone, because the text
names no variant; compliance is counted against the variant of the paired trial and is about half by construction.

| bar | wanted at least | measured | |
|---|---|---|---|
{bars}

| factor | J under fine-grained text (exact p) | J under raw text |
|---|---|---|
{index}

| text | family | variant | trials | success | complied | violated | not engaged | mean score |
|---|---|---|---|---|---|---|---|---|
{table}

`left_to_right_bowl` is the out-of-distribution probe: left arm into the right bowl, a combination that no demonstration
shows. It is reported as it is and has no bar.
"""


def main(argv: Sequence[str]) -> int:
    """Evaluate, write the page, and say whether every bar is met."""
    options = parse(BarOptions, argv, prog="python -m benchmarks.shipped_policy")
    figures = read_figures(evaluate(options))
    text = page(figures, options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "shipped_policy.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    missed = [bar for bar in figures.bars() if not bar.met]
    sys.stdout.write(f"\n{len(missed)} of {len(figures.bars())} bars missed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
