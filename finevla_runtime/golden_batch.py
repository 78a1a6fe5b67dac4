"""The golden batch of a bundle, kept as ``parity.npz``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError


@dataclass(frozen=True, eq=False)
class Parity:
    """Golden batch: every engine must reproduce it before it serves.

    Attributes:
        inputs: graph input name -> array with batch axis.
        outputs: graph output name -> array with batch axis.
        atol: largest absolute difference allowed, in model units.
        atol_half: the same for engines that compute in half precision; None holds them to ``atol``.
    """

    inputs: Mapping[str, npt.NDArray[np.generic]]
    outputs: Mapping[str, npt.NDArray[np.generic]]
    atol: float
    atol_half: float | None = None


def parity_bytes(parity: Parity) -> bytes:
    """Return the batch as a compressed npz archive."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"atol": np.asarray(parity.atol)}
    if parity.atol_half is not None:
        arrays["atol_half"] = np.asarray(parity.atol_half)
    arrays.update({f"input/{name}": value for name, value in parity.inputs.items()})
    arrays.update({f"output/{name}": value for name, value in parity.outputs.items()})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_parity(data: bytes, path: Path) -> Parity:
    """Return the batch of an archive (SetupError FV-BUN-005 when it cannot be read); ``path`` names the bundle."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
        atol = float(arrays.pop("atol"))
        half = arrays.pop("atol_half", None)
        atol_half = None if half is None else float(half)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise SetupError("FV-BUN-005", f"parity.npz of {path} cannot be read: {error}") from error
    return Parity(
        inputs={n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith("input/")},
        outputs={n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith("output/")},
        atol=atol,
        atol_half=atol_half,
    )
