"""ONNX Runtime on the CPU."""

from __future__ import annotations

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions, LoadedEngine, refuse_precision, refuse_unused, stored_precision
from policy_server.engines.onnxruntime_graphs import OnnxRuntimeGraphs, Target
from policy_server.engines.staged import HEAD, POLICY, StagedEngine, stages_of

NAME = "onnxruntime"


def load(bundle: Bundle, options: EngineOptions) -> LoadedEngine:
    """Load the graphs of a verified bundle.

    Raises:
        SetupError: FV-ENG-001 when a graph is missing, FV-ENG-002 when ONNX Runtime refuses one, FV-ENG-005 for a
            precision the bundle was not exported in.
    """
    refuse_precision(options, ("stored",), NAME, "export the bundle in the precision it shall run in")
    refuse_unused(options, NAME, device=False)
    if stored_precision(bundle) == "bf16":
        raise SetupError(
            "FV-ENG-005",
            f"{bundle.path} is stored in bfloat16, which ONNX Runtime does not compute in on the CPU; serve it with "
            "--engine torch or tensorrt, or export it in float32 or float16.",
        )
    stages = stages_of(bundle, bundle.graphs)
    graphs = {name: bundle.graphs[name] for name in stages.graphs}
    runner = OnnxRuntimeGraphs(graphs, Target(threads=options.threads), last_outputs(bundle))
    return StagedEngine(bundle, stages, runner)


def last_outputs(bundle: Bundle) -> dict[str, str]:
    """Return the output that the last graph of the plan must have; the graphs before it have one output each."""
    if bundle.plan.kind == "single":
        return {POLICY: "actions"}
    return {HEAD: "velocity" if bundle.plan.denoise_steps else "actions"}
