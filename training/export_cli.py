"""`finevla export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class ExportOptions:
    """Export a trained or imported policy as a policy bundle for the server.

    Takes the checkpoint.safetensors of a tabletop run, the run folder (or one checkpoint folder) of a policy on a
    vision-language backbone, or a folder of `finevla import`.
    """

    checkpoint: Path
    """What to export."""
    out: Path
    """Folder of the bundle; an older bundle there is replaced."""
    dataset: str | None = None
    """Dataset whose frames make the golden batch, named as `finevla train` names it (of a mixture file the first);
    random pictures when left out."""
    buckets: tuple[int, ...] = ()
    """Prompt lengths with graphs of their own (staged bundles), ascending; chosen when left out."""
    tensorrt: bool = True
    """Write the prefix graphs of fixed length that TensorRT needs (staged bundles)."""
    programs: bool = True
    """Write the programs of the torch engine (staged bundles)."""
    precision: str = "float32"
    """float32, float16 or bfloat16: weights and products of the backbone (staged bundles); ONNX Runtime on the CPU
    cannot serve bfloat16."""
    json: bool = False
    """Print one JSON document."""


def export_checkpoint(argv: Sequence[str]) -> int:
    """Export a training checkpoint as a policy bundle."""
    options = parse(ExportOptions, _positional(argv), prog="finevla export")
    from training.checkpoint_store import CHECKPOINT

    # The run folder of a tabletop policy stands for the checkpoint in it.
    single = options.checkpoint / CHECKPOINT
    if single.is_file():
        options = replace(options, checkpoint=single)
    found = _export_single(options) if options.checkpoint.is_file() else _export_staged(options)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    sys.stdout.write("".join(f"{name} {value}\n" for name, value in found.items()))
    engine = " --engine torch" if options.precision == "bfloat16" else ""
    sys.stdout.write(f"next: finevla serve {options.out}{engine}\n")
    return 0


def _export_single(options: ExportOptions) -> dict[str, object]:
    from finevla_runtime.contracts.errors import SetupError
    from training.data.named_sources import named_sources
    from training.export.golden import golden_inputs
    from training.export.onnx import export_bundle

    if options.precision != "float32" or options.buckets or not options.programs or not options.tensorrt:
        raise SetupError(
            "FV-EXP-006",
            f"{options.checkpoint} is a tabletop policy, one float32 graph for every engine; leave --precision, "
            "--buckets, --no-tensorrt and --no-programs away.",
        )
    golden = None
    if options.dataset:
        golden = golden_inputs(options.checkpoint, named_sources([options.dataset])[0].root)
    exported = export_bundle(options.checkpoint, options.out, golden)
    return {
        "bundle": str(exported.bundle.path),
        "digest": exported.bundle.digest,
        "graph_bytes": exported.graph_bytes,
        "difference": exported.difference,
    }


def _export_staged(options: ExportOptions) -> dict[str, object]:
    from training.data.named_sources import named_sources
    from training.export.policy_source import read_policy
    from training.export.staged_bundle import StagedOptions, export_staged

    dataset = named_sources([options.dataset])[0] if options.dataset else None
    staged = StagedOptions(options.buckets, options.tensorrt, options.programs, dataset, options.precision)
    exported = export_staged(read_policy(options.checkpoint), options.out, staged)
    return {
        "bundle": str(exported.bundle.path),
        "digest": exported.bundle.digest,
        "buckets": list(exported.bundle.plan.buckets),
        "graph_bytes": exported.graphs_bytes,
        "weights_bytes": exported.weights_bytes,
        "difference": exported.difference,
        "tolerance_half": exported.bundle.parity.atol_half,
    }


def _positional(argv: Sequence[str]) -> list[str]:
    """Let the checkpoint stand first without a flag: ``finevla export CHECKPOINT --out BUNDLE``."""
    listed = list(argv)
    return ["--checkpoint", *listed] if listed and not listed[0].startswith("-") else listed
