"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import PolicyError, SetupError
from policy_server.engines.engine import EngineOptions, Tensors

GRAPH = "policy"
OUTPUT = "actions"
ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """Runs ``graphs/policy.onnx``."""

    def __init__(self, graph: Path, options: EngineOptions) -> None:
        """Load the graph (SetupError FV-ENG-002 when ONNX Runtime refuses it or it has no ``actions``)."""
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = ERRORS_ONLY
        # Spinning threads would take the CPU from the simulators that share this machine between requests.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # The binding has one class per cause, all of them plain Exception.
            raise SetupError("FV-ENG-002", f"ONNX Runtime cannot load {graph.name}: {error}") from error
        self._inputs = {value.name for value in self._session.get_inputs()}
        if OUTPUT not in {value.name for value in self._session.get_outputs()}:
            raise SetupError("FV-ENG-002", f"{graph.name} has no output {OUTPUT!r}; export the bundle again.")

    def run(self, inputs: Tensors) -> FloatArray:
        """Return normalised action rows float32[batch, rows, dof] (PolicyError FV-ENG-004 when the graph fails)."""
        feed = {name: value for name, value in inputs.items() if name in self._inputs}
        try:
            rows: FloatArray = np.asarray(self._session.run([OUTPUT], feed)[0], dtype=np.float32)
        except Exception as error:
            raise PolicyError("FV-ENG-004", f"the graph failed on {sorted(feed)}: {error}") from error
        return rows


def load(bundle: Bundle, options: EngineOptions) -> OnnxRuntimeEngine:
    """Load the policy graph of a verified bundle (SetupError FV-ENG-001 when it has none)."""
    graph = bundle.graphs.get(GRAPH)
    if graph is None:
        raise SetupError("FV-ENG-001", f"{bundle.path} has no graphs/{GRAPH}.onnx; export the bundle again.")
    return OnnxRuntimeEngine(graph, options)
