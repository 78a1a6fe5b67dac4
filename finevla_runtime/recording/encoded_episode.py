"""An episode as the bytes of a dataset, but not yet numbered: what a worker process hands to the writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import ACTION, STATE, CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote, Episode
from finevla_runtime.recording.episode_stats import column_stats, image_stats
from finevla_runtime.recording.json_lines import JsonObject, read_object, texts, value, write_object
from finevla_runtime.recording.png import encode_png
from finevla_runtime.recording.video import write_video

if TYPE_CHECKING:
    import pyarrow as pa

_DATASET_CRF = 18
_DATASET_KEYFRAMES = 2


@dataclass(frozen=True, eq=False)
class EncodedEpisode:
    """One encoded episode.

    Attributes:
        table: parquet columns without the numbering columns.
        length: control steps.
        task, fine_grained, note: as in ``Episode``.
        stats: feature -> statistics, without the numbering columns.
        videos: camera name -> mp4 that the writer moves into the dataset; empty when frames are PNG.
    """

    table: pa.Table
    length: int
    task: str
    fine_grained: tuple[str, ...]
    note: DemonstrationNote | None
    stats: Mapping[str, JsonObject]
    videos: Mapping[str, Path]


def encode_episode(episode: Episode, wanted: DatasetFormat, scratch: Path) -> EncodedEpisode:
    """Encode one episode; videos are written to ``scratch``, which names one file stem.

    Raises:
        SetupError: FV-REC-010 when the episode does not fit the dataset.
    """
    import pyarrow as pa

    episode.check(wanted)
    columns: dict[str, pa.Array] = {}
    stats: dict[str, JsonObject] = {}
    for name, rows in ((STATE, episode.state), (ACTION, episode.action)):
        flat = pa.array(np.ascontiguousarray(rows, dtype=np.float32).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, len(wanted.joints))
        stats[name] = column_stats(np.asarray(rows, dtype=np.float64))
    videos: dict[str, Path] = {}
    for camera in wanted.cameras:
        frames = episode.frames[camera.name]
        stats[camera.feature] = image_stats(frames)
        if wanted.frames == "png":
            columns[camera.feature] = _png_column([encode_png(frame) for frame in frames])
        else:
            videos[camera.name] = _video_file(scratch, camera)
            write_video(videos[camera.name], frames, wanted.fps, crf=_DATASET_CRF, keyframe_every=_DATASET_KEYFRAMES)
    return EncodedEpisode(
        pa.table(columns), episode.length, episode.task, episode.fine_grained, episode.note, stats, videos
    )


def save_encoded(encoded: EncodedEpisode, stem: Path) -> None:
    """Write ``<stem>.parquet`` and then ``<stem>.json``; the episode counts once the second file exists."""
    import pyarrow.parquet as pq

    partial = stem.with_suffix(".parquet.partial")
    pq.write_table(encoded.table, partial, compression="none", use_dictionary=False)
    partial.replace(stem.with_suffix(".parquet"))
    write_object(
        stem.with_suffix(".json"),
        {
            "length": encoded.length,
            "task": encoded.task,
            "fine_grained": list(encoded.fine_grained),
            "note": None if encoded.note is None else encoded.note.to_json(0),
            "stats": dict(encoded.stats),
        },
    )


def load_encoded(stem: Path, wanted: DatasetFormat) -> EncodedEpisode:
    """Read what ``save_encoded`` wrote (FV-REC-001, FV-REC-002, FV-REC-004 when it is damaged)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(stem.with_suffix(".json"))
    entry = read_object(stem.with_suffix(".json"))
    try:
        table = pq.read_table(stem.with_suffix(".parquet"))
    except (OSError, pa.ArrowException) as error:
        raise SetupError("FV-REC-004", f"cannot read {stem.with_suffix('.parquet')}: {error}.") from error
    note = entry.get("note")
    return EncodedEpisode(
        table=table,
        length=value(entry, "length", int, where),
        task=value(entry, "task", str, where),
        fine_grained=texts(entry, "fine_grained", where),
        note=DemonstrationNote.from_json(note, where) if isinstance(note, dict) else None,
        stats=value(entry, "stats", dict, where),
        videos={c.name: _video_file(stem, c) for c in wanted.cameras} if wanted.frames == "video" else {},
    )


def remove_encoded(stem: Path) -> None:
    """Delete the files of one encoded episode, videos included."""
    for path in stem.parent.glob(f"{stem.name}.*"):
        path.unlink()


def _video_file(stem: Path, camera: CameraFormat) -> Path:
    return stem.with_name(f"{stem.name}.{camera.name}.mp4")


def _png_column(pictures: list[bytes]) -> pa.Array:
    """Return struct<bytes, path>, the storage type of Hugging Face's Image feature."""
    import pyarrow as pa

    names = [f"frame_{number:06d}.png" for number in range(len(pictures))]
    return pa.StructArray.from_arrays(
        [pa.array(pictures, type=pa.binary()), pa.array(names, type=pa.string())], ["bytes", "path"]
    )
