"""Continuation: the rows of the chunk before, in model space, that the next one must continue (real-time chunking)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.arrays import FloatArray, frozen_float32
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.processing.normalise import MAX_MODEL_VALUE

# Inputs of an engine that continues: rows float32[chunk_rows, dof] and the pull towards them float32[chunk_rows].
PREVIOUS, PREVIOUS_WEIGHT = "previous", "previous_weight"


@dataclass(frozen=True, eq=False)
class Continuation:
    """What a chunk continues.

    Attributes:
        rows: float32[n, dof], model units and model layout; row 0 belongs to the control step of the observation.
        delay_rows: how many of them will have been executed when the answer comes.
        execution_rows: rows until the following request.
    """

    rows: FloatArray
    delay_rows: int
    execution_rows: int

    def __post_init__(self) -> None:
        """Refuse what no chunk can continue (PolicyError FV-ACT-005)."""
        rows = frozen_float32(self.rows, (None, None), "the rows to continue", "FV-ACT-005")
        object.__setattr__(self, "rows", rows)
        if not rows.size:
            raise PolicyError("FV-ACT-005", f"the rows to continue have shape {rows.shape}; wanted one row or more.")
        if np.abs(rows).max() > MAX_MODEL_VALUE:
            raise PolicyError(
                "FV-ACT-005",
                f"the rows to continue reach {np.abs(rows).max():.3g} in normalised units, at most {MAX_MODEL_VALUE:g} "
                "are a motion; normalise them with the statistics of this model.",
            )
        if not 0 <= self.delay_rows <= len(rows):
            raise PolicyError(
                "FV-ACT-005", f"the delay is {self.delay_rows} rows; wanted 0 to the {len(rows)} rows to continue."
            )
        if self.execution_rows < 1:
            raise PolicyError("FV-ACT-005", f"the execution horizon is {self.execution_rows} rows; wanted 1 or more.")

    def weights(self, chunk_rows: int) -> FloatArray:
        """Return float32[chunk_rows], how firmly each row is held: the soft mask of real-time chunking.

        1 for rows that will have been executed, so that nothing changes behind the robot's back; then falling
        exponentially, because the further ahead a row is, the less the old plan knew; 0 from the execution horizon
        before the end of the chunk on, and where there is no previous row. Source: the soft mask of Black, Galliker and
        Levine 2025, "Real-Time Execution of Action Chunking Flow Policies".
        """
        row = np.arange(chunk_rows)
        end = min(len(self.rows), chunk_rows - self.execution_rows)
        left = np.clip((end - row) / max(end - self.delay_rows + 1, 1), 0.0, 1.0)
        soft = left * np.expm1(left) / np.expm1(1.0)
        return np.where(row < self.delay_rows, 1.0, soft).astype(np.float32)


def continuation_inputs(continuation: Continuation | None, shape: tuple[int, int]) -> dict[str, FloatArray]:
    """Return the engine inputs that hold a chunk float32[chunk_rows, dof] of ``shape`` to what it continues.

    Without a continuation every weight is 0, so that requests with and without one share a batch.
    """
    rows, weights = np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)
    if continuation is not None:
        rows[: len(continuation.rows)] = continuation.rows
        weights = continuation.weights(shape[0])
    return {PREVIOUS: rows, PREVIOUS_WEIGHT: weights}
