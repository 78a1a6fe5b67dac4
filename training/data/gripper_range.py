"""Gripper readings of a dataset to the project's open fraction, 0 closed .. 1 open.

Cobot Magic datasets alone use three standards: radians up to 4.7 (RDT), up to 0.7 (RoboCOIN, RoboMIND 1) and 0 to 0.07
(RoboMIND 2). A binary target at 0.5 of raw units is meaningless for two of them, so each dataset states its range and a
dataset whose readings do not fit what it states is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.action import GRIPPER_INDICES, JOINT_NAMES
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.processing.normalise import BINARY_THRESHOLD

# Sensors overshoot their range a little; a whole other unit is further off than this.
_OVERSHOOT = 0.1
_MOVES = 0.02


@dataclass(frozen=True)
class GripperRange:
    """Readings of a closed and of an open gripper in the dataset's own unit; ``closed`` may be the greater one.

    Attributes:
        closed, open: reading at 0 and at 1 of the open fraction.
    """

    closed: float = 0.0
    open: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty or non-finite range (FV-DAT-005)."""
        if not np.isfinite([self.closed, self.open]).all() or self.closed == self.open:
            raise SetupError("FV-DAT-005", f"gripper range {self.closed}..{self.open} is empty or not finite.")

    def apply(self, rows: FloatArray) -> FloatArray:
        """Return rows float32[..., 14] of the project's layout with grippers as open fraction, clipped to 0..1."""
        out = np.array(rows, dtype=np.float32)
        grippers = list(GRIPPER_INDICES)
        fraction = (out[..., grippers] - self.closed) / (self.open - self.closed)
        out[..., grippers] = np.clip(fraction, 0.0, 1.0)
        return out

    def check(self, rows: FloatArray, what: str) -> None:
        """Refuse rows float32[n, 14] (raw units) whose gripper readings lie outside the range (FV-DAT-005)."""
        for index in GRIPPER_INDICES:
            column = rows[:, index]
            fraction = (column - self.closed) / (self.open - self.closed)
            low, high = float(fraction.min()), float(fraction.max())
            if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
                raise SetupError(
                    "FV-DAT-005",
                    f"{what}: {JOINT_NAMES[index]} reads {float(column.min()):.4g}..{float(column.max()):.4g}, its "
                    f"stated range is {self.closed:g} (closed) .. {self.open:g} (open); state the range of this "
                    "dataset's unit.",
                )


def check_binary(rows: FloatArray, what: str) -> None:
    """Refuse binary targets of a gripper that moves without ever crossing the threshold (FV-DAT-006).

    Args:
        rows: float32[n, 14], grippers as open fraction.
        what: dataset, for the error.
    """
    for index in GRIPPER_INDICES:
        low, high = float(rows[:, index].min()), float(rows[:, index].max())
        if high - low > _MOVES and (high <= BINARY_THRESHOLD or low > BINARY_THRESHOLD):
            raise SetupError(
                "FV-DAT-006",
                f"{what}: {JOINT_NAMES[index]} moves within {low:.4g}..{high:.4g} of its open fraction and never "
                f"crosses {BINARY_THRESHOLD}, so every binary target would be the same; state the gripper range of "
                "this dataset's unit, or train grippers with min_max.",
            )
