"""Frames of a dataset as memory-mapped uint8 arrays, decoded once and kept under the hash of their content.

Training reads each frame many times in random order, so PNG pictures are decoded a single time. The folder name is
the hash of everything that decides the bytes (dataset digest, cameras, stride): a changed dataset can never be read
through an old store, whichever instruction kind asked for it first.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.lerobot_reader import Dataset, RecordedEpisode, read_dataset

Progress = Callable[[int, int], None]
"""Called with (episodes decoded, episodes in all)."""

_FORMAT = "frame-store/1"


@dataclass(frozen=True, eq=False)
class FrameStore:
    """Decoded frames and rows of a dataset.

    Attributes:
        key: sha256 of what decides the content.
        frames: camera -> uint8[N, height, width, 3], every ``stride``-th control step of every episode in order.
        state, action: float32[T, 14], every control step of all episodes in order.
        stride: control steps between kept frames.
    """

    key: str
    frames: Mapping[str, ByteArray]
    state: FloatArray
    action: FloatArray
    stride: int


def kept_frames(length: int, stride: int) -> int:
    """Return how many frames of an episode of ``length`` control steps are kept."""
    return -(-length // stride)


def open_frame_store(
    dataset: Dataset, cameras: tuple[str, ...], stride: int, folder: Path, workers: int, progress: Progress
) -> FrameStore:
    """Open the store of a dataset below ``folder``, decoding it first when it is not there.

    Raises:
        SetupError: FV-TRN-001 for a camera the dataset lacks, FV-REC-* naming the episode and frame that is bad.
    """
    known = [camera.name for camera in dataset.format.cameras]
    for camera in cameras:
        if camera not in known:
            raise SetupError(
                "FV-TRN-001", f"{dataset.root} has no camera {camera!r}; it has {', '.join(known) or 'none'}."
            )
    key = _key(dataset, cameras, stride)
    path = folder / key[:20]
    if not (path / "store.json").is_file():
        _build(dataset, cameras, stride, path, workers, progress)
    sizes = {c.name: (c.height, c.width, 3) for c in dataset.format.cameras}
    count = sum(kept_frames(e.length, stride) for e in dataset)
    frames = {c: np.memmap(path / f"{c}.u8", np.uint8, "r", shape=(count, *sizes[c])) for c in cameras}
    rows = np.load(path / "rows.npy", allow_pickle=False)
    return FrameStore(key, frames, rows[0], rows[1], stride)


def _key(dataset: Dataset, cameras: tuple[str, ...], stride: int) -> str:
    content = dataset.digest or _content_digest(dataset)
    lengths = [episode.length for episode in dataset]
    return hashlib.sha256(json.dumps([_FORMAT, content, cameras, stride, lengths]).encode()).hexdigest()


def _content_digest(dataset: Dataset) -> str:
    """Hash the episode files of a dataset whose writer left no digest."""
    digest = hashlib.sha256()
    for path in (*dataset.row_files(), *dataset.video_files()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _build(
    dataset: Dataset, cameras: tuple[str, ...], stride: int, path: Path, workers: int, progress: Progress
) -> None:
    """Decode all episodes into ``path``; it becomes visible only when it is complete."""
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    offsets = np.concatenate([[0], np.cumsum([kept_frames(e.length, stride) for e in dataset])])
    sizes = {c.name: (int(offsets[-1]), c.height, c.width, 3) for c in dataset.format.cameras}
    for camera in cameras:
        np.memmap(staged / f"{camera}.u8", np.uint8, "w+", shape=sizes[camera]).flush()
    parts = _parts(len(dataset), 16)
    rows: list[FloatArray] = []
    jobs = [(str(dataset.root), part, cameras, stride, int(offsets[part.start]), str(staged)) for part in parts]
    if workers > 1 and len(parts) > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for part, found in zip(parts, pool.map(_decode_part, jobs), strict=True):
                rows.append(found)
                progress(part.stop, len(dataset))
    else:
        for part, job in zip(parts, jobs, strict=True):
            rows.append(_decode_part(job))
            progress(part.stop, len(dataset))
    np.save(staged / "rows.npy", np.concatenate(rows, axis=1), allow_pickle=False)
    (staged / "store.json").write_text(json.dumps({"format": _FORMAT, "cameras": cameras, "stride": stride}))
    shutil.rmtree(path, ignore_errors=True)
    os.replace(staged, path)


def _parts(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _decode_part(job: tuple[str, range, tuple[str, ...], int, int, str]) -> FloatArray:
    """Decode some episodes into the memory maps and return their rows float32[2, T, 14]."""
    root, part, cameras, stride, first, staged = job
    dataset = read_dataset(Path(root))
    stores = {c: _writable(Path(staged) / f"{c}.u8", dataset, c) for c in cameras}
    rows: list[FloatArray] = []
    for index in part:
        episode = dataset.episodes[index]
        rows.append(np.stack(_rows(episode)))
        count = kept_frames(episode.length, stride)
        for camera, store in stores.items():
            store[first : first + count] = episode.frames(camera)[::stride]
        first += count
    return np.concatenate(rows, axis=1)


def _rows(episode: RecordedEpisode) -> tuple[FloatArray, FloatArray]:
    """Return state and action after checking their width."""
    state, action = episode.rows()
    if action.shape[1] != 14 or state.shape[1] != 14:
        raise SetupError(
            "FV-TRN-002",
            f"episode {episode.index} of {episode.dataset} has rows of width {action.shape[1]}, wanted 14 joints.",
        )
    return state, action


def _writable(path: Path, dataset: Dataset, camera: str) -> ByteArray:
    size = next((c.height, c.width, 3) for c in dataset.format.cameras if c.name == camera)
    return np.memmap(path, np.uint8, "r+").reshape(-1, *size)
