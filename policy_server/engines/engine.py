"""What every engine does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError

Tensors = Mapping[str, npt.NDArray[np.generic]]

# ``stored`` computes in the precision the bundle was exported in.
PRECISIONS = ("stored", "fp32", "fp16", "bf16")
HALF = ("fp16", "bf16")
# What a bundle says of its backbone -> what engines call it.
PRECISION_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class EngineOptions:
    """How an engine may use the machine.

    Attributes:
        threads: CPU threads of one inference; 0 leaves the choice to the library.
        precision: one of ``PRECISIONS``.
        folder: folder of a built engine (TensorRT).
        device: ``cpu`` or ``cuda:<number>``; empty for the engine's own choice.
    """

    threads: int = 0
    precision: str = "stored"
    folder: Path | None = None
    device: str = ""


class Engine(Protocol):
    """Runs the policy graphs of one bundle; called by one thread at a time."""

    def run(self, inputs: Tensors) -> FloatArray:
        """Return normalised action rows float32[batch, rows, dof] for inputs with a leading batch axis."""
        ...

    @property
    def continues(self) -> bool:
        """Return whether it holds rows to those of a chunk before, given as ``processing.continuation`` inputs."""
        ...


class LoadedEngine(Engine, Protocol):
    """An engine that was loaded from a bundle and knows what it computes in."""

    @property
    def precision(self) -> str:
        """Return one of ``PRECISIONS``; the parity gate holds half precision to its own tolerance."""
        ...


def refuse_precision(options: EngineOptions, known: tuple[str, ...], engine: str, instead: str) -> None:
    """Refuse a precision this engine cannot compute in (SetupError FV-ENG-005); ``instead`` says what to do."""
    if options.precision not in known:
        raise SetupError(
            "FV-ENG-005",
            f"engine {engine} computes in {' or '.join(known)}, not in {options.precision!r}; {instead}.",
        )


def refuse_unused(options: EngineOptions, engine: str, device: bool = True) -> None:
    """Refuse options that an engine would not hear (SetupError FV-ENG-018).

    Args:
        options: what was asked for.
        engine: name of an engine that needs no built folder.
        device: whether it runs anywhere but on the CPU.
    """
    if options.folder is not None:
        raise SetupError("FV-ENG-018", f"engine {engine} is not built ahead; leave --engine-dir {options.folder} away.")
    if not device and options.device not in ("", "cpu"):
        raise SetupError(
            "FV-ENG-018",
            f"engine {engine} runs on the CPU, not on {options.device!r}; choose onnxruntime-cuda or tensorrt.",
        )


def stored_precision(bundle: Bundle) -> str:
    """Return what the backbone of a bundle is stored in: ``fp32``, ``fp16`` or ``bf16``."""
    return PRECISION_NAMES.get(bundle.provenance.get("precision", "float32"), "fp32")


def cuda_number(device: str, engine: str) -> int:
    """Return the number of a ``cuda:<number>`` device; empty means the first (SetupError FV-ENG-009 otherwise)."""
    kind, _, number = (device or "cuda:0").partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise SetupError("FV-ENG-009", f"engine {engine} runs on cuda:<number>, not on {device!r}.")
    return int(number or "0")
