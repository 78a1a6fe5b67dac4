"""Graphs executed by ONNX Runtime, with tensors bound where its provider computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError, SetupError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Target:
    """Where ONNX Runtime computes.

    Attributes:
        provider: execution provider.
        device: ``cpu`` or ``cuda``; where tensors lie between graphs.
        number: number of the device.
        threads: CPU threads of one run; 0 takes the library's choice.
    """

    provider: str = "CPUExecutionProvider"
    device: str = "cpu"
    number: int = 0
    threads: int = 0


class OnnxRuntimeGraphs:
    """Sessions of several graphs on one device."""

    def __init__(self, graphs: Mapping[str, Path], target: Target, outputs: Mapping[str, str]) -> None:
        """Load the graphs.

        Args:
            graphs: name -> ONNX file.
            target: where to compute.
            outputs: name -> the output that is asked of it; graphs that are not named here give their first one.

        Raises:
            SetupError: FV-ENG-002 when ONNX Runtime refuses a graph or it lacks the output.
        """
        self._target = target
        self._sessions = {name: _session(path, target) for name, path in graphs.items()}
        self._inputs = {n: {v.name for v in session.get_inputs()} for n, session in self._sessions.items()}
        self._outputs: dict[str, str] = {}
        for name, session in self._sessions.items():
            found = [value.name for value in session.get_outputs()]
            self._outputs[name] = outputs.get(name, found[0])
            if self._outputs[name] not in found:
                raise SetupError(
                    "FV-ENG-002", f"{name}.onnx has no output {self._outputs[name]!r}; export the bundle again."
                )

    def providers(self) -> set[str]:
        """Return the providers every session really uses; the library drops one it cannot start."""
        return set.intersection(*(set(session.get_providers()) for session in self._sessions.values()))

    def upload(self, array: npt.NDArray[np.generic]) -> OrtValue:
        """Return the array on the device."""
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(array, self._target.device, self._target.number)

    def run(self, graph: str, inputs: Mapping[str, OrtValue]) -> OrtValue:
        """Return the graph's output on the device (PolicyError FV-ENG-004 when the graph fails)."""
        feed = {name: value for name, value in inputs.items() if name in self._inputs[graph]}
        session = self._sessions[graph]
        try:
            binding = session.io_binding()
            for name, value in feed.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_output(self._outputs[graph], self._target.device, self._target.number)
            session.run_with_iobinding(binding)
            return binding.get_outputs()[0]
        except Exception as error:  # The binding has one class per cause, all of them plain Exception.
            raise PolicyError("FV-ENG-004", f"graph {graph} failed on {sorted(feed)}: {error}") from error

    def advance(self, x: OrtValue, velocity: OrtValue, step: float) -> OrtValue:
        """Return ``x + step * velocity``, through host memory: ONNX Runtime has no arithmetic outside of graphs.

        The rows are a few kilobytes; the hidden states of the prefix stay where they are.
        """
        return self.upload(self.download(x) + np.float32(step) * self.download(velocity))

    def blend(self, x: OrtValue, target: OrtValue, weight: OrtValue) -> OrtValue:
        """Return ``(1 - weight) * x + weight * target``, through host memory as above."""
        share = self.download(weight)
        return self.upload((1 - share) * self.download(x) + share * self.download(target))

    def download(self, tensor: OrtValue) -> FloatArray:
        """Return a tensor as float32 in host memory."""
        # A copy, because the view of a tensor that came from numpy dies with the array it came from.
        return np.array(tensor.numpy(), dtype=np.float32)


def _session(path: Path, target: Target) -> InferenceSession:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = target.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = ERRORS_ONLY
    # Spinning threads would take the CPU from the simulators that share this machine between requests.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider: tuple[str, dict[str, str]] = (target.provider, {})
    if target.device == "cuda":
        provider = (target.provider, {"device_id": str(target.number)})
    try:
        return ort.InferenceSession(str(path), settings, providers=[provider])
    except Exception as error:  # The binding has one class per cause, all of them plain Exception.
        raise SetupError("FV-ENG-002", f"ONNX Runtime cannot load {path.name}: {error}") from error
