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

        These are the remainders of Taylor's theorem for a curve of bounded jerk, and the mean value theorem for its
        derivatives: every legal motion satisfies them, however it is sampled.
        """
        p, v, a = before.position, before.velocity, before.acceleration
        jerk = self.jerk * dt_s
        slack = 1.0 + ROUNDING
        rest = ROUNDING * (self.upper - self.lower)
        travel = after.position - p
        return np.asarray(
            (np.abs(after.acceleration - a) <= jerk * slack + rest)
            & (np.abs(after.velocity - v - a * dt_s) <= jerk * dt_s / 2.0 * slack + rest)
            & (np.abs(travel - v * dt_s - a * dt_s**2 / 2.0) <= jerk * dt_s**2 / 6.0 * slack + rest)
            & (np.abs(after.velocity - v) <= self.acceleration * dt_s * slack + rest)
            & (np.abs(travel) <= self.velocity * dt_s * slack + rest)
        )
