"""Limits and random states for the tests of motion and guard."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.limits import MotionLimits
from finevla_runtime.motion.setpoint import JointArray

LIMITS = MotionLimits(
    lower=np.linspace(-2.0, 0.0, DOF),
    upper=np.linspace(1.0, 3.0, DOF),
    velocity=np.linspace(0.5, 3.0, DOF),
    acceleration=np.linspace(5.0, 12.0, DOF),
    jerk=np.linspace(60.0, 400.0, DOF),
)


def positions(margin: float = 0.0) -> st.SearchStrategy[JointArray]:
    """float64[14], inside the ranges or up to ``margin`` outside."""
    share = st.floats(-margin, 1.0 + margin)
    return st.lists(share, min_size=DOF, max_size=DOF).map(
        lambda shares: LIMITS.lower + np.array(shares) * (LIMITS.upper - LIMITS.lower)
    )


def speeds() -> st.SearchStrategy[JointArray]:
    return st.lists(st.floats(-1.5, 1.5), min_size=DOF, max_size=DOF).map(lambda v: np.array(v) * LIMITS.velocity)


TICKS = st.floats(0.0, 0.2)
