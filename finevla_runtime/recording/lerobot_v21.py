"""LeRobot v2.1: one parquet file per episode, one video per episode and camera, ``meta/`` in JSON lines.

Source: LeRobot 0.3.3, the last release that writes v2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import CODEBASE_VERSION, DATA_PATH, VIDEO_PATH, DatasetFormat
from finevla_runtime.recording.dataset_meta import (
    check_totals,
    file_name,
    read_fine_grained,
    read_format,
    read_notes,
    read_vectors,
    recorded_digest,
)
from finevla_runtime.recording.json_lines import JsonObject, read_lines, texts, value
from finevla_runtime.recording.recorded_dataset import Dataset
from finevla_runtime.recording.recorded_episode import RecordedEpisode, RowSpan, VideoSpan

VERSION_21 = CODEBASE_VERSION


def read_v21(root: Path, info: JsonObject) -> Dataset:
    """Read a v2.1 dataset whose ``info.json`` is ``info``; errors as in ``read_dataset``."""
    meta = root / "meta"
    where = str(meta / "info.json")
    wanted, vectors = read_format(info, where), read_vectors(info, where)
    listed = meta / "episodes.jsonl"
    entries = [(entry, f"{listed}:{number}") for number, entry in enumerate(read_lines(listed), start=1)]
    for number, (entry, place) in enumerate(entries):
        index = value(entry, "episode_index", int, place)
        if index != number:
            raise SetupError("FV-REC-009", f"{place}: episode_index is {index}, wanted {number}.")
    lengths = [value(entry, "length", int, place) for entry, place in entries]
    check_totals(info, lengths, "episodes.jsonl", where)
    fine_grained, notes = read_fine_grained(meta, len(entries)), read_notes(meta)
    episodes = [
        RecordedEpisode(
            dataset=root,
            format=wanted,
            index=index,
            length=lengths[index],
            tasks=texts(entry, "tasks", place),
            fine_grained=fine_grained.get(index, ()),
            note=notes.get(index),
            row_span=RowSpan(root / _path(info, "data_path", DATA_PATH, index, wanted, "", where)),
            videos=_videos(root, info, index, wanted, where),
            vectors=vectors,
        )
        for index, (entry, place) in enumerate(entries)
    ]
    return Dataset(root, VERSION_21, wanted, _tasks(meta), tuple(episodes), recorded_digest(root), vectors)


def _videos(root: Path, info: JsonObject, index: int, wanted: DatasetFormat, where: str) -> Mapping[str, VideoSpan]:
    if wanted.frames != "video":
        return {}
    return {
        camera.name: VideoSpan(root / _path(info, "video_path", VIDEO_PATH, index, wanted, camera.feature, where))
        for camera in wanted.cameras
    }


def _path(
    info: JsonObject, key: str, default: str, index: int, wanted: DatasetFormat, video_key: str, where: str
) -> str:
    template = value(info, key, str, where) if key in info else default
    chunk = index // wanted.chunk_episodes
    return file_name(template, where, episode_chunk=chunk, episode_index=index, video_key=video_key)


def _tasks(meta: Path) -> Mapping[int, str]:
    path = meta / "tasks.jsonl"
    entries = enumerate(read_lines(path), start=1)
    return {value(e, "task_index", int, f"{path}:{n}"): value(e, "task", str, f"{path}:{n}") for n, e in entries}
