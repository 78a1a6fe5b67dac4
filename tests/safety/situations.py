"""A careful profile and what a healthy body looks like, for the tests of the guard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.guard import Guard, Situation, Space
from finevla_runtime.safety.profile import SafetyProfile
from finevla_runtime.safety.verdict import Reason, Verdict
from tests.motion.motions import LIMITS

PROFILE = SafetyProfile(
    embodiment="test",
    limits=LIMITS,
    tracking=np.full(DOF, 0.5),
    start=np.full(DOF, 0.1),
    outside=np.full(DOF, 0.05),
    approach_share=0.1,
    state_age_s=0.1,
    observation_age_s=1.0,
    longest_tick_s=0.05,
    late_ticks=3,
    patience_s=2.0,
)
MIDDLE = (LIMITS.lower + LIMITS.upper) / 2
TICK_S = 0.005


class Rig:
    """A guard on a clock, with a body that is where it was commanded to be."""

    def __init__(self, profile: SafetyProfile = PROFILE, space: Space | None = None, at: JointArray = MIDDLE) -> None:
        self.guard = Guard(profile, space)
        self.now_ns = 1_000_000_000
        self.measured = at.copy()
        assert self.guard.start(self.seen()) is None

    def seen(self, **changes: object) -> Situation:
        healthy = Situation(self.now_ns, self.measured, self.now_ns, self.now_ns)
        return replace(healthy, **changes)  # type: ignore[arg-type]

    def tick(self, wanted: Setpoint | None, dt_s: float = TICK_S, **changes: object) -> Verdict:
        """Advance the clock and ask."""
        self.now_ns += round(dt_s * 1e9)
        verdict = self.guard.tick(wanted, self.seen(**changes))
        self.measured = verdict.command.position
        return verdict

    def run(self, wanted: Setpoint | None, seconds: float, **changes: object) -> Verdict:
        """Ask for the same for a while."""
        verdict = self.tick(wanted, **changes)
        for _ in range(round(seconds / TICK_S)):
            verdict = self.tick(wanted, **changes)
        return verdict


class Wall:
    """A space in which one joint must not pass a value."""

    def __init__(self, joint: int, highest: float) -> None:
        self.joint, self.highest = joint, highest

    def breach(self, path: JointArray) -> Reason | None:
        worst = float(path[:, self.joint].max())
        return Reason("FV-SAF-100", f"wall at {self.highest}, {worst}") if worst > self.highest else None
