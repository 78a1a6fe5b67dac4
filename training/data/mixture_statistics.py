"""Normalisation of a mixture: statistics of all rows of all its datasets together, kept under content and mode.

Quantiles are those of the pooled rows. Upstream averages the quantiles of its tasks instead, which are quantiles of
nothing; a task with a small range then pushes the targets of all others out of [-1, 1]. Every recorded row counts once,
whatever the weights and the FG:Raw share, so that runs which differ in their mixture alone share one normalisation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.action import DOF, GRIPPER_INDICES, LAYOUTS
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.processing.normalise import MODES, fit_normalisation
from finevla_runtime.recording.json_lines import JsonObject, read_object, write_object
from training.data.gripper_range import check_binary
from training.data.vla_dataset import VLADataset

_FORMAT = "mixture-statistics/1"


def joint_modes(joints: str = "q99", grippers: str = "binary") -> tuple[str, ...]:
    """Return one mode per dimension of the project's layout (StarVLA's and FineVLA's: joints q99, grippers binary).

    Raises:
        SetupError: FV-NRM-001 for an unknown mode.
    """
    for mode in (joints, grippers):
        if mode not in MODES:
            raise unknown_name("FV-NRM-001", "normalisation mode", mode, MODES)
    return tuple(grippers if index in GRIPPER_INDICES else joints for index in range(DOF))


def mixture_normalisation(
    datasets: Sequence[VLADataset], modes: Sequence[str], clip: bool, cache: Path, layout: str = "project"
) -> Normalisation:
    """Return the statistics of the mixture's targets, fitted once per content and mode.

    Args:
        datasets: opened datasets of the mixture.
        modes: one mode per dimension of the project's layout; see ``joint_modes``.
        clip: whether model rows are clipped before the inverse; see ``Normalisation``.
        cache: folder of the fitted statistics.
        layout: layout of the model's rows (key of ``LAYOUTS``), in which the result is ordered.

    Raises:
        SetupError: FV-DAT-006 when binary grippers of a dataset never change, FV-DAT-013 for an unknown layout or a
            wrong number of modes.
    """
    if layout not in LAYOUTS:
        raise unknown_name("FV-DAT-013", "layout", layout, LAYOUTS)
    if len(modes) != DOF:
        raise SetupError("FV-DAT-013", f"{len(modes)} normalisation modes, wanted one for each of {DOF} dimensions.")
    if any(modes[index] == "binary" for index in GRIPPER_INDICES):
        for dataset in datasets:
            check_binary(dataset.rows.action, dataset.name)
    key = json.dumps([_FORMAT, [dataset.rows.key for dataset in datasets], list(modes), clip])
    path = cache / f"statistics-{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
    fitted = _read(path, key)
    if fitted is None:
        fitted = _fit(datasets, modes, clip)
        write_object(path, _entry(key, fitted))
    order = LAYOUTS[layout]
    return Normalisation(
        tuple(fitted.mode[i] for i in order),
        tuple(fitted.low[i] for i in order),
        tuple(fitted.high[i] for i in order),
        clip,
    )


def _fit(datasets: Sequence[VLADataset], modes: Sequence[str], clip: bool) -> Normalisation:
    """Fit one dimension at a time: the rows stay on disk, one column of all datasets is in memory."""
    low, high = [], []
    for index, mode in enumerate(modes):
        column = np.concatenate([dataset.rows.action[:, index] for dataset in datasets])
        fitted = fit_normalisation(column[:, None], [mode], clip)
        low.append(fitted.low[0])
        high.append(fitted.high[0])
    return Normalisation(tuple(modes), tuple(low), tuple(high), clip)


def _entry(key: str, fitted: Normalisation) -> JsonObject:
    content = json.loads(json.dumps(asdict(fitted)))
    return {"key": key, "statistics": content, "digest": _digest(content)}


def _read(path: Path, key: str) -> Normalisation | None:
    """Return the statistics at ``path``, or None when they are missing, for another key or damaged."""
    try:
        entry = read_object(path)
        content = entry["statistics"]
        if entry.get("key") != key or not isinstance(content, dict) or entry.get("digest") != _digest(content):
            return None
        return Normalisation(tuple(content["mode"]), tuple(content["low"]), tuple(content["high"]), content["clip"])
    except (SetupError, KeyError, TypeError):
        return None


def _digest(content: JsonObject) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
