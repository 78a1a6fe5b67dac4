"""Verbs of the embedded simulation: `finevla sim ...` and `finevla eval ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finevla_runtime.cli.options import dispatch, parse

if TYPE_CHECKING:
    from finevla_runtime.session.manifest import Manifest
    from sim_eval.runner import RunResult


@dataclass(frozen=True)
class DemosOptions:
    """Write demonstrations of the scripted experts as a LeRobot v2.1 dataset.

    Every trained variant of a family is shown on the same scenes. Failed runs are left out and counted. Run the same
    command again to go on after an interruption; the dataset depends on the options alone, not on --workers.
    """

    out: Path
    """Folder to write; empty, or begun by the same command."""
    scenes: int = 220
    """Scenes per family with paired variants (each gives one episode per variant)."""
    scenes_unpaired: int = 0
    """Scenes per family with a single variant; 0 means twice --scenes."""
    seed: int = 0
    """First scene seed."""
    workers: int = 2
    """Worker processes; as many as there are cores is best."""
    frames: str = "png"
    """png (inside the parquet files) or video (one H.264 file per camera and episode)."""
    families: str = ""
    """Families to show, separated by commas; all when empty."""
    json: bool = False
    """Print one JSON document instead of a table."""


def _demos(argv: Sequence[str]) -> int:
    """Write demonstrations of the tabletop suite as a LeRobot v2.1 dataset."""
    options = parse(DemosOptions, argv, prog="finevla sim demos")
    from sim_eval.demo_maker import demo_format, demo_plan, tabletop_maker
    from sim_eval.demos import make_demonstrations, use_one_thread_per_worker
    from sim_eval.progress import ProgressLine
    from sim_eval.rendering import require_rendering

    wanted = demo_format(options.frames)
    unpaired = options.scenes_unpaired or 2 * options.scenes
    attempts = demo_plan(names(options.families), options.scenes, options.seed, unpaired)
    require_rendering()
    use_one_thread_per_worker()
    with ProgressLine("demonstrations") as line:
        result = make_demonstrations(
            attempts,
            options.out,
            wanted,
            tabletop_maker,
            options.workers,
            lambda done, total, rejected: line.show(done, total, f"{rejected} rejected"),
        )
    if options.json:
        rows = [asdict(tally) for tally in result.tallies]
        _say(json.dumps({"digest": result.dataset.digest, "frames": result.dataset.frames, "variants": rows}))
        return 0
    table = [(t.family, t.variant, str(t.attempts), str(t.kept), f"{t.kept / t.attempts:.1%}") for t in result.tallies]
    _say(text_table(("family", "variant", "runs", "kept", "share"), table))
    summary = result.dataset
    _say(f"\n{summary.episodes} episodes, {summary.frames} frames, {summary.tasks} raw texts in {summary.root}")
    _say(f"dataset hash {summary.digest}")
    return 0


@dataclass(frozen=True)
class ExpertsOptions:
    """Run the scripted experts without rendering and print how often they succeed."""

    seeds: int = 20
    """Scene seeds per variant."""
    first_seed: int = 0
    """First scene seed."""
    noise: bool = False
    """Execute the joint noise of the demonstrations."""
    families: str = ""
    """Families to run, separated by commas; all when empty."""
    json: bool = False
    """Print one JSON document instead of a table."""


def _experts(argv: Sequence[str]) -> int:
    """Print how often the scripted experts succeed, per family and variant."""
    options = parse(ExpertsOptions, argv, prog="finevla sim experts")
    from sim_eval.tabletop.expert import expert_table

    noise = None if options.noise else 0.0
    rows = expert_table(options.seeds, options.first_seed, noise, names(options.families))
    if options.json:
        _say(json.dumps([asdict(row) for row in rows]))
        return 0
    table = [
        (
            row.family,
            row.variant,
            f"{row.successes}/{row.trials}",
            f"{row.mean_steps:.0f}",
            f"{row.cpu_seconds:.2f}",
            " ".join(str(seed) for seed in row.failed[:8]),
        )
        for row in rows
    ]
    _say(text_table(("family", "variant", "successes", "steps", "CPU-s", "failed seeds"), table))
    return 0


@dataclass(frozen=True)
class JudgesOptions:
    """Judge right and deliberately wrong scripted behaviour and print how often the judge agrees with the truth."""

    seeds: int = 20
    """Scene seeds per behaviour; each behaviour is judged under every instruction of its family."""
    first_seed: int = 1_000_000
    """First scene seed."""
    families: str = ""
    """Families to run, separated by commas; all when empty."""
    json: bool = False
    """Print one JSON document instead of a table."""


def _judges(argv: Sequence[str]) -> int:
    """Print how often the automatic judge agrees with scripted right and wrong behaviour."""
    options = parse(JudgesOptions, argv, prog="finevla sim judges")
    from sim_eval.tabletop.judge.agreement import agreement_report

    rows = agreement_report(options.seeds, options.first_seed, names(options.families))
    if options.json:
        _say(json.dumps([asdict(row) for row in rows]))
        return 0
    table = [
        (
            row.family,
            row.told,
            row.behaviour,
            f"{row.agreed}/{row.trials}",
            f"{row.successes}/{row.trials}",
            f"{row.mean_score:.0f}",
            " ".join(str(seed) for seed in row.wrong_seeds[:8]),
        )
        for row in rows
    ]
    _say(text_table(("family", "told", "did", "agreed", "success", "score", "wrongly judged seeds"), table))
    agreed, trials = sum(row.agreed for row in rows), sum(row.trials for row in rows)
    _say(f"\nthe judge agrees with the scripted truth on {agreed} of {trials} judged trials ({agreed / trials:.2%})")
    return 0


@dataclass(frozen=True)
class LookOptions:
    """Write a PNG with the three views of a scene at its start."""

    family: str
    """Family to look at."""
    seed: int = 0
    """Scene seed."""
    out: Path = field(default_factory=lambda: Path("look.png"))
    """PNG to write."""


def _look(argv: Sequence[str]) -> int:
    """Write a PNG with the three views of a scene: --family colour --seed 3."""
    options = parse(LookOptions, [*_positional_family(argv)], prog="finevla sim look")
    from sim_eval.look import write_views
    from sim_eval.rendering import require_rendering

    require_rendering()
    write_views(options.family, options.seed, options.out)
    _say(str(options.out))
    return 0


def sim(argv: Sequence[str]) -> int:
    """Run the embedded tabletop suite: demonstrations, expert table, pictures."""
    return dispatch("finevla sim", {"demos": _demos, "experts": _experts, "judges": _judges, "look": _look}, argv)


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
    _say(text_table(("family", "instruction", "variant", "successes", "complied", "violated", "score"), rows))
    voids = ", ".join(f"{count} {reason}" for reason, count in result.voids.items())
    _say(f"\n{result.scored}/{result.planned} trials scored in {out}{f'; void: {voids}' if voids else ''}")
    code = 0
    if result.missing:
        _say(f"{len(result.missing)} trials are missing; repeat the command to run them.")
        code = 1
    if with_report and result.scored:
        page, summary = write_report(out)
        _say(f"{page}\n{summary}")
    return code


def write_report(out: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``summary.json`` into a run folder and return their paths."""
    from finevla_runtime.report.page import write_report as write
    from sim_eval.plan import tabletop_rubric

    return write(out, tabletop_rubric())


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate a policy closed loop: tabletop."""
    return dispatch("finevla eval", {"tabletop": _eval_tabletop}, argv)


def names(listed: str) -> tuple[str, ...]:
    """Split a comma-separated option; blanks and empty parts are dropped."""
    return tuple(part.strip() for part in listed.split(",") if part.strip())


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns by blanks."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _positional_family(argv: Sequence[str]) -> Sequence[str]:
    """Accept `look colour` beside `look --family colour`."""
    return ["--family", *argv] if argv and not argv[0].startswith("-") else argv


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
