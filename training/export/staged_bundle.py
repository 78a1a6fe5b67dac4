"""A policy on a vision-language backbone to a staged bundle: graphs, programs, one weights file, golden batch."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finevla_runtime.bundle import Bundle, Parity, write_bundle
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.graph_plan import GraphPlan
from training.export.onnx import Inputs
from training.export.onnx_graph import WEIGHTS_NAME, Node, OnnxGraph
from training.export.onnx_operations import OnnxOperations, OnnxRuntimeOperations
from training.export.policy_source import PolicySource
from training.export.programs import Lengths, trace_stage
from training.export.prompt_positions import PromptPositions, prompt_positions
from training.export.staged_golden import default_buckets, golden_inputs, prompt_length
from training.export.staged_run import run_graphs
from training.export.stages import STATIC_PREFIX, Stage, policy_stages
from training.export.weight_names import WeightNames
from training.export.weights_file import WeightsFile, entry

# Rows are of order one; float32 graphs of another order of summation stay far below this.
ATOL = 1e-3
# Half precision is allowed what bfloat16 costs the reference, twice, and no less than this.
ATOL_HALF = 2e-2


@dataclass(frozen=True, slots=True)
class StagedOptions:
    """What to put into a bundle.

    Attributes:
        buckets: prompt lengths, ascending, the last the spec's longest; chosen when empty.
        tensorrt: whether to write the static prefix graphs that TensorRT needs.
        programs: whether to write the programs of the torch engine.
        dataset: dataset whose frames make the golden batch; random pictures when None.
    """

    buckets: tuple[int, ...] = ()
    tensorrt: bool = True
    programs: bool = True
    dataset: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportedStages:
    """A written bundle and how far its graphs are from the torch network.

    Attributes:
        bundle: the verified bundle.
        difference: largest absolute difference of ONNX Runtime on the golden batch, model units.
        weights_bytes: size of the shared weights file.
        graphs_bytes: size of all graphs together.
    """

    bundle: Bundle
    difference: float
    weights_bytes: int
    graphs_bytes: int


def export_staged(source: PolicySource, out: Path, options: StagedOptions) -> ExportedStages:
    """Export a policy as vision, prefix and head graphs.

    Raises:
        SetupError: FV-EXP-001 to FV-EXP-004, FV-BUN-006; FV-EXP-005 when ONNX Runtime and torch disagree.
    """
    spec = source.spec
    shortest = _shortest(source)
    buckets = options.buckets or default_buckets(shortest, spec.prompt.max_tokens)
    if buckets[-1] != spec.prompt.max_tokens or list(buckets) != sorted(set(buckets)):
        raise SetupError(
            "FV-EXP-004",
            f"buckets are {buckets}; wanted ascending lengths of which the last is {spec.prompt.max_tokens}, the "
            "longest prompt.",
        )
    golden = golden_inputs(spec, source.tokenizer_json, buckets, options.dataset)
    layout = prompt_positions(source.policy.backbone, torch.from_numpy(np.asarray(golden["tokens"])))
    plan = GraphPlan("staged", buckets, source.denoise_steps)
    with _workplace(out) as folder:
        files = _write_files(source, layout, buckets if options.tensorrt else (), folder, golden, options.programs)
        said = _answers(source, golden)
        difference = float(np.abs(run_graphs(folder, plan, golden, spec.prompt.pad_id) - said).max())
        if not difference <= ATOL:
            raise SetupError(
                "FV-EXP-005", f"ONNX Runtime differs from torch by {difference:.2g}, at most {ATOL:g} is allowed."
            )
        parity = Parity(golden, {"actions": said}, ATOL, _half_tolerance(source, golden, said))
        graphs = {path.stem: path for path in folder.glob("*.onnx")}
        bundle = write_bundle(out, spec, graphs, source.tokenizer_json, parity, source.provenance, plan, files)
        sizes = (folder / WEIGHTS_NAME).stat().st_size, sum(path.stat().st_size for path in graphs.values())
    return ExportedStages(bundle, difference, *sizes)


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Give a folder on the disk of the bundle, so that weights of many gigabytes are linked into it, not copied."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.export.", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shortest(source: PolicySource) -> int:
    """Return the tokens of a prompt with one word of instruction."""
    only = golden_inputs(source.spec, source.tokenizer_json, (), None)
    return prompt_length({"tokens": only["tokens"][0]}, source.spec.prompt.pad_id)


def _write_files(
    source: PolicySource,
    layout: PromptPositions,
    static: Sequence[int],
    folder: Path,
    golden: Inputs,
    programs: bool,
) -> Mapping[str, Path]:
    """Write graphs, programs and weights into ``folder``; return the files of the bundle that are not graphs."""
    names, index = WeightNames(source.policy), {}
    files = {f"graphs/{WEIGHTS_NAME}": folder / WEIGHTS_NAME}
    stages = policy_stages(source.policy, layout, static)
    with WeightsFile(folder / WEIGHTS_NAME) as store:
        for stage in stages:
            _write_graph(stage, names, store, folder / f"{stage.name}.onnx")
        for stage in stages if programs else ():
            if stage.name.startswith(STATIC_PREFIX):
                continue
            lengths = Lengths(layout.shortest, layout.longest)
            program = trace_stage(stage, names, _sample(source, stage, golden, layout), lengths)
            files[f"programs/{stage.name}.pt2"] = folder / f"{stage.name}.pt2"
            (folder / f"{stage.name}.pt2").write_bytes(program.archive)
            index.update({name: entry(tensor, store.add(tensor)) for name, tensor in program.weights.items()})
    if index:
        files["graphs/weights.json"] = folder / "weights.json"
        (folder / "weights.json").write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    return files


def _write_graph(stage: Stage, names: WeightNames, store: WeightsFile, path: Path) -> None:
    graph = OnnxGraph(stage.name)
    # Only the prefixes of fixed length are for TensorRT alone; ONNX Runtime's operators are the faster ones elsewhere.
    dialect = OnnxRuntimeOperations if stage.name == "prefix" else OnnxOperations
    value = stage.build(dialect(graph, names), {p.name: Node(graph, p.name, p.dtype) for p in stage.inputs})
    model = graph.model(stage.inputs, stage.output, value, store)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _sample(source: PolicySource, stage: Stage, golden: Inputs, layout: PromptPositions) -> Mapping[str, Tensor]:
    """Return inputs of a stage with a batch of two and a prompt shorter than the longest, for tracing."""
    policy = source.policy
    length = (layout.shortest + layout.longest) // 2
    inputs = {name: torch.from_numpy(np.asarray(value)[:1]).repeat_interleave(2, 0) for name, value in golden.items()}
    tokens = inputs["tokens"][:, :length]
    if stage.name == "vision":
        return {port.name: inputs[port.name] for port in stage.inputs}
    with torch.no_grad():
        embeds = policy.backbone.embed_images([inputs[f"image.{camera}"] for camera in policy.cameras])
        made: dict[str, Tensor] = {"tokens": tokens, "image_embeds": embeds.float()}
        if stage.name == "head":
            made["hidden"] = policy.backbone.hidden(tokens, embeds).float()
            made["x"] = inputs.get("noise", tokens)
            made["time"] = torch.zeros(2, dtype=torch.int64)
            made["state"] = inputs.get("state", tokens)
    return {port.name: made[port.name] for port in stage.inputs}


def _answers(source: PolicySource, golden: Inputs) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the rows of the torch network for the golden batch."""
    with torch.inference_mode():
        said = source.policy.act({name: torch.from_numpy(np.asarray(value)) for name, value in golden.items()})
    return np.asarray(said.float().numpy(), dtype=np.float32)


def _half_tolerance(
    source: PolicySource, golden: Inputs, said: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> float:
    """Return what an engine in half precision may differ by: twice what bfloat16 costs the reference itself."""
    with torch.autocast("cpu", torch.bfloat16):
        half = _answers(source, golden)
    return max(ATOL_HALF, 2.0 * float(np.abs(half - said).max()))
