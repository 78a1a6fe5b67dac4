"""LeRobot v3.0: parquet files and videos that hold many episodes, ``meta/`` in parquet.

Source: LeRobot 0.4.4. ``meta/episodes/chunk-*/file-*.parquet`` has one row per episode: its number, length, task
texts, the data file and the rows in it, and per camera the video file with the times where it begins and ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import DatasetFormat
from finevla_runtime.recording.dataset_meta import (
    check_totals,
    file_name,
    read_fine_grained,
    read_format,
    read_notes,
    read_vectors,
    recorded_digest,
)
from finevla_runtime.recording.json_lines import JsonObject, texts, value
from finevla_runtime.recording.recorded_dataset import Dataset
from finevla_runtime.recording.recorded_episode import RecordedEpisode, RowSpan, VideoSpan

if TYPE_CHECKING:
    import pyarrow as pa

VERSION_30 = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_DATA_COLUMNS = ("data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")


def read_v30(root: Path, info: JsonObject) -> Dataset:
    """Read a v3.0 dataset whose ``info.json`` is ``info``; errors as in ``read_dataset``."""
    meta = root / "meta"
    where = str(meta / "info.json")
    wanted, vectors = read_format(info, where), read_vectors(info, where)
    entries = [(e, f"{meta / 'episodes'} (row {n})") for n, e in enumerate(_episode_entries(meta, wanted))]
    for number, (entry, place) in enumerate(entries):
        index = value(entry, "episode_index", int, place)
        if index != number:
            raise SetupError("FV-REC-009", f"{place}: episode_index is {index}, wanted {number}.")
    lengths = [_length(entry, place) for entry, place in entries]
    check_totals(info, lengths, "meta/episodes", where)
    fine_grained, notes = read_fine_grained(meta, len(entries)), read_notes(meta)
    first_rows = _first_rows([entry for entry, _ in entries])
    episodes = [
        RecordedEpisode(
            dataset=root,
            format=wanted,
            index=index,
            length=lengths[index],
            tasks=texts(entry, "tasks", place),
            fine_grained=fine_grained.get(index, ()),
            note=notes.get(index),
            row_span=RowSpan(root / _path(info, entry, "data_path", DATA_PATH, "", place), first_rows[index]),
            videos=_videos(root, info, entry, wanted, place),
            vectors=vectors,
        )
        for index, (entry, place) in enumerate(entries)
    ]
    return Dataset(root, VERSION_30, wanted, _tasks(meta), tuple(episodes), recorded_digest(root), vectors)


def _episode_entries(meta: Path, wanted: DatasetFormat) -> list[JsonObject]:
    """Read the rows of all episode files in order, without the statistics."""
    paths = sorted((meta / "episodes").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise SetupError("FV-REC-001", f"{meta / 'episodes'} has no chunk-*/file-*.parquet; the dataset is incomplete.")
    columns = ["episode_index", "tasks", "length", *_DATA_COLUMNS]
    if wanted.frames == "video":
        for camera in wanted.cameras:
            prefix = f"videos/{camera.feature}"
            columns += [f"{prefix}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    entries: list[JsonObject] = []
    for path in paths:
        entries += _read_columns(path, columns).to_pylist()
    return entries


def _first_rows(entries: list[JsonObject]) -> list[int]:
    """Return the first row of every episode inside its data file.

    ``dataset_from_index`` counts over the whole dataset; a file begins with the smallest of its episodes.
    """
    placed = [((e["data/chunk_index"], e["data/file_index"]), value(e, "dataset_from_index", int, "")) for e in entries]
    begins: dict[tuple[object, object], int] = {}
    for file, first in placed:
        begins[file] = min(first, begins.get(file, first))
    return [first - begins[file] for file, first in placed]


def _length(entry: JsonObject, where: str) -> int:
    length = value(entry, "length", int, where)
    rows = value(entry, "dataset_to_index", int, where) - value(entry, "dataset_from_index", int, where)
    if rows != length or length <= 0:
        raise SetupError("FV-REC-006", f"{where}: length is {length}, its row numbers span {rows}.")
    return length


def _videos(
    root: Path, info: JsonObject, entry: JsonObject, wanted: DatasetFormat, where: str
) -> Mapping[str, VideoSpan]:
    if wanted.frames != "video":
        return {}
    found = {}
    for camera in wanted.cameras:
        path = _path(info, entry, "video_path", VIDEO_PATH, camera.feature, where)
        prefix = f"videos/{camera.feature}"
        first_s = value(entry, f"{prefix}/from_timestamp", float, where)
        shown_s = value(entry, f"{prefix}/to_timestamp", float, where) - first_s
        needed_s = (value(entry, "length", int, where) - 0.5) / wanted.fps
        if shown_s < needed_s:
            raise SetupError(
                "FV-REC-006", f"{where}: {camera.name} is shown for {shown_s:.3f} s, its rows need {needed_s:.3f} s."
            )
        found[camera.name] = VideoSpan(root / path, first_s)
    return found


def _path(info: JsonObject, entry: JsonObject, key: str, default: str, video_key: str, where: str) -> str:
    template = value(info, key, str, where) if key in info else default
    prefix = f"videos/{video_key}" if video_key else "data"
    chunk = value(entry, f"{prefix}/chunk_index", int, where)
    file = value(entry, f"{prefix}/file_index", int, where)
    return file_name(template, where, chunk_index=chunk, file_index=file, video_key=video_key)


def _tasks(meta: Path) -> Mapping[int, str]:
    """Read ``tasks.parquet``: pandas wrote the texts as its index, whose column name differs between releases."""
    import pyarrow as pa

    path = meta / "tasks.parquet"
    table = _read_columns(path, None)
    names = [field.name for field in table.schema if pa.types.is_string(field.type) or _is_large(field.type)]
    if len(names) != 1 or "task_index" not in table.column_names:
        columns = ", ".join(table.column_names)
        raise SetupError("FV-REC-002", f"{path} has columns {columns}, wanted task_index and one of texts.")
    return dict(zip(table.column("task_index").to_pylist(), table.column(names[0]).to_pylist(), strict=True))


def _is_large(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_large_string(kind))


def _read_columns(path: Path, columns: list[str] | None) -> pa.Table:
    """Read some or all columns of a file of ``meta/`` (FV-REC-001 missing, FV-REC-002 unreadable or incomplete)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise SetupError("FV-REC-001", f"cannot read {path}: no such file. Check the folder.")
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise SetupError("FV-REC-002", f"{path} has no column {missing[0]!r}.")
            return file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise SetupError("FV-REC-002", f"{path} is no readable parquet file: {error}") from error
