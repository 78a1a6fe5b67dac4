"""The curve goes through the rows, smoothly, and seams have no step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.chunk_queue import Plan
from finevla_runtime.motion.path import Fade, Path
from finevla_runtime.motion.setpoint import Setpoint

STEP_NS = 100_000_000
ROWS = st.integers(1, 16)
SEEDS = st.integers(0, 10_000)


def plan(seed: int, rows: int, begin_ns: int = 0) -> Plan:
    walk = np.cumsum(np.random.default_rng(seed).normal(0.0, 0.05, (rows, DOF)), axis=0)
    return Plan(begin_ns, STEP_NS, walk, begin_ns, "c")


def start(seed: int) -> Setpoint:
    rng = np.random.default_rng(seed + 1)
    return Setpoint(rng.normal(0, 0.1, DOF), rng.normal(0, 0.1, DOF), np.zeros(DOF))


@given(SEEDS, ROWS)
def test_the_path_goes_through_every_row_when_it_is_due(seed: int, rows: int) -> None:
    wanted = plan(seed, rows)
    path = Path(wanted, start(seed))
    got = np.array([path.at(int(due)).position for due in wanted.due_ns])
    assert got == pytest.approx(wanted.rows, abs=1e-9)


@given(SEEDS, ROWS)
def test_the_path_begins_where_and_how_fast_the_motion_was(seed: int, rows: int) -> None:
    before = start(seed)
    first = Path(plan(seed, rows), before).at(0)
    assert first.position == pytest.approx(before.position, abs=1e-12)
    assert first.velocity == pytest.approx(before.velocity, abs=1e-9)


@given(SEEDS, ROWS, st.floats(0.0, 1.6))
def test_velocity_and_acceleration_are_the_derivatives_of_the_path(seed: int, rows: int, time_s: float) -> None:
    path = Path(plan(seed, rows), start(seed))
    now_ns, h_ns = round(time_s * 1e9), 10_000
    before, here, after = (path.at(now_ns + k * h_ns) for k in (-1, 0, 1))
    # A change of pieces between the three points is allowed for; jerk is bounded.
    assert (after.position - before.position) / 2e-5 == pytest.approx(here.velocity, abs=2e-2)
    if now_ns + h_ns < path.end_ns and now_ns > h_ns:
        assert (after.velocity - before.velocity) / 2e-5 == pytest.approx(here.acceleration, abs=1.0)


@given(SEEDS, ROWS)
def test_the_path_rests_after_its_last_row(seed: int, rows: int) -> None:
    path = Path(plan(seed, rows), start(seed))
    just_before = path.at(path.end_ns - 1)
    assert just_before.velocity == pytest.approx(np.zeros(DOF), abs=1e-5)
    assert path.at(path.end_ns + 1).is_at_rest


@given(SEEDS, st.floats(0.02, 0.5), st.floats(0.0, 1.0))
def test_a_fade_begins_with_the_whole_difference_and_ends_with_none(seed: int, duration_s: float, share: float) -> None:
    old, new = start(seed), start(seed + 7)
    fade = Fade.between(old, new, 1000, duration_s)
    first = fade.at(1000)
    assert first is not None
    for name in ("position", "velocity", "acceleration"):
        assert getattr(first, name) == pytest.approx(getattr(old, name) - getattr(new, name), abs=1e-12)
    nearly = fade.at(1000 + round(duration_s * 1e9) - 1)
    assert nearly is None or np.abs(nearly.position).max() < 1e-6
    assert fade.at(1000 + round(duration_s * 1e9) + 1) is None
    inside = fade.at(1000 + round(share * duration_s * 1e9))
    # The difference never grows far beyond what position and velocity make unavoidable.
    bound = np.abs(old.position - new.position) + duration_s * np.abs(old.velocity - new.velocity)
    assert inside is None or (np.abs(inside.position) <= 1.2 * bound + 1e-9).all()
