"""From the driver's unit of a gripper to the project's open fraction and back.

Three units are in use on the same robot (metres, radians, a fraction), and a wrong one looks like a gripper that cannot
open. So the map is always written down, never guessed, and a value that cannot belong to it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError

UNITS = ("metres", "radians", "normalised")
# A driver's unit is never finer than this, so a smaller range is a typing error.
SMALLEST_RANGE = 1e-3


@dataclass(frozen=True)
class GripperMap:
    """A straight line through two points.

    Attributes:
        unit: what the driver counts in, for messages.
        closed, open: the driver's values of a closed and of a wide open gripper; ``open`` may be the smaller one.
        tolerance: how far beyond either end a value may lie, as a share of the range; fingers give way a little.
    """

    unit: str
    closed: float
    open: float
    tolerance: float

    def __post_init__(self) -> None:
        """Refuse a map that is no line (FV-TOP-003)."""
        if abs(self.open - self.closed) < SMALLEST_RANGE:
            raise SetupError(
                "FV-TOP-003",
                f"the gripper is closed at {self.closed:g} and open at {self.open:g} {self.unit}; these must differ.",
            )
        if not 0 <= self.tolerance < 0.5:
            raise SetupError("FV-TOP-003", f"the gripper's tolerance is {self.tolerance:g}; wanted 0 to below 0.5.")

    def to_driver(self, fraction: float) -> float:
        """Return the driver's value of an open fraction; one beyond the ends is cut to them."""
        inside = min(max(fraction, 0.0), 1.0)
        return self.closed * (1.0 - inside) + self.open * inside

    def to_fraction(self, value: float) -> float:
        """Return the open fraction of a driver's value; a measured one may lie a little beyond 0..1."""
        return (value - self.closed) / (self.open - self.closed)

    def holds(self, fraction: float) -> bool:
        """Tell whether a fraction lies in the range, tolerance included."""
        return -self.tolerance <= fraction <= 1.0 + self.tolerance
