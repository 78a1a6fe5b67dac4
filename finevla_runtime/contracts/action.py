"""Action spaces and action chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.arrays import FloatArray, frozen_float32
from finevla_runtime.contracts.errors import SetupError

# The joint layout everywhere inside the project: left arm, left gripper, right arm, right gripper.
JOINT_NAMES: tuple[str, ...] = (
    *(f"left_j{i}" for i in range(1, 7)),
    "left_gripper",
    *(f"right_j{i}" for i in range(1, 7)),
    "right_gripper",
)
DOF = len(JOINT_NAMES)
GRIPPER_INDICES = (6, 13)

# Foreign layouts, each as the project index that stands at every foreign position.
# StarVLA's RoboTwin data configuration orders [L6, R6, left gripper, right gripper].
LAYOUTS: dict[str, tuple[int, ...]] = {
    "project": tuple(range(14)),
    "starvla_robotwin": (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 6, 13),
}


@dataclass(frozen=True)
class ActionSpace:
    """What one action row means.

    Attributes:
        names: dimension names in order, the project's layout.
        units: one unit per dimension, ``rad`` or ``open_fraction``.
        lower, upper: inclusive limits per dimension in those units.
        representation: how rows are to be read; only ``absolute_joint_position`` exists today.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    representation: str = "absolute_joint_position"

    def __post_init__(self) -> None:
        """Refuse lists of different length and empty ranges (FV-ACT-001)."""
        if not len(self.names) == len(self.units) == len(self.lower) == len(self.upper):
            raise SetupError("FV-ACT-001", "action names, units and limits differ in length.")
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            if not low < high:
                raise SetupError("FV-ACT-001", f"action {name} has limits {low}..{high}; lower must be less.")

    @property
    def size(self) -> int:
        """Return the number of dimensions."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """Rows of joint targets that a policy predicted for consecutive control steps.

    Attributes:
        chunk_id: unique id given by the server.
        positions: float32[rows, dof], robot units, project layout, all finite.
        first_control_step: control step that row 0 belongs to.
        step_s: seconds between rows.
        capture_time_ns: echo of the observation's stamp, on the observer's clock.
        model_name, model_version: provenance of every action.
        model_s: seconds the model needed, for latency reports.
    """

    chunk_id: str
    positions: FloatArray
    first_control_step: int
    step_s: float
    capture_time_ns: int
    model_name: str
    model_version: str
    model_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse wrong shapes and non-finite rows whole (FV-ACT-003)."""
        rows = frozen_float32(self.positions, (None, DOF), f"action chunk {self.chunk_id!r}", "FV-ACT-003")
        object.__setattr__(self, "positions", rows)

    @property
    def rows(self) -> int:
        """Return the prediction horizon."""
        return int(self.positions.shape[0])


@dataclass(frozen=True, eq=False)
class ChunkPrefix:
    """Rows that the next chunk must continue (real-time chunking, Black et al. 2025, section 4).

    Attributes:
        chunk_id: of the chunk they come from.
        positions: float32[n, dof], robot units, project layout; row 0 belongs to the control step of the observation.
        delay_rows: how many of them will have been executed when the answer comes.
        execution_rows: rows until the following request.
    """

    chunk_id: str
    positions: FloatArray
    delay_rows: int
    execution_rows: int


def to_layout(rows: FloatArray, layout: str) -> FloatArray:
    """Reorder float32[..., 14] from the project's layout to a named foreign one."""
    return np.ascontiguousarray(rows[..., list(LAYOUTS[layout])])


def from_layout(rows: FloatArray, layout: str) -> FloatArray:
    """Reorder float32[..., 14] from a named foreign layout to the project's one."""
    inverse = np.argsort(np.asarray(LAYOUTS[layout]))
    return np.ascontiguousarray(rows[..., inverse])
