"""The gate every engine passes before it serves: it must reproduce the bundle's golden batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.action import LAYOUTS
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import HALF, Engine

OUTPUT = "actions"


def check_parity(engine: Engine, bundle: Bundle, precision: str = "stored") -> float:
    """Run the golden batch and return the largest absolute difference in model units.

    A staged bundle has graphs per prompt length, so the rows of each shorter bucket also run by themselves.

    Args:
        engine: what is checked.
        bundle: its bundle, with the golden batch.
        precision: what the engine computes in; half precision has its own tolerance where the bundle stores one.

    Raises:
        SetupError: FV-PAR-001 when a value differs by more than the bundle's tolerance (names the joint),
            FV-PAR-002 when the golden batch or the output has the wrong shape.
    """
    spec, parity = bundle.spec, bundle.parity
    golden = parity.outputs.get(OUTPUT)
    if golden is None or golden.ndim != 3 or golden.shape[0] < 1:
        raise SetupError("FV-PAR-002", f"{bundle.path} has no golden batch of {OUTPUT!r}; export the bundle again.")
    worst = 0.0
    for items in _batches(bundle, len(golden)):
        wanted = (len(items), spec.chunk_rows, spec.action.size)
        rows = engine.run({name: value[items] for name, value in parity.inputs.items()})
        if golden[items].shape != wanted or rows.shape != wanted:
            raise SetupError(
                "FV-PAR-002",
                f"the engine answers {rows.shape} and the golden batch is {golden.shape}, the spec promises {wanted}.",
            )
        difference = np.abs(rows.astype(np.float64) - golden[items].astype(np.float64))
        difference[~np.isfinite(difference)] = np.inf
        _refuse_above(bundle, difference, items, precision)
        worst = max(worst, float(difference.max()))
    return worst


def _batches(bundle: Bundle, count: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the items to run together: all of them, then those of every bucket but the longest."""
    yield np.arange(count)
    tokens = bundle.parity.inputs.get("tokens")
    if bundle.plan.kind != "staged" or tokens is None:
        return
    used = tokens != bundle.spec.prompt.pad_id
    lengths = np.where(used.any(axis=1), tokens.shape[1] - used[:, ::-1].argmax(axis=1), 1)
    buckets = np.array([bundle.plan.bucket(int(length)) for length in lengths])
    for size in bundle.plan.buckets[:-1]:
        if (buckets == size).any():
            yield np.flatnonzero(buckets == size)


def _refuse_above(bundle: Bundle, difference: FloatArray, items: npt.NDArray[np.intp], precision: str) -> None:
    """Raise FV-PAR-001 when a difference is above the bundle's tolerance for this precision."""
    spec, parity = bundle.spec, bundle.parity
    atol = parity.atol if precision not in HALF or parity.atol_half is None else parity.atol_half
    worst = float(difference.max())
    if not worst <= atol:
        item, row, column = (int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
        joint = spec.action.names[LAYOUTS[spec.layout][column]]
        raise SetupError(
            "FV-PAR-001",
            f"the engine does not reproduce the golden batch of {spec.name}: joint {joint} differs by {worst:.3g} at "
            f"row {row} of item {items[item]}, allowed are {atol:.3g} in {precision} precision. It is not served; "
            "export the bundle again on this engine.",
        )
