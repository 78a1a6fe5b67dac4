"""A smooth curve in time through the rows of a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.chunk_queue import Plan
from finevla_runtime.motion.limits import MotionLimits
from finevla_runtime.motion.setpoint import JointArray, Setpoint

# Share of the limits that a seam may use; the motion beside it needs the rest.
_SEAM_SHARE = 0.5


def prepare() -> None:
    """Load what paths are made with: it takes a second, which a control loop does not have."""
    import scipy.interpolate  # noqa: F401


class Path:
    """A twice continuously differentiable curve through a start and the rows of a plan, at rest after the last.

    Cubic splines: the curve of least bending through the rows. Times are seconds since ``begin_ns``.
    """

    def __init__(self, plan: Plan, start: Setpoint) -> None:
        """Lay the curve from ``start``, where the motion is or was at ``plan.begin_ns``, through all rows."""
        from scipy.interpolate import CubicSpline

        self.begin_ns, self.end_ns = plan.begin_ns, plan.end_ns
        times = np.concatenate([[0.0], (plan.due_ns - plan.begin_ns) / 1e9])
        points = np.vstack([start.position, plan.rows])
        curve = CubicSpline(times, points, bc_type=((1, start.velocity), (1, np.zeros(DOF))))
        self._times = times
        # float64[4, n, 14]: coefficients of the cubic in each interval, highest power first.
        self._cubics = np.asarray(curve.c)
        self._last = points[-1]

    def at(self, now_ns: int) -> Setpoint:
        """Return the curve at an instant: at rest after its end; before its beginning, its first cubic."""
        time_s = (now_ns - self.begin_ns) / 1e9
        if now_ns >= self.end_ns:
            return Setpoint.at_rest(self._last)
        piece = max(0, int(np.searchsorted(self._times, time_s, side="right")) - 1)
        t = time_s - self._times[piece]
        a, b, c, d = self._cubics[:, piece]
        return Setpoint(((a * t + b) * t + c) * t + d, (3 * a * t + 2 * b) * t + c, 6 * a * t + 2 * b)


@dataclass(frozen=True, eq=False)
class Fade:
    """A difference of position, velocity and acceleration that vanishes smoothly: the seam between two motions.

    The quintic polynomial that begins with the difference and ends with none, so that the sum with the new motion
    goes on exactly where the old one was.
    """

    begin_ns: int
    duration_s: float
    cubic_to_quintic: JointArray
    start: Setpoint

    @staticmethod
    def gentle_s(old: Setpoint, new: Setpoint, limits: MotionLimits) -> float:
        """Return the seconds in which the difference can vanish with half of the acceleration and jerk allowed.

        Peaks of the quintic that takes a unit of position, velocity or acceleration to nothing in a unit of time:
        acceleration 10 / sqrt(3), 3.94 and 1, jerk 60, 36 and 9.
        """
        p, v, a = (
            np.abs(old.position - new.position),
            np.abs(old.velocity - new.velocity),
            np.abs(old.acceleration - new.acceleration),
        )
        most, jerk = _SEAM_SHARE * limits.acceleration, _SEAM_SHARE * limits.jerk
        times = (
            np.sqrt(10.0 / np.sqrt(3.0) * p / most),
            3.94 * v / most,
            np.cbrt(60.0 * p / jerk),
            np.sqrt(36.0 * v / jerk),
            9.0 * a / jerk,
        )
        return float(np.max(times))

    @staticmethod
    def between(old: Setpoint, new: Setpoint, now_ns: int, duration_s: float) -> Fade:
        """Return the difference between where a motion is and where the new one begins, vanishing in ``duration_s``."""
        p, v, a = (old.position - new.position, old.velocity - new.velocity, old.acceleration - new.acceleration)
        t = duration_s
        # End conditions p(T) = v(T) = a(T) = 0 solved for the three highest coefficients.
        third = -(20 * p + 12 * v * t + 3 * a * t**2) / (2 * t**3)
        fourth = (30 * p + 16 * v * t + 3 * a * t**2) / (2 * t**4)
        fifth = -(12 * p + 6 * v * t + a * t**2) / (2 * t**5)
        return Fade(now_ns, duration_s, np.stack([third, fourth, fifth]), Setpoint(p, v, a))

    def at(self, now_ns: int) -> Setpoint | None:
        """Return what is left of the difference; None when nothing is."""
        t = (now_ns - self.begin_ns) / 1e9
        if t >= self.duration_s:
            return None
        p, v, a = self.start.position, self.start.velocity, self.start.acceleration
        c3, c4, c5 = self.cubic_to_quintic
        return Setpoint(
            p + v * t + a * t**2 / 2 + c3 * t**3 + c4 * t**4 + c5 * t**5,
            v + a * t + 3 * c3 * t**2 + 4 * c4 * t**3 + 5 * c5 * t**4,
            a + 6 * c3 * t + 12 * c4 * t**2 + 20 * c5 * t**3,
        )
