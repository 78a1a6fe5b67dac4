"""The verb `finevla eval` and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finevla_runtime.cli.options import dispatch, parse
from sim_eval.text import names, say, text_table

if TYPE_CHECKING:
    from finevla_runtime.session.manifest import Manifest
    from sim_eval.runner import RunResult


@dataclass(frozen=True)
class TabletopOptions:
    """Run the tabletop suite closed loop with a policy and write a report.

    Give a bundle (served for the time of the run), the address of a running server, or --policy expert. Run the same
    command again to go on after an interruption: only what is missing is run.
    """

    out: Path
    """Run folder: manifest, journal, film strips, report."""
    bundle: Path | None = None
    """Policy bundle to serve; the shipped one when nothing else is given."""
    address: str = ""
    """HOST:PORT of a running policy server."""
    policy: str = ""
    """`expert` runs the scripted expert: what a perfect policy would score."""
    suite: str = "tabletop"
    """Suite in hw_configs/suites."""
    workers: int = 2
    """Worker processes; as many as there are cores is best."""
    trials: int = 0
    """Trials per variant and instruction kind; 0 takes the suite's number."""
    kinds: str = ""
    """Instruction kinds, separated by commas (raw,fine_grained); all when empty."""
    families: str = ""
    """Families, separated by commas; all when empty."""
    label: str = ""
    """Name of the policy in the report; its own when empty."""
    render: bool = True
    """Without rendering there are no images and no film strips; only --policy expert can do without."""
    report: bool = True
    """Write report.html and summary.json at the end."""


def _eval_tabletop(argv: Sequence[str]) -> int:
    """Run the tabletop suite closed loop with a policy and write a report."""
    options = parse(TabletopOptions, argv, prog="finevla eval tabletop")
    from sim_eval.evaluation import Evaluation, evaluate_suite
    from sim_eval.plan import Selection

    wanted = Evaluation(
        out=options.out,
        suite=options.suite,
        selection=Selection(names(options.kinds), names(options.families), options.trials),
        workers=options.workers,
        bundle=options.bundle,
        address=options.address,
        policy=options.policy,
        label=options.label,
        render=options.render,
        command=" ".join(["finevla eval tabletop", *argv]),
    )
    manifest, result = evaluate_suite(wanted)
    return show_result(options.out, manifest, result, options.report)


def show_result(out: Path, manifest: Manifest, result: RunResult, with_report: bool) -> int:
    """Print the counts of a run and write its report; 1 when trials are missing."""
    from sim_eval.evaluation import count_cells

    rows = [
        (
            cell.family,
            cell.kind,
            cell.variant,
            f"{cell.successes}/{cell.trials}",
            str(cell.complied),
            str(cell.violated),
            f"{cell.score_mean:.1f}",
        )
        for cell in count_cells(out, manifest)
    ]
    say(text_table(("family", "instruction", "variant", "successes", "complied", "violated", "score"), rows))
    voids = ", ".join(f"{count} {reason}" for reason, count in result.voids.items())
    say(f"\n{result.scored}/{result.planned} trials scored in {out}{f'; void: {voids}' if voids else ''}")
    code = 0
    if result.missing:
        say(f"{len(result.missing)} trials are missing; repeat the command to run them.")
        code = 1
    if with_report and result.scored:
        page, summary = write_report(out)
        say(f"{page}\n{summary}")
    return code


def write_report(out: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``summary.json`` into a run folder and return their paths."""
    from finevla_runtime.report.page import write_report as write
    from sim_eval.plan import tabletop_rubric

    return write(out, tabletop_rubric())


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate a policy closed loop: tabletop."""
    return dispatch("finevla eval", {"tabletop": _eval_tabletop}, argv)
