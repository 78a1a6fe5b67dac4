"""Engines by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import unknown_name
from policy_server.engines.engine import PRECISIONS, EngineOptions, LoadedEngine
from policy_server.engines.library import INSTALL, missing

Load = Callable[[Bundle, EngineOptions], LoadedEngine]

# Modules, not functions: an engine's library is imported only where that engine is asked for.
ENGINES: dict[str, str] = {
    "onnxruntime": "policy_server.engines.onnxruntime_engine",
    "onnxruntime-cuda": "policy_server.engines.onnxruntime_cuda_engine",
    "torch": "policy_server.engines.torch_engine",
    "tensorrt": "policy_server.engines.tensorrt_engine",
}


def load_engine(name: str, bundle: Bundle, options: EngineOptions) -> LoadedEngine:
    """Load a bundle into the named engine.

    Raises:
        SetupError: FV-ENG-003 for an unknown engine or precision (with the nearest match), FV-ENG-008 when its
            library is not installed (with the command), and what the engine's own ``load`` raises.
    """
    if name not in ENGINES:
        raise unknown_name("FV-ENG-003", "engine", name, ENGINES)
    if options.precision not in PRECISIONS:
        raise unknown_name("FV-ENG-003", "precision", options.precision, PRECISIONS)
    try:
        load = cast(Load, importlib.import_module(ENGINES[name]).load)
        return load(bundle, options)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in INSTALL:
            raise
        raise missing(library, f"engine {name}") from error
