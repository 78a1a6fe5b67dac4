"""What every engine does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray

Tensors = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine may use the machine.

    Attributes:
        threads: CPU threads of one inference; 0 leaves the choice to the library.
    """

    threads: int = 0


class Engine(Protocol):
    """Runs the policy graph of one bundle; called by one thread at a time."""

    def run(self, inputs: Tensors) -> FloatArray:
        """Return normalised action rows float32[batch, rows, dof] for inputs with a leading batch axis."""
        ...
