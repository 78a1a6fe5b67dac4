"""Where a run keeps its checkpoints: one file for small networks, a row of folders for large ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.checkpoint import Checkpoint, Progress, State, load_checkpoint, save_checkpoint
from training.checkpoint_folder import checkpoints, load_checkpoint_folder, save_checkpoint_folder

CHECKPOINT = "checkpoint.safetensors"
FOLDER = "checkpoints"


class CheckpointStore(Protocol):
    """Keeps the training state of one run."""

    @property
    def path(self) -> Path:
        """Return where the newest checkpoint is, or will be."""
        ...

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint, None when the run has none yet (FV-TRN-009 when it is damaged)."""
        ...

    def save(self, state: State, progress: Progress, meta: Mapping[str, str]) -> None:
        """Write a checkpoint; a kill at any moment leaves the one before."""
        ...


@dataclass(frozen=True)
class SingleFile:
    """One file that each checkpoint replaces.

    Attributes:
        out: run folder.
    """

    out: Path

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.out / CHECKPOINT

    def load(self) -> Checkpoint | None:
        """Return the checkpoint, None when there is none."""
        return load_checkpoint(self.path) if self.path.exists() else None

    def save(self, state: State, progress: Progress, meta: Mapping[str, str]) -> None:
        """Replace the file."""
        save_checkpoint(self.path, state, progress, meta)


@dataclass(frozen=True)
class FolderRow:
    """A folder per checkpoint below ``checkpoints``.

    Attributes:
        out: run folder.
        keep: how many of the newest stay.
    """

    out: Path
    keep: int = 2

    @property
    def path(self) -> Path:
        """Return the newest checkpoint, or the folder that will hold it."""
        found = checkpoints(self.out / FOLDER)
        return found[-1] if found else self.out / FOLDER

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint, None when there is none."""
        found = checkpoints(self.out / FOLDER)
        return load_checkpoint_folder(found[-1]) if found else None

    def save(self, state: State, progress: Progress, meta: Mapping[str, str]) -> None:
        """Add a folder and drop the oldest beyond ``keep``."""
        save_checkpoint_folder(self.out / FOLDER, state, progress, meta, self.keep)
