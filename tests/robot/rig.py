"""A controller on a clock with a body that follows, and chunks to offer it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.motion.chunk_queue import Refused, Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.motion.executor import Command
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.robot.controller import Controller
from finevla_runtime.safety.guard import Space
from finevla_runtime.safety.profile import SafetyProfile
from tests.safety.situations import MIDDLE, PROFILE

TICK_S = 0.005
STEP_S = 0.1
TICKET = Ticket("episode", 0)
EXECUTION = Execution(Strategy.ASYNCHRONOUS, execution_rows=4)


class Robot:
    """A started controller; ``follows`` False freezes the body, ``heard`` False silences its feedback."""

    def __init__(
        self,
        execution: Execution = EXECUTION,
        profile: SafetyProfile = PROFILE,
        space: Space | None = None,
        deadman_s: float = 0.0,
        session_s: float = 0.0,
    ) -> None:
        self.controller = Controller(profile, execution, STEP_S, TICK_S, space, deadman_s, session_s)
        self.now_ns = 5_000_000_000
        self.measured = MIDDLE.copy()
        self.heard = self.follows = True
        self.commands: list[Command] = []
        self._feed()
        assert self.controller.start(self.now_ns) is None
        assert self.controller.begin(TICKET, self.now_ns) is None

    def tick(self, dt_s: float = TICK_S) -> Command:
        self.now_ns += round(dt_s * 1e9)
        if self.heard:
            self._feed()
        command = self.controller.tick(self.now_ns)
        assert command is not None
        if self.follows:
            self.measured = command.setpoint.position
        self.commands.append(command)
        return command

    def run(self, seconds: float) -> Command:
        command = self.tick()
        for _ in range(round(seconds / TICK_S) - 1):
            command = self.tick()
        return command

    def ticks(self, seconds: float) -> Iterator[Command]:
        for _ in range(round(seconds / TICK_S)):
            yield self.tick()

    def chunk(self, rows: int = 16, rate: float = 0.1, away: float = 0.0, age_s: float = 0.0) -> ActionChunk:
        """Rows from ``away`` beyond the present command on, ``rate`` units per second in every joint."""
        command = self.controller.guard.command
        here = MIDDLE if command is None else command.position
        ramp = away + rate * STEP_S * np.arange(1, rows + 1)[:, None] * np.ones(DOF)
        capture_ns = self.now_ns - round(age_s * 1e9)
        positions = (here + ramp).astype(np.float32)
        return ActionChunk(f"chunk {capture_ns}", positions, 0, STEP_S, capture_ns, "policy", "1")

    def offer(self, chunk: ActionChunk | None = None, ticket: Ticket = TICKET) -> Refused | None:
        return self.controller.offer(ticket, chunk if chunk is not None else self.chunk(), self.now_ns)

    def _feed(self) -> None:
        for arm in (0, 1):
            self.controller.feedback(arm, self.measured[arm * 7 : arm * 7 + 7], self.now_ns)

    def path(self) -> JointArray:
        """Return float64[n, 14], every command so far."""
        return np.array([command.setpoint.position for command in self.commands])


def assert_smooth(robot: Robot, profile: SafetyProfile = PROFILE) -> None:
    """No command breaks a limit, and the jerk keeps to its own, judged from differences of the positions alone."""
    limits = profile.limits
    change = robot.path()
    between = limits.jerk * TICK_S / 4.0
    for name, limit in (
        ("velocity", limits.velocity),
        # A tick may hide that the acceleration went beyond and came back within the jerk.
        ("acceleration", limits.acceleration + between),
        ("jerk", limits.jerk),
    ):
        change = np.diff(change, axis=0) / TICK_S
        if len(change):
            # Rounding of positions counts 1 / dt^3 in the third difference.
            assert float((np.abs(change) / limit).max()) <= 1 + 1e-5, name
    assert all(limits.rates_kept(command.setpoint).all() for command in robot.commands)
