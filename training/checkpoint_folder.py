"""Training state of large networks: one folder per checkpoint, written aside and renamed, the last N kept.

``step_00001000/`` holds safetensors files of at most ``PIECE_BYTES`` (``model-…``, ``ema-…``, ``adam-…``), the texts in
``meta/``, and ``state.json`` with the progress and which file holds which tensor. Weights are whole, whatever number
of processes wrote them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from training.checkpoint import Checkpoint, Progress, State

FORMAT = "finevla-checkpoint-folder/1"
STATE = "state.json"
PIECE_BYTES = 2_000_000_000
_NAME = re.compile(r"step_(\d{8,})")


def save_checkpoint_folder(
    parent: Path, state: State, progress: Progress, meta: Mapping[str, str], keep: int, piece_bytes: int = PIECE_BYTES
) -> Path:
    """Write a checkpoint below ``parent`` and drop all but the newest ``keep``; return its folder.

    A folder with its final name is always complete: it is written under another name, flushed, and renamed. There
    must be no checkpoint of this step yet.
    """
    final = parent / f"step_{progress.step:08d}"
    partial = parent / f".{final.name}.partial"
    for left_over in parent.glob(".step_*.partial"):
        shutil.rmtree(left_over)
    if not (final / STATE).is_file():
        # A folder that lost its state is no checkpoint, and only stands in the way of one.
        shutil.rmtree(final, ignore_errors=True)
    partial.mkdir(parents=True)
    index = _write_pieces(partial, state, piece_bytes)
    (partial / "meta").mkdir()
    for name, text in meta.items():
        (partial / "meta" / f"{name}.txt").write_text(text, encoding="utf-8")
    head = {"format": FORMAT, "progress": asdict(progress), "files": index}
    (partial / STATE).write_text(json.dumps(head), encoding="utf-8")
    for path in (*partial.rglob("*"), partial):
        _flush(path)
    os.replace(partial, final)
    _flush(parent)
    for old in checkpoints(parent)[:-keep]:
        _drop(old)
    return final


def checkpoints(parent: Path) -> list[Path]:
    """Return the complete checkpoints below ``parent``, oldest first."""
    found = [path for path in parent.glob("step_*") if _NAME.fullmatch(path.name) and (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def load_checkpoint_folder(path: Path) -> Checkpoint:
    """Read a checkpoint folder, or the newest one in a folder of them; tensors are read when they are asked for.

    Raises:
        SetupError: FV-TRN-009 when there is none, or a file of it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not (path / STATE).is_file():
        newest = checkpoints(path / "checkpoints") or checkpoints(path)
        if not newest:
            raise SetupError("FV-TRN-009", f"there is no checkpoint in {path}; train first or check the path.")
        path = newest[-1]
    try:
        head = json.loads((path / STATE).read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            raise SetupError("FV-TRN-009", f"{path} has format {head['format']!r}, wanted {FORMAT!r}.")
        files: dict[str, str] = head["files"]
        for piece in sorted(set(files.values())):
            with safe_open(path / piece, "pt") as opened:
                missing = {name for name, held in files.items() if held == piece} - set(opened.keys())
            if missing:
                raise SetupError("FV-TRN-009", f"{path / piece} lacks {sorted(missing)[0]!r}.")
        meta = {text.stem: text.read_text(encoding="utf-8") for text in (path / "meta").iterdir()}
        return Checkpoint(_Pieces(path, files), Progress(**head["progress"]), meta)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(
            "FV-TRN-009",
            f"{path} is no readable checkpoint: {error}. Move it away to go on from the one before, if there is one.",
        ) from error


class _Pieces(Mapping[str, Tensor]):
    """Tensors that are read from their file when asked for."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self._folder, self._files = folder, files

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._folder / self._files[name], "pt") as file:
            found: Tensor = file.get_tensor(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        # The inherited one would read the tensor to find out.
        return name in self._files


def _write_pieces(folder: Path, state: State, piece_bytes: int) -> dict[str, str]:
    """Write the tensors as they come, never holding more than a piece; return tensor -> file."""
    from safetensors.torch import save_file

    index: dict[str, str] = {}
    held: dict[str, Tensor] = {}
    kind, number = "", 0

    def write() -> None:
        nonlocal held
        if held:
            name = f"{kind}-{number:05d}.safetensors"
            save_file(held, folder / name)
            index.update(dict.fromkeys(held, name))
            held = {}

    for name, tensor in state:
        size = sum(t.nbytes for t in held.values())
        if name.split(".", 1)[0] != kind or size + tensor.nbytes > piece_bytes:
            write()
            number = number + 1 if name.startswith(f"{kind}.") else 1
            kind = name.split(".", 1)[0]
        # Tied weights share memory, which safetensors refuses; each gets its own bytes.
        held[name] = tensor.contiguous().clone()
    write()
    return index


def _drop(folder: Path) -> None:
    """Remove a checkpoint; it first loses its name, so that a killed removal leaves no half checkpoint."""
    aside = folder.with_name(f".{folder.name}.partial")
    os.replace(folder, aside)
    shutil.rmtree(aside)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
