"""What one tick of the controller costs, without and with the space that the guard looks into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.control_loop.ours import EMBODIMENT, STEP_S, TICK_S, TICKET, safety
from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.clock import process_cpu_s
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.controller import Controller
from finevla_runtime.safety.guard import Space
from finevla_runtime.safety.space import load_space
from finevla_runtime.safety.verdict import Outcome
from sim_eval.tabletop.world import home_target

SECONDS = 10.0
# Radians and radians per second: what the limits allow, and what the guard has to cut.
CALM = (0.08, 2.0)
WILD = (0.12, 9.0)


@dataclass(frozen=True)
class TickCost:
    """CPU milliseconds of one tick, shares of the outcomes, and CPU milliseconds to take one chunk in."""

    p50_ms: float
    p99_ms: float
    passed: float
    limited: float
    held: float
    chunk_ms: float


def tick_cost(space: Space | None, swing: tuple[float, float]) -> TickCost:
    """Tick for ten simulated seconds along waves around home, a chunk of 16 rows every 8, and measure each tick."""
    controller = Controller(safety(), Execution(Strategy.ASYNCHRONOUS, 8), STEP_S, TICK_S, space)
    measured = home_target().astype(np.float64)
    measured[[6, 13]] = 0.5
    begin_ns = 1_000_000_000
    ticks_ms, chunks_ms, outcomes = [], [], []
    for tick in range(round(SECONDS / TICK_S)):
        now_ns = begin_ns + round(tick * TICK_S * 1e9)
        for arm in (0, 1):
            controller.feedback(arm, measured[arm * 7 : arm * 7 + 7], now_ns)
        if tick == 0:
            problem = controller.start(now_ns) or controller.begin(TICKET, now_ns)
            if problem is not None:
                raise RuntimeError(str(problem))
            home = measured.copy()
        if tick % 160 == 0:
            chunk = _wave(home, swing, tick * TICK_S, now_ns)
            before_s = process_cpu_s()
            controller.offer(TICKET, chunk, now_ns)
            chunks_ms.append((process_cpu_s() - before_s) * 1e3)
        before_s = process_cpu_s()
        command = controller.tick(now_ns)
        ticks_ms.append((process_cpu_s() - before_s) * 1e3)
        if command is not None:
            outcomes.append(command.verdict.outcome)
            measured = command.setpoint.position
    p50, p99 = np.percentile(ticks_ms, [50, 99])
    shares = [outcomes.count(kind) / len(outcomes) for kind in (Outcome.PASS, Outcome.LIMIT, Outcome.HOLD)]
    return TickCost(float(p50), float(p99), *shares, chunk_ms=float(np.median(chunks_ms)))


def measure() -> Mapping[str, object]:
    """Return the costs of calm and wild motion, without and with a space, ready for JSON."""
    space = load_space(HW_CONFIGS / "spaces" / f"{EMBODIMENT}.yaml")
    return {
        f"{name}, {'space' if looked else 'no space'}": asdict(tick_cost(looked, swing))
        for name, swing in (("within the limits", CALM), ("beyond the limits", WILD))
        for looked in (None, space)
    }


def _wave(home: np.ndarray, swing: tuple[float, float], time_s: float, now_ns: int) -> ActionChunk:
    reach, speed = swing
    times = time_s + STEP_S * np.arange(1, 17)
    rows = home + (reach * np.sin(speed * times))[:, None]
    return ActionChunk(f"{now_ns}", rows.astype(np.float32), 0, STEP_S, now_ns, "bench", "1")
