"""Where the joints shall be at one instant, how fast they go, and how that changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import DOF

JointArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Setpoint:
    """One point of a motion.

    Attributes:
        position: float64[14] in the project's layout, rad and open fractions.
        velocity: float64[14], the same units per second.
        acceleration: float64[14], the same units per second squared.
    """

    position: JointArray
    velocity: JointArray
    acceleration: JointArray

    @staticmethod
    def at_rest(position: npt.ArrayLike) -> Setpoint:
        """Return the setpoint that stands still at float[14] ``position``."""
        return Setpoint(np.array(position, dtype=np.float64), np.zeros(DOF), np.zeros(DOF))

    @property
    def is_finite(self) -> bool:
        """Return whether every number is finite."""
        return bool(np.isfinite(self.position + self.velocity + self.acceleration).all())

    @property
    def is_at_rest(self) -> bool:
        """Return whether nothing moves and nothing is about to."""
        return not (self.velocity.any() or self.acceleration.any())

    def where(self, chosen: npt.NDArray[np.bool_], other: Setpoint) -> Setpoint:
        """Return this setpoint in the joints bool[14] ``chosen``, and ``other`` in the rest."""
        return Setpoint(
            np.where(chosen, self.position, other.position),
            np.where(chosen, self.velocity, other.velocity),
            np.where(chosen, self.acceleration, other.acceleration),
        )
