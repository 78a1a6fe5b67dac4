"""Builds TensorRT plans from the graphs of a bundle; TensorRT for RTX does so without a GPU."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import stored_precision
from policy_server.engines.engine_record import FILE, EngineRecord, digests
from policy_server.engines.half_graph import write_half_graph
from policy_server.engines.library import require
from policy_server.engines.staged import HEAD, Stages, stages_of
from policy_server.engines.tensorrt_library import PORTABLE, Library, gpu_name, logger

PLAN = ".plan"
WORKSPACE_BYTES = 4 << 30
MOST_ERRORS = 3


def build_engine(
    bundle: Bundle, folder: Path, precision: str, max_batch: int, library: Library, report: Callable[[str], None]
) -> EngineRecord:
    """Build every graph of the bundle's plan and write ``engine.json`` last.

    Args:
        bundle: a verified bundle.
        folder: where the plans go; an older engine there is replaced.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        max_batch: largest batch; smaller ones run on the same plans.
        library: the TensorRT to build with.
        report: gets one line per graph.

    Raises:
        SetupError: FV-ENG-001 (a graph is missing), FV-ENG-008 (``onnx`` is missing), FV-ENG-010 (``folder`` holds
            something else), FV-ENG-015 (TensorRT refuses a graph, with its own words).
    """
    stored = stored_precision(bundle)
    if max_batch < 1:
        raise SetupError("FV-ENG-015", f"--max-batch {max_batch}; wanted 1 or more.")
    if stored not in ("fp32", precision):
        raise SetupError(
            "FV-ENG-015", f"{bundle.path} is stored in {stored}; build it in that precision, not {precision}."
        )
    stages = stages_of(bundle, bundle.graphs, static_prefix=True)
    if folder.exists() and any(folder.iterdir()) and not (folder / FILE).is_file():
        raise SetupError("FV-ENG-010", f"{folder} exists and is no engine; choose another folder.")
    if precision != "fp32":
        require("onnx", f"building in {precision}")
    folder.mkdir(parents=True, exist_ok=True)
    for old in (folder / FILE, *folder.glob(f"*{PLAN}")):
        old.unlink(missing_ok=True)
    builder = _Builder(library, stages, max_batch)
    with tempfile.TemporaryDirectory(prefix=".build.", dir=folder) as room:
        for name in stages.graphs:
            graph = bundle.graphs[name]
            # Heads are float32 wherever they are a graph of their own, as they were in training.
            exact = precision == "fp32" or name == HEAD
            # A bundle that is stored in half precision is built as it is.
            if not exact and stored == "fp32":
                graph = Path(room) / f"{name}.onnx"
                write_half_graph(bundle.graphs[name], graph, precision)
            size = builder.build(name, graph, folder / f"{name}{PLAN}", exact)
            report(f"{name}: {size / 1e6:.1f} MB")
            # Converted weights of one graph make room for those of the next.
            shutil.rmtree(room)
            Path(room).mkdir()
    plans = digests(folder, [f"{name}{PLAN}" for name in stages.graphs])
    record = EngineRecord(bundle.digest, library.flavour, library.version, builder.gpu, precision, max_batch, plans)
    (folder / FILE).write_text(record.to_json(), encoding="utf-8")
    return record


class _Builder:
    """Parses and builds single graphs with the same options."""

    def __init__(self, library: Library, stages: Stages, max_batch: int) -> None:
        self._library = library
        # TensorRT keeps a plain pointer to its logger.
        self._logger = logger(library)
        self._builder: Any = library.trt.Builder(self._logger)
        buckets = stages.plan.buckets
        self._lengths = (buckets[0], buckets[0], buckets[-1]) if buckets else None
        self._max_batch = max_batch
        self.gpu = gpu_name()

    def build(self, name: str, graph: Path, target: Path, exact: bool) -> int:
        """Build one graph and return the size of its plan in bytes (SetupError FV-ENG-015 when it cannot be built)."""
        trt = self._library.trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(graph)):
            found = [parser.get_error(i) for i in range(min(parser.num_errors, MOST_ERRORS))]
            errors = "; ".join(f"{e.node_operator() or 'graph'} {e.node_name()!r}: {e.desc()}" for e in found)
            raise SetupError("FV-ENG-015", f"{self._label()} cannot parse {name}.onnx: {errors}")
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        if exact:
            # TF32 keeps 10 bits of each factor: faster, but no float32 and outside of the tolerance of a bundle.
            config.clear_flag(trt.BuilderFlag.TF32)
        if self._library.flavour == "tensorrt_rtx" and self.gpu != PORTABLE:
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
        config.add_optimization_profile(self._profile(network, name))
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            raise SetupError("FV-ENG-015", f"{self._label()} cannot build {name}.onnx; its log says why.")
        with target.open("wb") as file:
            return file.write(memoryview(plan))

    def _profile(self, network: Any, name: str) -> object:
        """Return a profile from batch 1 to the largest, tuned for 1: one robot waits for its answer."""
        profile = self._builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            ranges = []
            for axis, size in enumerate(tensor.shape):
                if size >= 0:
                    ranges.append((size, size, size))
                elif axis == 0:
                    ranges.append((1, 1, self._max_batch))
                elif self._lengths is not None:
                    ranges.append(self._lengths)
                else:
                    raise SetupError(
                        "FV-ENG-015", f"{name}.onnx: axis {axis} of {tensor.name} has no fixed size and is no prompt."
                    )
            profile.set_shape(tensor.name, *(tuple(column) for column in zip(*ranges, strict=True)))
        return profile

    def _label(self) -> str:
        return f"{self._library.flavour} {self._library.version}"
