"""`finevla export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.cli.options import parse


@dataclass(frozen=True)
class ExportOptions:
    """Export a training checkpoint as a policy bundle for the server."""

    checkpoint: Path
    """checkpoint.safetensors of a training run."""
    out: Path
    """Folder of the bundle; an older bundle there is replaced."""
    dataset: Path | None = None
    """Dataset whose frames make the golden batch; random pictures when left out."""
    json: bool = False
    """Print one JSON document."""


def export_checkpoint(argv: Sequence[str]) -> int:
    """Export a training checkpoint as a policy bundle."""
    options = parse(ExportOptions, _positional(argv), prog="finevla export")
    from training.export.golden import golden_inputs
    from training.export.onnx import export_bundle

    golden = golden_inputs(options.checkpoint, options.dataset) if options.dataset else None
    exported = export_bundle(options.checkpoint, options.out, golden)
    found = {
        "bundle": str(exported.bundle.path),
        "digest": exported.bundle.digest,
        "graph_bytes": exported.graph_bytes,
        "difference": exported.difference,
    }
    lines = [f"{name} {value}" for name, value in found.items()]
    sys.stdout.write((json.dumps(found) if options.json else "\n".join(lines)) + "\n")
    return 0


def _positional(argv: Sequence[str]) -> list[str]:
    """Let the checkpoint stand first without a flag: ``finevla export CHECKPOINT --out BUNDLE``."""
    listed = list(argv)
    return ["--checkpoint", *listed] if listed and not listed[0].startswith("-") else listed
