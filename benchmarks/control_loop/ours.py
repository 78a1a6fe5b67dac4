"""Our controller and policy loop on the simulated clock, with nothing taken out."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.control_loop.strategies import JointArray, Placed
from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution
from finevla_runtime.motion.executor import Phase
from finevla_runtime.motion.synchroniser import Synchronised
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.controller import Controller
from finevla_runtime.robot.policy_loop import Body, Episode, PolicyLoop, Question
from finevla_runtime.safety.profile import SafetyProfile, load_safety_profile
from finevla_runtime.safety.verdict import Outcome

EMBODIMENT = "cobot_magic_sim"
STEP_S, TICK_S = 0.1, 0.005
TICKET = Ticket("bench", 0)
# The policy client hears of the controller as often as it does on the graph.
STATUS_NS = 50_000_000
# Stamps of zero mean "never" in places; a robot's clock does not begin with its episode.
ORIGIN_NS = 1_000_000_000


@cache
def safety() -> SafetyProfile:
    """Return the shipped safety profile of the simulated body."""
    return load_safety_profile(
        HW_CONFIGS / "safety" / f"{EMBODIMENT}.yaml", load_embodiment(HW_CONFIGS / f"{EMBODIMENT}.yaml")
    )


class Ours:
    """A Motion made of the controller (chunk queue, executor, guard) and the policy loop that asks for it."""

    def __init__(self, here: JointArray, execution: Execution) -> None:
        """Start at float64[14], where the body stands."""
        self.placed: list[Placed] = []
        self.limited = self.held = 0
        self.stopped = ""
        self._controller = Controller(safety(), execution, STEP_S, TICK_S)
        self._loop = PolicyLoop(execution, STEP_S, patience_s=2.0)
        self._question: Question | None = None
        self._measured = here
        self._feel(here, ORIGIN_NS)
        problem = self._controller.start(ORIGIN_NS) or self._controller.begin(TICKET, ORIGIN_NS)
        if problem is not None:
            raise RuntimeError(str(problem))
        self._body = Body(TICKET, moving=False, rows_left=0, stamp_ns=ORIGIN_NS)
        instruction = Instruction("benchmark", InstructionKind.RAW)
        self._loop.begin(Episode(TICKET, instruction, seed=0, origin_ns=ORIGIN_NS))

    def wants(self, now_ns: int) -> bool:
        """Ask when the policy loop does; the images do not matter to it."""
        seen = Synchronised({}, {}, self._measured, ORIGIN_NS + now_ns)
        self._question = self._loop.ask(seen, self._body)
        return self._question is not None

    def take(self, rows: JointArray, seen_ns: int, now_ns: int) -> None:
        """Give the answer to both."""
        if self._question is None:
            raise RuntimeError("an answer without a question")
        chunk = ActionChunk(f"{seen_ns}", rows.astype(np.float32), 0, STEP_S, ORIGIN_NS + seen_ns, "bench", "1")
        if not self._loop.answer(self._question, chunk, ORIGIN_NS + now_ns):
            raise RuntimeError("the policy loop did not want its answer")
        refused = self._controller.offer(TICKET, chunk, ORIGIN_NS + now_ns)
        if refused is not None:
            return
        # The executor alone knows where it put the rows in time.
        plan = self._controller.executor._plan
        if plan is None:
            raise RuntimeError("the executor has no plan")
        limits = safety().limits
        executed = np.clip(rows[: len(plan.rows)], limits.lower, limits.upper)
        self.placed.append(Placed(now_ns, plan.begin_ns - ORIGIN_NS, executed))

    def command(self, now_ns: int, measured: JointArray) -> JointArray:
        """Return the guarded command."""
        clock_ns = ORIGIN_NS + now_ns
        self._feel(measured, clock_ns)
        command = self._controller.tick(clock_ns)
        if command is None:
            raise RuntimeError("the guard was not started")
        self.stopped = "; ".join(map(str, command.reasons)) if command.phase is Phase.STOPPED else ""
        is_moving = command.phase in (Phase.MOVING, Phase.APPROACHING)
        if is_moving != self._body.moving or clock_ns - self._body.stamp_ns >= STATUS_NS:
            self._body = Body(TICKET, is_moving, command.rows_left, clock_ns)
        self.held += command.phase in (Phase.HOLDING, Phase.STOPPED)
        self.limited += command.verdict.outcome is Outcome.LIMIT
        return command.setpoint.position

    def _feel(self, measured: JointArray, now_ns: int) -> None:
        self._measured = measured
        for arm in (0, 1):
            self._controller.feedback(arm, measured[arm * 7 : arm * 7 + 7], now_ns)
