"""Weights that a run starts from: a checkpoint of another run, or an imported policy read as one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from training.checkpoint import Checkpoint, Progress, load_checkpoint
from training.policy_spec import camera_names


def read_starting_point(path: Path) -> Checkpoint:
    """Read a checkpoint of any kind, or a folder of ``finevla import``.

    Raises:
        SetupError: FV-TRN-009 or FV-IMP-024 when it cannot be read.
    """
    from training.importer.imported_checkpoint import is_imported, load_imported

    if not is_imported(path):
        return load_checkpoint(path)
    imported = load_imported(path)
    meta = {
        "tokenizer": imported.tokenizer_json,
        "layout": imported.spec.layout,
        "cameras": camera_names(imported.spec),
        "normalisation": json.dumps(asdict(imported.spec.normalisation)),
        "spec": spec_to_json(imported.spec),
    }
    return Checkpoint({f"model.{name}": tensor for name, tensor in imported.weights().items()}, Progress(), meta)


def statistics_of(checkpoint: Checkpoint) -> Normalisation:
    """Return the statistics that a checkpoint's rows are scaled by."""
    return spec_from_json(checkpoint.meta["spec"]).normalisation
