"""Engines by name."""

from __future__ import annotations

from collections.abc import Callable

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import unknown_name
from policy_server.engines import onnxruntime_engine
from policy_server.engines.engine import Engine, EngineOptions

ENGINES: dict[str, Callable[[Bundle, EngineOptions], Engine]] = {"onnxruntime": onnxruntime_engine.load}


def load_engine(name: str, bundle: Bundle, options: EngineOptions) -> Engine:
    """Load a bundle into the named engine.

    Raises:
        SetupError: FV-ENG-003 for an unknown engine (with the nearest match), FV-ENG-001 and FV-ENG-002.
    """
    if name not in ENGINES:
        raise unknown_name("FV-ENG-003", "engine", name, ENGINES)
    return ENGINES[name](bundle, options)
