"""TensorRT or TensorRT for RTX, whichever is installed: both have the same Python API."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from types import ModuleType

from policy_server.engines.library import missing

LOG = logging.getLogger(__name__)
# The full library first: where both are installed it was chosen on purpose.
FLAVOURS = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
# TensorRT for RTX compiles the last step for the GPU it finds, so what it builds without one runs on several.
PORTABLE = "portable (built without GPU)"


@dataclass(frozen=True, slots=True)
class Library:
    """An installed flavour.

    Attributes:
        trt: the module.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        version: its version.
    """

    trt: ModuleType
    flavour: str
    version: str


def tensorrt_library() -> Library:
    """Return the installed flavour (SetupError FV-ENG-008 when there is none)."""
    for name in FLAVOURS:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:
            # A placeholder package or a library that does not load is as good as none; the next one may work.
            LOG.debug("%s: %s", name, error)
            continue
        flavour = "tensorrt" if name == "tensorrt" else "tensorrt_rtx"
        return Library(module, flavour, str(module.__version__))
    raise missing("tensorrt", "engine tensorrt")


def gpu_name(number: int = 0) -> str:
    """Return name and compute capability of a GPU, PORTABLE where torch finds none."""
    try:
        import torch
    except ModuleNotFoundError:
        return PORTABLE
    if number >= torch.cuda.device_count():
        return PORTABLE
    major, minor = torch.cuda.get_device_capability(number)
    return f"{torch.cuda.get_device_name(number)} (compute capability {major}.{minor})"


def logger(library: Library) -> object:
    """Return a TensorRT logger that hands warnings and errors to ``logging``."""
    trt = library.trt
    severities = trt.ILogger.Severity

    class Handed(trt.ILogger):  # type: ignore[name-defined, misc]
        """Hands a message on; TensorRT calls it from several threads."""

        def log(self, severity: object, message: str) -> None:
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                LOG.error("TensorRT: %s", message)
            elif severity == severities.WARNING:
                LOG.warning("TensorRT: %s", message)

    # The class calls this itself only when it is not subclassed.
    made = Handed()
    trt.ILogger.__init__(made)
    return made
