"""The guard with the shipped space: whatever is wanted, no command comes nearer to anything than the space allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.setpoint import JointArray, Setpoint
from finevla_runtime.safety.guard import STOP_POINTS
from finevla_runtime.safety.profile import load_safety_profile
from finevla_runtime.safety.space import BodySpace
from finevla_runtime.safety.space_config import Box, SpaceConfig
from finevla_runtime.safety.verdict import Outcome
from tests.safety.bodies import CONFIGS, HARDWARE, HOME, LOWER, SIM, UPPER, toward
from tests.safety.situations import Rig

CONFIG = CONFIGS["cobot_magic_sim"]
PROFILE = load_safety_profile(HARDWARE / "safety" / "cobot_magic_sim.yaml", SIM)
EAGER = replace(PROFILE, start=np.full(DOF, np.inf), patience_s=1e9)
SPACE = BodySpace(CONFIG)
# Between the rows that the guard looks at, a braking arm leaves the straight line by at most this much.
CURVED_M = 0.006


def loosened(by: float) -> SpaceConfig:
    """The same space with every wanted distance less by some metres."""

    def grown(box: Box) -> Box:
        lower = (box.lower[0] - by, box.lower[1] - by, box.lower[2] - by)
        return Box(lower, (box.upper[0] + by, box.upper[1] + by, box.upper[2] + by))

    left, right = CONFIG.workspace
    return replace(
        CONFIG,
        workspace=(grown(left), grown(right)),
        keep_out=tuple(replace(item, distance=item.distance - by) for item in CONFIG.keep_out),
        table_links=CONFIG.table_links - by,
        table_fingers=CONFIG.table_fingers - by,
        between_arms=CONFIG.between_arms - by,
        within_arm=CONFIG.within_arm - by,
    )


LOOSE = BodySpace(loosened(CURVED_M))


def wild_goals() -> st.SearchStrategy[list[tuple[JointArray, int]]]:
    """Some goals anywhere near or far, each wanted for a number of ticks."""

    def draw(seed: int) -> list[tuple[JointArray, int]]:
        rng = np.random.default_rng(seed)
        goals = []
        for _ in range(4):
            share = rng.uniform(0.1, 1.0)
            goals.append((HOME + share * (rng.uniform(LOWER, UPPER) - HOME), int(rng.integers(20, 80))))
        return goals

    return st.integers(0, 2**32 - 1).map(draw)


def test_what_a_curved_way_needs_is_less_than_every_distance_between_bodies() -> None:
    limits = PROFILE.limits
    # The longest stop is that from full speed; its rows lie this far apart in time.
    apart_s = (limits.velocity / limits.acceleration + 2.0 * limits.acceleration / limits.jerk) / (STOP_POINTS - 1)
    off = limits.acceleration * apart_s**2 / 8.0
    tools = SPACE.body.tool_reach
    columns = SPACE.body.columns
    needed = max(float(reach[moved] @ off[columns[moved]]) for reach in tools if (moved := reach > 0).any())
    assert needed <= min(CONFIG.within_arm, CONFIG.between_arms / 2.0)


@settings(max_examples=25, deadline=None)
@given(goals=wild_goals())
def test_no_command_breaches_whatever_is_wanted(goals: list[tuple[JointArray, int]]) -> None:
    rig = Rig(EAGER, SPACE, at=HOME)
    for goal, ticks in goals:
        for _ in range(ticks):
            verdict = rig.tick(Setpoint.at_rest(goal))
            assert verdict.outcome in (Outcome.PASS, Outcome.LIMIT, Outcome.HOLD), verdict.reasons
            reason = LOOSE.breach(verdict.command.position[None])
            assert reason is None, reason


def test_arms_driven_together_stop_apart_name_each_other_and_may_part_again() -> None:
    rig = Rig(EAGER, SPACE, at=HOME)
    together = rig.run(Setpoint.at_rest(toward(1.1)), 3.0)
    assert (together.outcome, together.reasons[0].code) == (Outcome.HOLD, "FV-SAF-104")
    assert "left_" in together.reasons[0].text
    assert "right_" in together.reasons[0].text
    assert SPACE.breach(together.command.position[None]) is None
    assert abs(together.command.position[0] - HOME[0]) > 0.5
    assert rig.run(Setpoint.at_rest(HOME), 3.0).outcome is Outcome.PASS


def test_a_body_that_starts_in_a_breach_is_held_and_its_operator_told_to_move_it() -> None:
    rig = Rig(EAGER, SPACE, at=toward(1.1))
    verdict = rig.run(Setpoint.at_rest(HOME), 0.5)
    assert verdict.outcome is Outcome.HOLD
    assert "move the arm away by hand" in verdict.reasons[0].text
    np.testing.assert_array_equal(verdict.command.position, toward(1.1))
