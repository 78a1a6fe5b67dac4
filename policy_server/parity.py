"""The gate every engine passes before it serves: it must reproduce the bundle's golden batch."""

from __future__ import annotations

import numpy as np

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.action import LAYOUTS
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import HALF, Engine

OUTPUT = "actions"


def check_parity(engine: Engine, bundle: Bundle, precision: str = "stored") -> float:
    """Run the golden batch and return the largest absolute difference in model units.

    Args:
        engine: what is checked.
        bundle: its bundle, with the golden batch.
        precision: what the engine computes in; half precision has its own tolerance where the bundle stores one.

    Raises:
        SetupError: FV-PAR-001 when a value differs by more than the bundle's tolerance (names the joint),
            FV-PAR-002 when the golden batch or the output has the wrong shape.
    """
    spec, parity = bundle.spec, bundle.parity
    atol = parity.atol if precision not in HALF or parity.atol_half is None else parity.atol_half
    golden = parity.outputs.get(OUTPUT)
    if golden is None or golden.ndim != 3 or golden.shape[0] < 1:
        raise SetupError("FV-PAR-002", f"{bundle.path} has no golden batch of {OUTPUT!r}; export the bundle again.")
    wanted = (golden.shape[0], spec.chunk_rows, spec.action.size)
    rows = engine.run(parity.inputs)
    if golden.shape != wanted or rows.shape != wanted:
        raise SetupError(
            "FV-PAR-002",
            f"the engine answers {rows.shape} and the golden batch is {golden.shape}, the spec promises {wanted}.",
        )
    difference = np.abs(rows.astype(np.float64) - golden.astype(np.float64))
    difference[~np.isfinite(difference)] = np.inf
    worst = float(difference.max())
    if not worst <= atol:
        item, row, column = (int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
        joint = spec.action.names[LAYOUTS[spec.layout][column]]
        raise SetupError(
            "FV-PAR-001",
            f"the engine does not reproduce the golden batch of {spec.name}: joint {joint} differs by {worst:.3g} at "
            f"row {row} of item {item}, allowed are {atol:.3g} in {precision} precision. It is not served; export the "
            "bundle again on this engine.",
        )
    return worst
