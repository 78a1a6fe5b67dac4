"""Libraries that only some engines need."""

from __future__ import annotations

import importlib
from types import ModuleType

from finevla_runtime.contracts.errors import SetupError

INSTALL = {
    "onnxruntime": "pip install onnxruntime",
    "onnx": "pip install onnx",
    "torch": "pip install torch==2.13.0",
    "tensorrt": "pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings, or NVIDIA's tensorrt package",
}


def require(name: str, purpose: str) -> ModuleType:
    """Return an installed library (SetupError FV-ENG-008 with the command that installs it)."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing(name, purpose) from error


def missing(name: str, purpose: str) -> SetupError:
    """Return the error that says how to install a library."""
    return SetupError("FV-ENG-008", f"{purpose} needs {name}, which is not installed: {INSTALL[name]}")
