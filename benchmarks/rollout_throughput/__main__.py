"""Rollout throughput: episodes per minute against workers, cost of an episode, policy latency, peak memory.

`python -m benchmarks.rollout_throughput [--bundle PATH] [--trials N] [--workers 1,2]` writes
rollout_throughput.md into docs/results.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import SteadyClock, elapsed_s, wall_clock_utc
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.paths import DEFAULT_BUNDLE
from finevla_runtime.session.journal import JOURNAL_FILE, read_journal
from finevla_runtime.transport.client import RemotePolicy
from sim_eval.evaluation import Evaluation, evaluate_suite
from sim_eval.plan import Selection
from sim_eval.policy_source import serve_bundle
from sim_eval.tabletop.catalog import FAMILIES, instruction, sample_scene
from sim_eval.tabletop.world import TabletopWorld
from sim_eval.text import names

OUT = Path("docs/results")
BAR_CPU_S = 3.0
QUERIES = 200


@dataclass(frozen=True)
class BenchOptions:
    """Measure rollouts; quote CPU seconds, because wall time depends on what else the machine does."""

    bundle: Path = DEFAULT_BUNDLE
    """Policy bundle."""
    trials: int = 4
    """Trials per variant, all families, fine-grained instructions."""
    workers: str = "1,2"
    """Numbers of workers to compare, separated by commas."""
    out: Path = OUT
    """Folder of the table."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One run of the suite.

    Attributes:
        policy: ``expert`` or ``bundle``.
        workers: processes.
        episodes: trials run.
        wall_s: seconds from the command to the last record.
        cpu_s: CPU seconds of a worker per episode, from reset to judgement.
        all_cpu_s: CPU seconds of all child processes per episode: start, renderer, film strips, server.
        steps: mean control steps of an episode.
    """

    policy: str
    workers: int
    episodes: int
    wall_s: float
    cpu_s: float
    all_cpu_s: float
    steps: float

    @property
    def per_minute(self) -> float:
        """Return episodes per minute of wall time, start of the processes included."""
        return 60.0 * self.episodes / self.wall_s


def run(policy: str, bundle: Path, workers: int, trials: int) -> Throughput:
    """Run the suite once in a temporary folder."""
    clock = SteadyClock()
    with tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder:
        out = Path(folder) / "run"
        wanted = Evaluation(
            out,
            "tabletop",
            Selection(kinds=("fine_grained",), trials=trials),
            workers,
            bundle=None if policy == "expert" else bundle,
            policy="expert" if policy == "expert" else "",
        )
        begin_ns, begin_cpu_s = clock.now_ns(), _children_cpu_s()
        evaluate_suite(wanted)
        wall_s, all_cpu_s = elapsed_s(clock, begin_ns), _children_cpu_s() - begin_cpu_s
        records = [r for r in read_journal(out / JOURNAL_FILE) if r.status == "scored"]
    return Throughput(
        policy=policy,
        workers=workers,
        episodes=len(records),
        wall_s=wall_s,
        cpu_s=statistics.fmean(record.timings["cpu"] for record in records),
        all_cpu_s=all_cpu_s / len(records),
        steps=statistics.fmean(record.steps for record in records),
    )


def latency_ms(bundle: Path) -> tuple[float, float, float, int]:
    """Return median, 95th and 99th percentile of one policy query over the server, and the server's peak RSS in MB."""
    world, clock = TabletopWorld(render=True), SteadyClock()
    waits = []
    with (
        tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder,
        serve_bundle(bundle, Path(folder)) as address,
        RemotePolicy.connect(address) as policy,
    ):
        for number in range(QUERIES):
            family = list(FAMILIES)[number % len(FAMILIES)]
            if number % 25 == 0:
                world.reset(sample_scene(family, 1_000_000 + number))
                policy.reset(number)
                seen = world.observe()
            text = instruction(family, FAMILIES[family].variants[0], "fine_grained", "heldout", number)
            told = Instruction(text, InstructionKind.FINE_GRAINED)
            begin_ns = clock.now_ns()
            policy.infer(Observation(seen.images, seen.joint_position, told, begin_ns, number))
            waits.append(elapsed_s(clock, begin_ns) * 1e3)
        server_mb = max((_peak_mb(pid) for pid in _children()), default=0)
    p50, p95, p99 = (float(value) for value in np.percentile(waits[5:], [50, 95, 99]))
    return p50, p95, p99, server_mb


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children() -> list[int]:
    """Process ids whose parent is this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getpid():
                found.append(int(entry.name))
    return found


def _peak_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def page(runs: Sequence[Throughput], latency: tuple[float, float, float, int], worker_mb: int) -> str:
    """Return the result page."""
    expert = next(item for item in runs if item.policy == "expert")
    verdict = "met" if expert.all_cpu_s <= BAR_CPU_S else "MISSED"
    rows = "\n".join(
        f"| {item.policy} | {item.workers} | {item.episodes} | {item.per_minute:.0f} | {item.cpu_s:.2f} | "
        f"{item.all_cpu_s:.2f} | {item.steps:.0f} |"
        for item in runs
    )
    p50, p95, p99, server_mb = latency
    return f"""# Rollout throughput

`python -m benchmarks.rollout_throughput`, {wall_clock_utc()[:10]}, {os.cpu_count()} x {_processor()}, software
rendering, load average {os.getloadavg()[0]:.1f} at the end. One episode = one trial of the tabletop suite: three
cameras rendered once per chunk, 8 of 16 rows executed per query, judged, film strip and journal written.

| policy | workers | episodes | episodes/min | CPU-s per episode | with start, film strips, server | control steps |
|---|---|---|---|---|---|---|
{rows}

- `expert` replays the scripted plan through the chunk interface: the cost of an episode without a policy. Bar: at most
  {BAR_CPU_S:.0f} CPU-s per episode: **{expert.all_cpu_s:.2f} with everything, {verdict}**.
- Episodes per minute include the start of the worker processes and of the server, and are wall time: on a machine that
  does other work they fall, the CPU seconds do not.
- One policy query over loopback gRPC, server and client on this machine, one thread, {QUERIES} queries:
  median {p50:.1f} ms, 95 % {p95:.1f} ms, 99 % {p99:.1f} ms.
- Peak memory: {worker_mb} MB per worker process (largest seen), {server_mb} MB for the server.
"""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main(argv: Sequence[str]) -> int:
    """Measure and write the page."""
    options = parse(BenchOptions, argv, prog="python -m benchmarks.rollout_throughput")
    counts = [int(count) for count in names(options.workers)]
    runs = [run("expert", options.bundle, workers, options.trials) for workers in counts]
    worker_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    runs += [run("bundle", options.bundle, workers, options.trials) for workers in counts]
    text = page(runs, latency_ms(options.bundle), worker_mb)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rollout_throughput.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
