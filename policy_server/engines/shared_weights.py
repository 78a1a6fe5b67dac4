"""The weights that ONNX graphs and torch programs of a bundle share: one file, one list of its tensors."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError

INDEX, WEIGHTS = "graphs/weights.json", "graphs/weights.bin"
DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def shared_weights(bundle: Bundle) -> Mapping[str, Tensor]:
    """Return tensors by state-dict name, mapped from the file; empty where the programs hold their own weights.

    The map is private to the process: what is written to a tensor never reaches the file.

    Raises:
        SetupError: FV-ENG-007 for an entry that is no tensor inside the file.
    """
    if INDEX not in bundle.files or WEIGHTS not in bundle.files:
        return {}
    index, path = bundle.files[INDEX], bundle.files[WEIGHTS]
    if not path.stat().st_size:
        return {}
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        entries = json.loads(index.read_bytes())
        return {str(name): _tensor(mapped, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise SetupError("FV-ENG-007", f"{_name(index)} cannot be read ({error}); export the bundle again.") from error


def _tensor(mapped: mmap.mmap, entry: Mapping[str, object]) -> Tensor:
    """Return the tensor of one entry: ``dtype``, ``shape``, ``offset`` and ``bytes``."""
    shape, offset, size = entry["shape"], entry["offset"], entry["bytes"]
    if not isinstance(shape, list) or type(offset) is not int or type(size) is not int or offset < 0:
        raise ValueError(f"entry {entry!r}")
    dtype = DTYPES[str(entry["dtype"])]
    if not size:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mapped, dtype=dtype, count=size // dtype.itemsize, offset=offset).reshape(shape)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
