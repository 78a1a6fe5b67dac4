"""A StarVLA or FineVLA run on disk: which files it has, and which of its weight files is meant.

Layout of both revisions: ``config.yaml`` (settings the run read), ``config.full.yaml`` (all settings),
``dataset_statistics.json``, ``checkpoints/steps_<N>_pytorch_model.pt`` or ``steps_<N>_model.safetensors``, and
``final_model/pytorch_model.pt`` or ``final_model/model.safetensors``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError

CONFIGS = ("config.yaml", "config.full.yaml")
STATISTICS = "dataset_statistics.json"
FINAL = "final"
_STEPS = re.compile(r"steps_(\d+)_(?:pytorch_model\.pt|model\.safetensors)")
_FINAL_FILES = ("pytorch_model.pt", "model.safetensors")
_LFS_HEAD = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the run's folder.
        configs: the config files that exist, the one with the run-time values first.
        statistics: ``dataset_statistics.json``.
        weights: the weight file that was chosen.
        step: ``final`` or the number of optimiser steps, as text.
    """

    path: Path
    configs: tuple[Path, ...]
    statistics: Path
    weights: Path
    step: str


def open_run(path: Path, step: str | None = None) -> RunFolder:
    """Find the files of a run.

    Args:
        path: the run folder, or one of its weight files.
        step: step number or ``final``; needed when the run has several weight files.

    Raises:
        SetupError: FV-IMP-001 (no such run or a file is missing), FV-IMP-003 (a file is a git-lfs pointer),
            FV-IMP-004 (no weight file, or several and none was named).
    """
    if path.is_file():
        run, step = path.parent.parent, step or _step_of(path)
        available = {step: path}
    else:
        run = path
        available = _weight_files(path)
    configs = tuple(run / name for name in CONFIGS if (run / name).is_file())
    if not configs or not (run / STATISTICS).is_file():
        missing = STATISTICS if configs else CONFIGS[0]
        raise SetupError(
            "FV-IMP-001",
            f"{run} is no StarVLA run: it has no {missing}. Name the folder that holds config.yaml, "
            f"{STATISTICS} and checkpoints/.",
        )
    chosen = _choose(run, available, step)
    for file in (*configs, run / STATISTICS, available[chosen]):
        refuse_lfs_pointer(file)
    return RunFolder(run, configs, run / STATISTICS, available[chosen], chosen)


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse a git-lfs pointer, the small text that a clone without git-lfs holds in the place of a large file.

    Raises:
        SetupError: FV-IMP-003.
    """
    with path.open("rb") as file:
        head = file.read(len(_LFS_HEAD))
    if head == _LFS_HEAD:
        raise SetupError(
            "FV-IMP-003",
            f"{path} is a git-lfs pointer of {path.stat().st_size} bytes, not the file itself. "
            "Run `git lfs pull` in its repository, or download the file.",
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _weight_files(run: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    folder = run / "checkpoints"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in [*files, *(run / "final_model" / name for name in _FINAL_FILES)]:
        inside = file.parent.name == "final_model" or _STEPS.fullmatch(file.name)
        if not file.is_file() or not inside:
            continue
        step = _step_of(file)
        if step in found:
            raise SetupError(
                "FV-IMP-004",
                f"{run} has two weight files for step {step}: {found[step].name} and {file.name}. "
                "Name the file that is meant instead of the folder.",
            )
        found[step] = file
    return found


def _step_of(file: Path) -> str:
    matched = _STEPS.fullmatch(file.name)
    return matched.group(1) if matched else FINAL


def _choose(run: Path, available: dict[str, Path], step: str | None) -> str:
    listed = ", ".join(sorted(available, key=lambda name: (name == FINAL, name.zfill(12)))) or "none"
    if not available:
        raise SetupError("FV-IMP-004", f"{run} has no checkpoints/steps_<N>_… and no final_model/ weight file.")
    if step is None and len(available) > 1:
        raise SetupError("FV-IMP-004", f"{run} has several checkpoints; choose one by --step. It has: {listed}.")
    chosen = step if step is not None else next(iter(available))
    if chosen not in available:
        raise SetupError("FV-IMP-004", f"{run} has no checkpoint of step {chosen!r}. It has: {listed}.")
    return chosen
