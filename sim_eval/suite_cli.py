"""Verbs of the embedded suite: `finevla sim demos | experts | judges | look`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finevla_runtime.cli.options import dispatch, parse
from sim_eval.text import names, say, text_table


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
        say(json.dumps({"digest": result.dataset.digest, "frames": result.dataset.frames, "variants": rows}))
        return 0
    table = [(t.family, t.variant, str(t.attempts), str(t.kept), f"{t.kept / t.attempts:.1%}") for t in result.tallies]
    say(text_table(("family", "variant", "runs", "kept", "share"), table))
    summary = result.dataset
    say(f"\n{summary.episodes} episodes, {summary.frames} frames, {summary.tasks} raw texts in {summary.root}")
    say(f"dataset hash {summary.digest}")
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
    workers: int = 2
    """Worker processes."""
    json: bool = False
    """Print one JSON document instead of a table."""


def _experts(argv: Sequence[str]) -> int:
    """Print how often the scripted experts succeed, per family and variant."""
    options = parse(ExpertsOptions, argv, prog="finevla sim experts")
    from sim_eval.tables import expert_rows

    noise = None if options.noise else 0.0
    rows = expert_rows(options.seeds, options.first_seed, noise, names(options.families), options.workers)
    if options.json:
        say(json.dumps([asdict(row) for row in rows]))
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
    say(text_table(("family", "variant", "successes", "steps", "CPU-s", "failed seeds"), table))
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
    workers: int = 2
    """Worker processes."""
    json: bool = False
    """Print one JSON document instead of a table."""


def _judges(argv: Sequence[str]) -> int:
    """Print how often the automatic judge agrees with scripted right and wrong behaviour."""
    options = parse(JudgesOptions, argv, prog="finevla sim judges")
    from sim_eval.tables import agreement_rows

    rows = agreement_rows(options.seeds, options.first_seed, names(options.families), options.workers)
    if options.json:
        say(json.dumps([asdict(row) for row in rows]))
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
    say(text_table(("family", "told", "did", "agreed", "success", "score", "wrongly judged seeds"), table))
    agreed, trials = sum(row.agreed for row in rows), sum(row.trials for row in rows)
    say(f"\nthe judge agrees with the scripted truth on {agreed} of {trials} judged trials ({agreed / trials:.2%})")
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
    say(str(options.out))
    return 0


def sim(argv: Sequence[str]) -> int:
    """Run the embedded tabletop suite: demonstrations, expert table, pictures."""
    return dispatch("finevla sim", {"demos": _demos, "experts": _experts, "judges": _judges, "look": _look}, argv)


def _positional_family(argv: Sequence[str]) -> Sequence[str]:
    """Accept `look colour` beside `look --family colour`."""
    return ["--family", *argv] if argv and not argv[0].startswith("-") else argv
