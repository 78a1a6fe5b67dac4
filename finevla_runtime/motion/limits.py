"""What the joints may do, and whether a motion keeps to it.

A motion is a curve whose jerk is bounded; a setpoint is a point of it. That holds between ticks too, so nothing below
depends on how regularly somebody looks at the curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import DOF, JOINT_NAMES
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.motion.setpoint import JointArray, Setpoint

BoolArray = npt.NDArray[np.bool_]
# Room for rounding, as a share of each limit; a thousandth of a millionth of a turn is no motion.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class MotionLimits:
    """Bounds of every joint in the project's layout, rad or open fractions and their derivatives by seconds.

    Attributes:
        lower, upper: float64[14], positions.
        velocity, acceleration, jerk: float64[14], largest magnitudes.
    """

    lower: JointArray
    upper: JointArray
    velocity: JointArray
    acceleration: JointArray
    jerk: JointArray

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse empty ranges and limits that are not positive (FV-MOT-001)."""
        for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != (DOF,) or not np.isfinite(values).all():
                raise SetupError("FV-MOT-001", f"{name} limits are {values}; wanted {DOF} finite numbers.")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        for index, joint in enumerate(JOINT_NAMES):
            if self.lower[index] >= self.upper[index]:
                raise SetupError(
                    "FV-MOT-001", f"{joint} may be in {self.lower[index]}..{self.upper[index]}, an empty range."
                )
            rates = (self.velocity[index], self.acceleration[index], self.jerk[index])
            if min(rates) <= 0:
                raise SetupError("FV-MOT-001", f"{joint}: velocity, acceleration and jerk are {rates}; wanted above 0.")

    def clip(self, position: JointArray) -> JointArray:
        """Return the nearest position inside the ranges."""
        return np.asarray(np.clip(position, self.lower, self.upper))

    def position_kept(self, position: JointArray) -> BoolArray:
        """Return bool[14], which positions lie inside their range."""
        room = ROUNDING * (self.upper - self.lower)
        return np.asarray((position >= self.lower - room) & (position <= self.upper + room))

    def rates_kept(self, setpoint: Setpoint) -> BoolArray:
        """Return bool[14], which joints keep to velocity and acceleration, now and while the acceleration fades.

        A joint at its top speed that still accelerates exceeds it before any jerk can take the acceleration away.
        """
        speed, a = setpoint.velocity, setpoint.acceleration
        with np.errstate(over="ignore"):
            coming = speed + a * np.abs(a) / (2.0 * self.jerk)
        top = self.velocity * (1.0 + ROUNDING)
        return np.asarray(
            (np.abs(speed) <= top) & (np.abs(coming) <= top) & (np.abs(a) <= self.acceleration * (1.0 + ROUNDING))
        )

    def continuous(self, before: Setpoint, after: Setpoint, dt_s: float) -> BoolArray:
        """Return bool[14], which joints can have come from ``before`` to ``after`` within the limits.

        Exact for the jerk: true if and only if some curve whose jerk keeps to its limit joins the two setpoints. Every
        legal motion satisfies that, however it is sampled.
        """
        p, v, a = before.position, before.velocity, before.acceleration
        slack = 1.0 + ROUNDING
        rest = ROUNDING * (self.upper - self.lower)
        travel = after.position - p
        kept = (np.abs(after.velocity - v) <= self.acceleration * dt_s * slack + rest) & (
            np.abs(travel) <= self.velocity * dt_s * slack + rest
        )
        by_jerk = Setpoint(travel - v * dt_s - a * dt_s**2 / 2.0, after.velocity - v - a * dt_s, after.acceleration - a)
        return np.asarray(kept & self._reachable(by_jerk, dt_s))

    def _reachable(self, change: Setpoint, dt_s: float) -> BoolArray:
        """Return bool[14], which changes of a motion a jerk within its limit can bring about in ``dt_s``.

        The changes are the first three moments of the jerk over the interval; which moments a bounded function can
        have is Markov's L-problem (Akhiezer and Krein, Some Questions in the Theory of Moments, 1962): with the jerk
        mapped to 0..1 over the unit interval, its exponential transform must be a positive measure on that interval.
        """
        rest = ROUNDING * (self.upper - self.lower)
        if dt_s**3 * self.jerk.min() <= rest.max():
            # So short an interval changes less than rounding does.
            return np.asarray(
                (np.abs(change.position) <= self.jerk * dt_s**3 / 6.0 + rest)
                & (np.abs(change.velocity) <= self.jerk * dt_s**2 / 2.0 + rest)
                & (np.abs(change.acceleration) <= self.jerk * dt_s + rest)
            )
        # Room for rounding: of the positions, whose last digit is a large part of what the jerk adds to them.
        jerk = self.jerk * (1.0 + 1e-6) + 1e-13 / dt_s**3
        # With time running back from the end of the interval, the three changes are the moments in this order.
        m0 = change.acceleration / (jerk * dt_s)
        m1 = change.velocity / (jerk * dt_s**2)
        m2 = 2.0 * change.position / (jerk * dt_s**3)
        c0, c1, c2 = (m0 + 1.0) / 2.0, (m1 + 1.0 / 2.0) / 2.0, (m2 + 1.0 / 3.0) / 2.0
        with np.errstate(over="ignore", invalid="ignore"):
            a0, a1, a2 = c0, c1 - c0**2 / 2.0, c2 - c0 * c1 + c0**3 / 6.0
            b1, b2, b3 = 1.0 - a0, 1.0 - a0 - a1, 1.0 - a0 - a1 - a2
            inside = (a0 >= 0.0) & (a2 >= 0.0) & (b1 >= 0.0) & (b3 >= 0.0)
            return np.asarray(inside & (a0 * a2 >= a1**2) & (b1 * b3 >= b2**2))
