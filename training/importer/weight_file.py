"""Tensors of a foreign weight file, or a coded reason why they cannot be had."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError

# Types that upstream saves; integers, float64 and 8-bit floats would be another kind of file.
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# How torch names the class or function that a file wants to call.
_OBJECT = re.compile(r"GLOBAL (\S+)")
_ZIP_HEAD = b"PK\x03\x04"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a ``.pt`` or ``.safetensors`` file, without running anything in it.

    The tensors stay mapped to the file where the format allows it, so that a large model is read once.

    Raises:
        SetupError: FV-IMP-005 for a damaged or truncated file, FV-IMP-006 for a ``.pt`` that holds anything but a
            flat table of tensors, FV-IMP-007 for a tensor of a wrong type or with a value that is not finite.
    """
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise SetupError("FV-IMP-007", f"{path.name}: {name} is {tensor.dtype}, wanted one of {wanted}.")
        if not bool(torch.isfinite(tensor).all()):
            raise SetupError("FV-IMP-007", f"{path.name}: {name} has values that are not finite; training diverged.")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # No mapping.
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_pt(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        mapped = file.read(len(_ZIP_HEAD)) == _ZIP_HEAD
    try:
        loaded: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises the unpickler's own class, which no file of ours may import.
        named = _OBJECT.search(str(error))
        if named:
            raise _not_only_tensors(path, f"an object of {named.group(1)}, which could run code when loaded") from error
        raise _damaged(path, error) from error
    if not isinstance(loaded, dict):
        raise _not_only_tensors(path, f"a {type(loaded).__name__}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _not_only_tensors(path, f"{name!r}: {type(value).__name__}")
    return loaded


def _damaged(path: Path, error: Exception) -> SetupError:
    # Torch explains at length how to load without protection, which is no advice for a damaged file.
    first = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return SetupError(
        "FV-IMP-005",
        f"{path} ({path.stat().st_size} bytes) cannot be read, it is damaged or cut off: {first}. Copy it again.",
    )


def _not_only_tensors(path: Path, got: str) -> SetupError:
    return SetupError(
        "FV-IMP-006",
        f"{path} holds {got}. It is read with weights_only, so that no code in it runs, and only a flat table "
        "name -> tensor is accepted. In the environment that trained it, save model.state_dict() alone, best as "
        "safetensors.",
    )
