"""The measures of the control loop find what is in a known curve, and each strategy does what it is described to do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.control_loop.age import ages_ns
from benchmarks.control_loop.lateness import PERIOD_NS, lateness_ns
from benchmarks.control_loop.ours import Ours
from benchmarks.control_loop.seam_metrics import TICK_S, Run, differences, summarise
from benchmarks.control_loop.strategies import (
    STEP_NS,
    TICK_NS,
    Bridged,
    JointArray,
    Motion,
    Placed,
    ReplacedAtOnce,
    RowEnsemble,
    WholeChunks,
    upsampled,
)
from finevla_runtime.motion.execution import Execution, Strategy
from sim_eval.tabletop.world import home_target

HOME = home_target()
ROWS = 16
LATENCY_NS = 50_000_000
MOVING = 1


def truth(time_ns: int | np.ndarray, rate: float = 0.3) -> JointArray:
    """Home, with one joint moving on at ``rate`` rad/s."""
    rows = np.tile(HOME, (np.size(time_ns), 1))
    rows[:, MOVING] += rate * np.ravel(time_ns) / 1e9
    return rows


def driven(motion: Motion, seconds: float = 3.0) -> Run:
    """Drive a motion with a policy that always says the same truth, and a body that follows at once."""
    commands, coming, here = [], None, HOME
    for tick in range(round(seconds / TICK_S)):
        now_ns = tick * TICK_NS
        if coming is None and motion.wants(now_ns):
            due = now_ns + STEP_NS * np.arange(1, ROWS + 1)
            coming = truth(due) if len(motion.placed) else truth(due - now_ns), now_ns
        if coming is not None and now_ns >= coming[1] + LATENCY_NS:
            motion.take(*coming, now_ns)
            coming = None
        here = motion.command(now_ns, here).copy()
        commands.append(here)
    return Run(np.array(commands), motion.placed, success=True)


def test_the_measures_are_those_of_a_cubic() -> None:
    ticks = np.arange(100)[:, None] * TICK_S
    step, jump, jerk = differences(np.tile(2.0 * ticks**3, (1, 14)))
    assert jerk == pytest.approx(12.0, rel=1e-3)
    assert jump[-1] == pytest.approx(12.0 * TICK_S * ticks[-2, 0], rel=1e-6)
    assert step[-1] == pytest.approx(2.0 * (ticks[-1, 0] ** 3 - ticks[-2, 0] ** 3))


def test_grippers_do_not_count() -> None:
    commands = np.zeros((10, 14))
    commands[5:, [6, 13]] = 1.0
    assert all(not values.any() for values in differences(commands))


def test_a_late_copy_of_the_rows_has_its_lag_and_no_error_then() -> None:
    late_ns = 6 * TICK_NS
    curve = np.sin(3.0 * (np.arange(400) * TICK_NS - late_ns) / 1e9)[:, None] * np.ones(14)
    due = STEP_NS * np.arange(1, ROWS + 3)
    rows = np.sin(3.0 * due / 1e9)[:, None] * np.ones(14)
    second_ns = ROWS * STEP_NS
    figures = summarise([Run(curve, [Placed(0, 0, rows[:ROWS]), Placed(second_ns, second_ns, rows[ROWS:])], True)])
    assert figures.lag_s == pytest.approx(late_ns / 1e9)
    assert figures.lag_error_rms < 0.2 * figures.error_rms


def test_whole_chunks_stand_while_the_policy_is_asked() -> None:
    run = driven(WholeChunks(HOME), seconds=4.0)
    first, second = run.placed[:2]
    assert second.from_ns - first.end_ns == LATENCY_NS
    waiting = run.commands[first.end_ns // TICK_NS + 1 : second.from_ns // TICK_NS]
    assert np.ptp(waiting, axis=0).max() == 0.0


def test_chunks_replaced_at_once_follow_the_newest_rows_exactly() -> None:
    run = driven(ReplacedAtOnce(HOME, 8))
    figures = summarise([run])
    assert len(run.placed) >= 3
    assert figures.error_rms == pytest.approx(0.0, abs=1e-9)


def test_a_bridge_costs_time_where_a_row_costs_less() -> None:
    run = driven(Bridged(HOME, 8))
    begin = run.placed[1].from_ns // TICK_NS
    bridge = np.diff(run.commands[begin - 1 : begin + Bridged.BRIDGE_TICKS, MOVING])
    assert np.ptp(bridge) == pytest.approx(0.0, abs=1e-12)
    assert summarise([run]).lag_s > 0.1


def test_parabolas_go_through_the_rows_and_through_any_parabola() -> None:
    times = np.arange(6.0)[:, None]
    dense = upsampled(np.tile(times**2, (1, 14)))
    wanted = (np.arange(1, 101) / 20.0) ** 2
    assert dense[:, 0] == pytest.approx(wanted)


def test_an_ensemble_of_equals_says_what_each_says() -> None:
    run = driven(RowEnsemble(HOME))
    assert summarise([run]).error_rms < 0.3 * LATENCY_NS / 1e9


@pytest.mark.parametrize("strategy", Strategy)
def test_ours_follows_the_rows_within_its_limits(strategy: Strategy) -> None:
    motion = Ours(HOME, Execution(strategy, 8))
    figures = summarise([driven(motion)])
    assert motion.held == 0
    assert figures.seams >= 1
    assert figures.error_rms < 0.03
    assert figures.overall.jerk < 401.0


def test_lateness_is_that_of_each_due_instant() -> None:
    due = 7_000_000_123 + PERIOD_NS * np.arange(800)
    stamps = due.copy()
    stamps[100] += 2_000_000
    # A tick that did not come: the next command answers both instants.
    stamps = np.delete(stamps, 200)
    late = lateness_ns(stamps)
    assert sorted(late[late > 0]) == [2_000_000, PERIOD_NS]


def test_an_age_runs_from_the_picture_to_the_next_command() -> None:
    pictures = np.array([0, 100, 200])
    seen, came = np.array([101, 202]), np.array([130, 290])
    commands = np.array([125, 135, 260, 300])
    assert ages_ns(pictures, seen, came, commands).tolist() == [35, 100]
