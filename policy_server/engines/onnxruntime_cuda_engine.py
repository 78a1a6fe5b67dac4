"""ONNX Runtime on an NVIDIA GPU; hidden states stay in its memory between the graphs."""

from __future__ import annotations

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions, LoadedEngine, cuda_number, refuse_precision, refuse_unused
from policy_server.engines.onnxruntime_engine import last_outputs
from policy_server.engines.onnxruntime_graphs import OnnxRuntimeGraphs, Target
from policy_server.engines.staged import StagedEngine, stages_of

NAME = "onnxruntime-cuda"
PROVIDER = "CUDAExecutionProvider"
# Both packages install the same module, so the CPU one has to go first.
INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


def load(bundle: Bundle, options: EngineOptions) -> LoadedEngine:
    """Load the graphs of a verified bundle onto a GPU.

    Raises:
        SetupError: FV-ENG-006 when this ONNX Runtime has no CUDA provider or it does not start, FV-ENG-009 for a
            device that is no GPU, and as for ``onnxruntime``.
    """
    import onnxruntime as ort

    refuse_precision(options, ("stored",), NAME, "export the bundle in the precision it shall run in")
    refuse_unused(options, NAME)
    number = cuda_number(options.device, NAME)
    available = ort.get_available_providers()
    if PROVIDER not in available:
        raise SetupError(
            "FV-ENG-006",
            f"engine {NAME} needs {PROVIDER}; this ONNX Runtime {ort.__version__} has {', '.join(available)}. "
            f"On a machine with an NVIDIA GPU: {INSTALL}",
        )
    stages = stages_of(bundle, bundle.graphs)
    graphs = {name: bundle.graphs[name] for name in stages.graphs}
    runner = OnnxRuntimeGraphs(graphs, Target(PROVIDER, "cuda", number, options.threads), last_outputs(bundle))
    if PROVIDER not in runner.providers():
        raise SetupError(
            "FV-ENG-006",
            f"{PROVIDER} did not start on cuda:{number} (driver, CUDA or cuDNN missing: its log says which); "
            "serve with --engine onnxruntime, or repair the CUDA installation.",
        )
    return StagedEngine(bundle, stages, runner)
