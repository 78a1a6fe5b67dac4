"""How action chunks are executed: when the next one is asked for, and how one goes over into the next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from finevla_runtime.contracts.errors import SetupError, unknown_name


class Strategy(str, Enum):
    """When the policy is asked, and what becomes of rows that several chunks predict.

    synchronous: the body executes the execution horizon, comes to rest, and only then is the policy asked again.
    asynchronous: the policy is asked while the body moves; the newest chunk replaces the rest of the one before.
    ensemble: as asynchronous, but a row is the weighted mean of all chunks that predict it (ACT, section III-C).
    """

    SYNCHRONOUS = "synchronous"
    ASYNCHRONOUS = "asynchronous"
    ENSEMBLE = "ensemble"

    @staticmethod
    def named(name: str) -> Strategy:
        """Return the strategy of that name (SetupError FV-MOT-003 for an unknown one)."""
        known = {strategy.value: strategy for strategy in Strategy}
        if name not in known:
            raise unknown_name("FV-MOT-003", "strategy", name, known)
        return known[name]


@dataclass(frozen=True)
class Execution:
    """Settings of one robot's execution.

    Attributes:
        strategy: see Strategy.
        execution_rows: execution horizon: rows after which the policy is asked again.
        blend_s: time in which the motion goes over from where the old chunk led to where the new one leads, up to
            three times as long where the limits ask for it; 0 leaves the seam to the guard's limits alone.
        ensemble_decay: m in the weight exp(-m i) of the i-th oldest chunk that predicts a row; 0 weighs all alike.
        longest_age_s: a chunk whose observation is older than this is refused.
    """

    strategy: Strategy
    execution_rows: int
    blend_s: float = 0.1
    ensemble_decay: float = 0.01
    longest_age_s: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing (FV-MOT-002)."""
        if self.execution_rows < 1:
            raise SetupError("FV-MOT-002", f"execution_rows is {self.execution_rows}; wanted 1 or more.")
        for name in ("blend_s", "ensemble_decay", "longest_age_s"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise SetupError("FV-MOT-002", f"{name} is {value}; wanted a finite number, 0 or more.")
        if self.longest_age_s == 0.0:
            raise SetupError("FV-MOT-002", "longest_age_s is 0, which refuses every chunk; wanted above 0.")
