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

from finevla_runtime.bundle import Bundle, Parity, check_place, write_bundle
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.graph_plan import GraphPlan
from training.data.vla_dataset import DataSource
from training.export.onnx import Inputs
from training.export.onnx_graph import WEIGHTS_NAME, Node, OnnxGraph
from training.export.onnx_operations import OnnxOperations, OnnxRuntimeOperations
from training.export.policy_source import PolicySource
from training.export.programs import Lengths, trace_stage
from training.export.prompt_positions import PromptPositions, prompt_positions
from training.export.staged_golden import default_buckets, golden_inputs, prompt_length
from training.export.staged_run import Rows, largest_difference, onnxruntime_execute, torch_execute
from training.export.stages import HEAD, PREFIX, VISION, Stage, policy_stages
from training.export.weight_names import WeightNames
from training.export.weights_file import WeightsFile, entry

# Rows are of order one; float32 graphs of another order of summation stay far below this.
ATOL = 1e-3
# Half precision is allowed twice what it costs the reference, and no less than this.
ATOL_HALF = 2e-2
# A policy that half precision moves by more than this, of a range of two, is another policy.
LIMIT_HALF = 0.25
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Decay rates are exponentials of these few weights.
KEPT_FLOAT32 = ("A_log", "dt_bias")


@dataclass(frozen=True, slots=True)
class StagedOptions:
    """What to put into a bundle.

    Attributes:
        buckets: prompt lengths, ascending, the last the spec's longest; chosen when empty.
        tensorrt: whether to write the static prefix graphs that TensorRT needs.
        programs: whether to write the programs of the torch engine.
        dataset: dataset whose frames make the golden batch; random pictures when None.
        precision: of the backbone's weights and products, ``float32``, ``float16`` or ``bfloat16``; heads stay in
            float32. ONNX Runtime has no bfloat16 on the CPU, so such a bundle has no graph for it.
    """

    buckets: tuple[int, ...] = ()
    tensorrt: bool = True
    programs: bool = True
    dataset: DataSource | None = None
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class ExportedStages:
    """A written bundle and how far its graphs are from the torch network.

    Attributes:
        bundle: the verified bundle.
        difference: largest absolute difference of the graphs on the golden batch, every bucket and dialect, from the
            float32 network, model units.
        weights_bytes: size of the shared weights file.
        graphs_bytes: size of all graphs together.
    """

    bundle: Bundle
    difference: float
    weights_bytes: int
    graphs_bytes: int


def export_staged(
    source: PolicySource, out: Path, options: StagedOptions, golden: Inputs | None = None
) -> ExportedStages:
    """Export a policy as vision, prefix and head graphs.

    The golden answers are those of the float32 network. For another precision its weights are then converted in
    place, one after the other, so that they are never held twice.

    Args:
        source: the policy.
        out: folder of the bundle; an older bundle there is replaced.
        options: what to put into it.
        golden: golden batch; made from the dataset of the options, with every bucket in it, when None.

    Raises:
        SetupError: FV-EXP-001 to FV-EXP-004, FV-BUN-006; FV-EXP-005 when graphs and torch disagree by more than the
            precision explains; FV-EXP-006 for an unknown precision, or one that no engine of the options computes in.
    """
    spec = source.spec
    check_place(out)
    _check_precision(options)
    buckets = options.buckets or default_buckets(_shortest(source), spec.prompt.max_tokens)
    if buckets[-1] != spec.prompt.max_tokens or list(buckets) != sorted(set(buckets)):
        raise SetupError(
            "FV-EXP-004",
            f"buckets are {buckets}; wanted ascending lengths of which the last is {spec.prompt.max_tokens}, the "
            "longest prompt.",
        )
    if golden is None:
        golden = golden_inputs(spec, source.tokenizer_json, buckets, options.dataset)
    layout = prompt_positions(source.policy.backbone, torch.from_numpy(np.asarray(golden["tokens"])))
    plan = GraphPlan("staged", buckets, source.denoise_steps)
    # A policy that was trained or imported in bfloat16 is widened first, which loses nothing.
    _convert(source, "float32")
    said = _answers(source, golden)
    atol_half = _half_tolerance(source, golden, said)
    _convert(source, options.precision)
    stages = policy_stages(source.policy, layout, buckets if options.tensorrt else ())
    with _workplace(out) as folder:
        files = _write_files(source, stages, layout, folder, golden, options)
        graphs = {path.stem: path for path in folder.glob("*.onnx")}
        difference = _proven(stages, graphs, folder, plan, golden, said, source, options)
        if options.precision == "float32":
            parity = Parity(golden, {"actions": said}, ATOL, atol_half)
        else:
            atol = max(ATOL_HALF, 2.0 * difference)
            parity = Parity(golden, {"actions": said}, atol, max(atol, atol_half))
        told = {**source.provenance, "precision": options.precision, "difference": f"{difference:.2g}"}
        bundle = write_bundle(out, spec, graphs, source.tokenizer_json, parity, told, plan, files)
        sizes = (folder / WEIGHTS_NAME).stat().st_size, sum(path.stat().st_size for path in graphs.values())
    return ExportedStages(bundle, difference, *sizes)


def _check_precision(options: StagedOptions) -> None:
    if options.precision not in PRECISIONS:
        raise unknown_name("FV-EXP-006", "precision", options.precision, PRECISIONS)
    if options.precision == "bfloat16" and not options.tensorrt and not options.programs:
        raise SetupError(
            "FV-EXP-006",
            "ONNX Runtime does not compute in bfloat16 on the CPU, and graphs for TensorRT and torch were declined; "
            "nothing could run the bundle. Choose float16, or leave --no-tensorrt or --no-programs away.",
        )


def _convert(source: PolicySource, precision: str) -> None:
    for name, parameter in source.policy.backbone.model.named_parameters():
        if not name.endswith(KEPT_FLOAT32):
            parameter.data = parameter.data.to(PRECISIONS[precision])


def _proven(
    stages: Sequence[Stage],
    graphs: Mapping[str, Path],
    folder: Path,
    plan: GraphPlan,
    golden: Inputs,
    said: Rows,
    source: PolicySource,
    options: StagedOptions,
) -> float:
    """Return how far the graphs are from the network (FV-EXP-005 when that is too far)."""
    pad_id = source.spec.prompt.pad_id
    if options.precision == "bfloat16":
        # What ONNX Runtime cannot run, torch runs by the same definition.
        names = [stage.name for stage in stages]
        difference = largest_difference(torch_execute(stages), names, plan, golden, said, pad_id)
    else:
        difference = largest_difference(onnxruntime_execute(folder), graphs, plan, golden, said, pad_id)
    limit = ATOL if options.precision == "float32" else LIMIT_HALF
    if not difference <= limit:
        advice = "this is a fault of the export." if options.precision == "float32" else "export in float32."
        raise SetupError(
            "FV-EXP-005",
            f"the {options.precision} graphs differ from torch by {difference:.2g}, at most {limit:g} is allowed; "
            f"{advice}",
        )
    return difference


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
    stages: Sequence[Stage],
    layout: PromptPositions,
    folder: Path,
    golden: Inputs,
    options: StagedOptions,
) -> Mapping[str, Path]:
    """Write graphs, programs and weights into ``folder``; return the files of the bundle that are not graphs."""
    names, index = WeightNames(source.policy), {}
    files = {f"graphs/{WEIGHTS_NAME}": folder / WEIGHTS_NAME}
    lengths = Lengths(layout.shortest, layout.longest)
    with WeightsFile(folder / WEIGHTS_NAME) as store:
        for stage in stages:
            if stage.name != PREFIX or options.precision != "bfloat16":
                _write_graph(stage, names, store, folder / f"{stage.name}.onnx")
            if not options.programs or stage.static:
                continue
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
    # Every other graph is read by TensorRT too; the prefix of any length is for ONNX Runtime alone.
    dialect = OnnxRuntimeOperations if stage.name == PREFIX else OnnxOperations
    value = stage.build(dialect(graph, names), {p.name: Node(graph, p.name, p.dtype) for p in stage.inputs})
    model = graph.model(stage.inputs, stage.output, value, store)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _sample(source: PolicySource, stage: Stage, golden: Inputs, layout: PromptPositions) -> Mapping[str, Tensor]:
    """Return inputs of a stage with a batch of two and a prompt shorter than the longest, for tracing."""
    policy = source.policy
    # A tracer takes it for a law when a prompt is as long as the longest.
    length = (layout.shortest + layout.longest) // 2
    inputs = {name: torch.from_numpy(np.asarray(value)[:1]).repeat_interleave(2, 0) for name, value in golden.items()}
    tokens = inputs["tokens"][:, :length]
    if stage.name == VISION:
        return {port.name: inputs[port.name] for port in stage.inputs}
    with torch.no_grad():
        embeds = policy.backbone.embed_images([inputs[f"image.{camera}"] for camera in policy.cameras])
        made: dict[str, Tensor] = {"tokens": tokens, "image_embeds": embeds.float()}
        if stage.name == HEAD:
            made["hidden"] = policy.backbone.hidden(tokens, embeds).float()
            made["x"] = inputs.get("noise", tokens)
            made["time"] = torch.zeros(2, dtype=torch.int64)
            made["state"] = inputs.get("state", tokens)
    return {port.name: made[port.name] for port in stage.inputs}


def _answers(source: PolicySource, golden: Inputs) -> Rows:
    """Return the rows of the torch network for the golden batch."""
    with torch.inference_mode():
        said = source.policy.act({name: torch.from_numpy(np.asarray(value)) for name, value in golden.items()})
    return np.asarray(said.float().numpy(), dtype=np.float32)


def _half_tolerance(source: PolicySource, golden: Inputs, said: Rows) -> float:
    """Return what an engine in half precision may differ by: twice what bfloat16 costs the reference itself."""
    with torch.autocast("cpu", torch.bfloat16):
        half = _answers(source, golden)
    return max(ATOL_HALF, 2.0 * float(np.abs(half - said).max()))
