"""Two setpoints are continuous exactly when a curve of bounded jerk joins them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import linprog

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.motion.limits import MotionLimits
from finevla_runtime.motion.setpoint import JointArray, Setpoint

# Limits of velocity and acceleration that never bind, so that the jerk alone decides.
LOOSE = MotionLimits(
    np.full(DOF, -3.0), np.full(DOF, 3.0), np.full(DOF, 1e4), np.full(DOF, 1e5), np.linspace(50.0, 2000.0, DOF)
)
PIECES = 240
DT = st.sampled_from([0.0005, 0.001, 0.005, 0.02, 0.1])


def after(before: Setpoint, shares: JointArray, dt_s: float) -> Setpoint:
    """Integrate float64[pieces, 14] of jerk, as shares of the limit."""
    h = dt_s / len(shares)
    p, v, a = before.position, before.velocity, before.acceleration
    for jerk in shares * LOOSE.jerk:
        p, v, a = p + v * h + a * h**2 / 2 + jerk * h**3 / 6, v + a * h + jerk * h**2 / 2, a + jerk * h
    return Setpoint(p, v, a)


def somewhere(seed: int) -> Setpoint:
    rng = np.random.default_rng(seed)
    return Setpoint(rng.uniform(-2, 2, DOF), rng.uniform(-1, 1, DOF), rng.uniform(-5, 5, DOF))


@given(st.integers(0, 10**6), st.integers(1, 40), DT, st.sampled_from(["bang", "any", "one sign"]))
def test_every_motion_of_bounded_jerk_is_continuous(seed: int, pieces: int, dt_s: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.uniform(-1.0, 1.0, (pieces, DOF))
    if kind == "bang":
        shares = np.sign(shares)
    elif kind == "one sign":
        shares = np.ones((pieces, DOF)) * np.sign(shares[0])
    before = somewhere(seed)
    assert LOOSE.continuous(before, after(before, shares, dt_s), dt_s).all()


@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3), DT)
def test_what_no_bounded_jerk_can_bring_about_is_not_continuous(changes: list[float], dt_s: float) -> None:
    """Against a linear program that looks for the smallest bound of a jerk with these three moments."""
    edges = np.linspace(0.0, 1.0, PIECES + 1)
    left = 1.0 - edges
    moments = np.array([-np.diff(left**k) / k for k in (1, 2, 3)])
    wanted = np.array(changes) / [1.0, 2.0, 3.0]
    cost = np.append(np.zeros(PIECES), 1.0)
    bound = np.vstack([np.hstack([s * np.eye(PIECES), -np.ones((PIECES, 1))]) for s in (1, -1)])
    found = linprog(
        cost, bound, np.zeros(2 * PIECES), np.hstack([moments, np.zeros((3, 1))]), wanted, bounds=(None, None)
    )
    smallest = float(found.fun)
    # The pieces of the program have a width, so it overestimates the bound a little.
    assume(abs(smallest - 1.0) > 0.03)
    j = LOOSE.jerk
    reached = Setpoint(wanted[2] * j * dt_s**3 / 2.0, wanted[1] * j * dt_s**2, wanted[0] * j * dt_s)
    start = Setpoint.at_rest(np.zeros(DOF))
    assert set(LOOSE.continuous(start, reached, dt_s).tolist()) == {smallest < 1.0}


def test_an_empty_range_is_refused() -> None:
    ones = np.ones(DOF)
    with pytest.raises(SetupError, match="FV-MOT-001"):
        MotionLimits(ones, ones, ones, ones, ones)
