"""One frozen plan of tabletop trials, run headless and through the whole robot stack, by the same judge.

`python -m benchmarks.robot_in_the_loop [--trials 3] [--out docs/results]`. Headless is `finevla eval`: the policy is
asked while the world stands still and its rows are the drives' targets. The robot stack runs in real time: images and
joints over ROS 2 topics, the policy client, gRPC, the commander with its guard at 200 Hz, commands over topics. Both
runs go on where they were cut off. Needs `scripts/ros.sh` once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.contracts.trial import Compliance, TrialRecord
from finevla_runtime.evidence.intervals import wilson
from finevla_runtime.evidence.outcomes import done_as_told
from finevla_runtime.paths import DEFAULT_BUNDLE
from finevla_runtime.session.journal import JOURNAL_FILE, counting_records, read_journal
from finevla_runtime.session.manifest import MANIFEST_FILE, load_manifest
from sim_eval.policy_source import serve_bundle

ROOT = Path(__file__).resolve().parents[2]
SUITE = "demo"
HEADLESS, GRAPH = "headless", "robot stack"


@dataclass(frozen=True)
class LoopOptions:
    """Run the same trials headless and through the robot stack."""

    bundle: Path = DEFAULT_BUNDLE
    """Policy bundle."""
    trials: int = 3
    """Scenes per variant and kind of instruction."""
    kinds: str = "fine_grained"
    """Kinds of instruction, separated by commas."""
    families: str = ""
    """Task families, separated by commas; all of the suite when empty."""
    strategy: str = "asynchronous"
    """How the robot stack executes chunks."""
    run: Path = Path("out/robot_in_the_loop")
    """Folder of both runs."""
    out: Path = Path("out/bench/robot_in_the_loop")
    """Folder of the table."""


def main(argv: Sequence[str]) -> int:
    """Run both, write the table, print it."""
    options = parse(LoopOptions, argv, prog="python -m benchmarks.robot_in_the_loop")
    headless, graph = options.run / "headless", options.run / f"graph-{options.strategy}"
    with serve_bundle(options.bundle, options.run) as address:
        command = ["finevla", "eval", "tabletop", "--suite", SUITE, "--address", address, "--out", str(headless)]
        command += ["--kinds", options.kinds, "--trials", str(options.trials), "--workers", "1"]
        command += ["--families", options.families] if options.families else []
        subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True)
        graph.mkdir(parents=True, exist_ok=True)
        if not (graph / MANIFEST_FILE).exists():
            shutil.copy(headless / MANIFEST_FILE, graph / MANIFEST_FILE)
        side = ["scripts/ros_run.sh", "python", "-m", "benchmarks.robot_in_the_loop.graph_side", "--run", str(graph)]
        side += ["--address", address, "--strategy", options.strategy]
        subprocess.run(side, check=True, cwd=ROOT)
    text = table(records(headless), records(graph), options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "robot_in_the_loop.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def records(run: Path) -> dict[str, TrialRecord]:
    """Return the records that count, by trial."""
    manifest = load_manifest(run / MANIFEST_FILE)
    return counting_records(manifest, read_journal(run / JOURNAL_FILE, manifest.hash))


def table(headless: dict[str, TrialRecord], graph: dict[str, TrialRecord], options: LoopOptions) -> str:
    """Return the markdown page: done as told, per family and kind, and in how many trials the two differ."""
    shared = [name for name in headless if name in graph]
    cells: dict[tuple[str, str], list[str]] = {}
    for name in shared:
        trial = headless[name].trial
        cells.setdefault((trial.family, trial.instruction.kind.value), []).append(name)
    lines = [
        "# The same trials headless and through the robot stack",
        "",
        f"`python -m benchmarks.robot_in_the_loop --trials {options.trials} --kinds {options.kinds} --strategy "
        f"{options.strategy}`, {wall_clock_utc()[:10]}, {os.cpu_count()} cores. One judge, one rubric, one plan of "
        f"{len(shared)} trials.",
        "",
        "| family | instruction | trials | done as told, headless | done as told, robot stack | violated, each |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(*key, [headless[n] for n in names], [graph[n] for n in names]) for key, names in cells.items()]
    lines += ["", _difference(shared, headless, graph), ""]
    return "\n".join(lines)


def _row(family: str, kind: str, headless: list[TrialRecord], graph: list[TrialRecord]) -> str:
    violated = "/".join(str(sum(_violated(record) for record in side)) for side in (headless, graph))
    return f"| {family} | {kind} | {len(headless)} | {_rate(headless)} | {_rate(graph)} | {violated} |"


def _difference(shared: list[str], headless: dict[str, TrialRecord], graph: dict[str, TrialRecord]) -> str:
    pairs = [(_done(headless[name]), _done(graph[name])) for name in shared]
    only_headless, only_graph = pairs.count((True, False)), pairs.count((False, True))
    total = [sum(pair[side] for pair in pairs) for side in (0, 1)]
    rates = [wilson(count, len(pairs)) for count in total]
    shown = ", ".join(
        f"{name} {count}/{len(pairs)} ({100 * rate.low:.0f}–{100 * rate.high:.0f} %)"
        for name, count, rate in zip((HEADLESS, GRAPH), total, rates, strict=True)
    )
    return (
        f"Done as told: {shown}; ratio {total[1] / max(1, total[0]):.2f}. {only_headless} trials succeeded headless "
        f"only, {only_graph} through the robot stack only."
    )


def _rate(side: list[TrialRecord]) -> str:
    return f"{sum(map(_done, side))}/{len(side)}"


def _done(record: TrialRecord) -> bool:
    return done_as_told(record.outcome, record.trial.instruction.kind)


def _violated(record: TrialRecord) -> bool:
    return record.outcome.compliance is Compliance.VIOLATED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
