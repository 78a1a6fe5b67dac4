"""Runs the shipped policy in the tabletop world with every strategy and latency, on a simulated clock.

Each strategy drives the world itself: it asks when it would, and the answer comes after the simulated latency. So every
strategy meets the states that it leads to, and the figures do not depend on how fast or busy this machine is.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.control_loop.ours import Ours
from benchmarks.control_loop.seam_metrics import Run, summarise
from benchmarks.control_loop.strategies import (
    TICK_NS,
    Bridged,
    JointArray,
    Motion,
    ReplacedAtOnce,
    RowEnsemble,
    WholeChunks,
)
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import Policy
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.paths import RUBRICS
from finevla_runtime.transport.client import RemotePolicy
from sim_eval.policy_source import serve_bundle
from sim_eval.tabletop.body import TabletopBody
from sim_eval.tabletop.catalog import FAMILIES, instruction
from sim_eval.tabletop.world import TabletopWorld

UPSTREAM = "RDT: whole chunks, blocking"
EXECUTION_ROWS = 8
FIRST_SEED = 1_500_000
LONGEST_S = 20.0
# A run is over when nothing was commanded to move for this long.
STILL_TICKS = 400
STILL_RAD = 0.005


def _ours(strategy: Strategy, rows: int) -> Callable[[JointArray], Motion]:
    return lambda here: Ours(here, Execution(strategy, rows))


STRATEGIES: Mapping[str, Callable[[JointArray], Motion]] = {
    UPSTREAM: WholeChunks,
    "replaced at once, no blending": lambda here: ReplacedAtOnce(here, EXECUTION_ROWS),
    "openpi-agilex: parabolas, 250 ms bridge": lambda here: Bridged(here, EXECUTION_ROWS),
    "ACT: ensemble at every row": RowEnsemble,
    "ours: synchronous, 8 rows": _ours(Strategy.SYNCHRONOUS, EXECUTION_ROWS),
    "ours: asynchronous, 8 rows, blend": _ours(Strategy.ASYNCHRONOUS, EXECUTION_ROWS),
    "ours: ensemble at every row": _ours(Strategy.ENSEMBLE, 1),
}


@dataclass(frozen=True)
class Task:
    """One episode to run; ``scene`` is ``family/seed``."""

    scene: str
    variant: str
    text: str
    seed: int


def tasks(count: int) -> list[Task]:
    """Return ``count`` tasks over all families and their variants, the same ones every time."""
    found = []
    for number in range(count):
        family = list(FAMILIES)[number % len(FAMILIES)]
        variants = FAMILIES[family].variants
        variant = variants[number // len(FAMILIES) % len(variants)]
        seed = FIRST_SEED + number
        text = instruction(family, variant, "fine_grained", "heldout", seed)
        found.append(Task(f"{family}/{seed}", variant, text, seed))
    return found


def run_task(
    body: TabletopBody, policy: Policy, task: Task, make: Callable[[JointArray], Motion], latency_ns: int
) -> Run:
    """Run one episode until everything stands."""
    body.reset(task.scene)
    policy.reset(task.seed)
    told = Instruction(task.text, InstructionKind.FINE_GRAINED)
    motion = make(body.measured())
    commands: list[JointArray] = []
    coming: tuple[JointArray, int] | None = None
    for tick in range(round(LONGEST_S * 1e9) // TICK_NS):
        now_ns, measured = tick * TICK_NS, body.measured()
        if coming is None and motion.wants(now_ns):
            seen = Observation(body.images(), measured.astype(np.float32), told, now_ns, tick)
            coming = policy.infer(seen).positions.astype(np.float64), now_ns
        if coming is not None and now_ns >= coming[1] + latency_ns:
            motion.take(*coming, now_ns)
            coming = None
        commands.append(motion.command(now_ns, measured).copy())
        body.advance(commands[-1], TICK_NS / 1e9)
        if tick > STILL_TICKS and tick % 20 == 0 and np.ptp(commands[-STILL_TICKS:], axis=0).max() < STILL_RAD:
            break
    success = body.judge(task.variant, "fine_grained").success
    return Run(np.array(commands), motion.placed, success, motion.limited, motion.held, motion.stopped)


def measure(bundle: Path, episodes: int, latency_ms: int) -> dict[str, object]:
    """Return the figures of every strategy at one latency, ready for JSON."""
    body = TabletopBody(TabletopWorld(render=True), load_rubric(RUBRICS / "tabletop.yaml"))
    found: dict[str, object] = {}
    with (
        tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder,
        serve_bundle(bundle, Path(folder)) as address,
        RemotePolicy.connect(address, timeout_s=20.0) as policy,
    ):
        for name, make in STRATEGIES.items():
            runs = [run_task(body, policy, task, make, latency_ms * 1_000_000) for task in tasks(episodes)]
            figures = summarise(runs)
            found[name] = asdict(figures)
            sys.stderr.write(f"{latency_ms} ms, {name}: {figures}\n")
    return found
