"""Reads and checks LeRobot v2.1 datasets; every mistake names the file or the episode and frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.recording.dataset_format import (
    ACTION,
    CODEBASE_VERSION,
    STATE,
    CameraFormat,
    DatasetFormat,
)
from finevla_runtime.recording.episode import DemonstrationNote
from finevla_runtime.recording.json_lines import JsonObject, read_lines, read_object, texts, value
from finevla_runtime.recording.lerobot_writer import DATASET_FILE
from finevla_runtime.recording.png import decode_png
from finevla_runtime.recording.video import read_video

if TYPE_CHECKING:
    import pyarrow as pa

_TIMESTAMP_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode on disk; rows and frames are read when they are asked for.

    Attributes:
        dataset: folder of the dataset.
        format: features, cameras, rate and file names of the dataset.
        index: episode index.
        length: control steps.
        tasks: raw task texts.
        fine_grained: sentences of the fine-grained instruction, empty when the dataset has none.
        note: what is known about a simulated demonstration, else None.
    """

    dataset: Path
    format: DatasetFormat
    index: int
    length: int
    tasks: tuple[str, ...]
    fine_grained: tuple[str, ...]
    note: DemonstrationNote | None

    @property
    def fine_grained_text(self) -> str:
        """Return the sentences joined by blanks, as FineVLA's training reads them."""
        return " ".join(self.fine_grained)

    def state(self) -> FloatArray:
        """Return ``observation.state``, float32[length, joints], finite."""
        return self._vectors(STATE)

    def action(self) -> FloatArray:
        """Return ``action``, float32[length, joints], finite."""
        return self._vectors(ACTION)

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """Return state and action with one read of the file."""
        table = self._table([STATE, ACTION])
        return self._vector(table, STATE), self._vector(table, ACTION)

    def frames(self, camera: str) -> ByteArray:
        """Return uint8[length, height, width, 3] RGB of one camera.

        Raises:
            SetupError: FV-REC-013 for an unknown camera, FV-REC-008 naming episode and frame that cannot be
                decoded or has another size, FV-REC-006 when a video has another length.
        """
        wanted = next((c for c in self.format.cameras if c.name == camera), None)
        if wanted is None:
            raise unknown_name("FV-REC-013", "camera", camera, [c.name for c in self.format.cameras])
        if self.format.frames == "video":
            return self._video(wanted)
        column = self._table([wanted.feature]).column(0).combine_chunks()
        pictures = column.field("bytes").to_pylist()
        frames = np.empty((self.length, wanted.height, wanted.width, 3), dtype=np.uint8)
        for number, picture in enumerate(pictures):
            frames[number] = self._picture(picture, wanted, number)
        return frames

    def check(self, *, decode_frames: bool = False) -> None:
        """Check numbering, timestamps, shapes and finiteness; with ``decode_frames`` every picture too.

        Raises:
            SetupError: FV-REC-004 ... FV-REC-009 naming episode, frame and column.
        """
        self.rows()
        table = self._table(["timestamp", "frame_index", "episode_index"])
        steps = np.arange(self.length)
        wanted: Mapping[str, npt.NDArray[np.float64]] = {
            "timestamp": steps / self.format.fps,
            "frame_index": steps.astype(np.float64),
            "episode_index": np.full(self.length, float(self.index)),
        }
        for name, expected in wanted.items():
            found = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
            wrong = np.flatnonzero(~(np.abs(found - expected) <= _TIMESTAMP_TOLERANCE_S))
            if wrong.size:
                frame = int(wrong[0])
                raise self._fail("FV-REC-009", f"frame {frame}: {name} is {found[frame]}, wanted {expected[frame]}")
        if decode_frames:
            for camera in self.format.cameras:
                self.frames(camera.name)

    def _vectors(self, name: str) -> FloatArray:
        return self._vector(self._table([name]), name)

    def _vector(self, table: pa.Table, name: str) -> FloatArray:
        joints = len(self.format.joints)
        column = table.column(name).combine_chunks()
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        if flat.size != self.length * joints or flat.dtype != np.float32:
            got = f"{flat.dtype} with {flat.size} values"
            raise self._fail("FV-REC-005", f"column {name} is {got}, wanted float32[{self.length}, {joints}]")
        rows = flat.reshape(self.length, joints)
        if not np.isfinite(rows).all():
            frame, dimension = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
            joint = self.format.joints[dimension]
            raise self._fail("FV-REC-007", f"frame {frame}: {name} of {joint} is {rows[frame, dimension]}")
        return rows

    def _table(self, columns: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.dataset / self.format.data_path(self.index)
        try:
            file = pq.ParquetFile(path)
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise self._fail("FV-REC-005", f"{path} has no column {missing[0]}")
            table = file.read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise self._fail("FV-REC-004", f"cannot read {path}: {error}") from error
        if table.num_rows != self.length:
            raise self._fail("FV-REC-006", f"{path} has {table.num_rows} rows, episodes.jsonl says {self.length}")
        return table

    def _picture(self, data: bytes | None, camera: CameraFormat, number: int) -> ByteArray:
        try:
            picture = decode_png(data or b"")
        except ValueError as error:
            raise self._fail("FV-REC-008", f"frame {number} of {camera.name}: {error}") from error
        if picture.shape[:2] != (camera.height, camera.width):
            got = f"{picture.shape[0]}x{picture.shape[1]}"
            wanted = f"{camera.height}x{camera.width}"
            raise self._fail("FV-REC-008", f"frame {number} of {camera.name} is {got}, wanted {wanted}")
        return picture

    def _video(self, camera: CameraFormat) -> ByteArray:
        path = self.dataset / self.format.video_path(self.index, camera)
        frames = read_video(path)
        if len(frames) != self.length:
            raise self._fail("FV-REC-006", f"{path} has {len(frames)} frames, wanted {self.length}")
        if frames.shape[1:3] != (camera.height, camera.width):
            got, wanted = f"{frames.shape[1]}x{frames.shape[2]}", f"{camera.height}x{camera.width}"
            raise self._fail("FV-REC-008", f"{path} is {got}, wanted {wanted}")
        return frames

    def _fail(self, code: str, message: str) -> SetupError:
        return SetupError(code, f"episode {self.index} of {self.dataset}: {message}. Record or convert it again.")


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk.

    Attributes:
        root: its folder.
        format: features, cameras, rate and file names.
        tasks: task_index -> raw text.
        episodes: all episodes in order.
        digest: content hash that the writer recorded, empty for datasets of other writers.
    """

    root: Path
    format: DatasetFormat
    tasks: Mapping[int, str]
    episodes: tuple[RecordedEpisode, ...]
    digest: str

    def __iter__(self) -> Iterator[RecordedEpisode]:
        return iter(self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def total_frames(self) -> int:
        """Return the number of control steps of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def verify_files(self) -> None:
        """Compare every file with the digest that the writer recorded.

        Raises:
            SetupError: FV-REC-001 when the writer recorded none, FV-REC-016 naming the first file that changed.
        """
        record = self.root / DATASET_FILE
        files = value(read_object(record), "files", dict, str(record))
        for name, digest in files.items():
            path = self.root / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                state = "differs from what was written" if path.is_file() else "is missing"
                raise SetupError("FV-REC-016", f"{path} {state}; copy or record the dataset again.")


def read_dataset(root: Path) -> Dataset:
    """Read the ``meta/`` of a LeRobot v2.1 dataset; rows and frames come later, per episode.

    Raises:
        SetupError: FV-REC-001 missing file, FV-REC-002 malformed line or key, FV-REC-003 another LeRobot version,
            FV-REC-006 totals that contradict each other, FV-REC-009 episodes out of order.
    """
    meta = root / "meta"
    info = read_object(meta / "info.json")
    wanted = _read_format(info, str(meta / "info.json"))
    fine_grained = _fine_grained(meta)
    notes = _notes(meta)
    episodes = []
    for number, entry in enumerate(read_lines(meta / "episodes.jsonl")):
        where = f"{meta / 'episodes.jsonl'}:{number + 1}"
        index = value(entry, "episode_index", int, where)
        if index != number:
            raise SetupError("FV-REC-009", f"{where}: episode_index is {index}, wanted {number}.")
        length = value(entry, "length", int, where)
        names = texts(entry, "tasks", where)
        episodes.append(
            RecordedEpisode(root, wanted, index, length, names, fine_grained.get(index, ()), notes.get(index))
        )
    _check_totals(info, episodes, str(meta / "info.json"))
    return Dataset(root, wanted, _tasks(meta), tuple(episodes), _digest(root))


def _read_format(info: JsonObject, where: str) -> DatasetFormat:
    version = value(info, "codebase_version", str, where)
    if version != CODEBASE_VERSION:
        raise SetupError(
            "FV-REC-003",
            f"{where}: the dataset is LeRobot {version}, this reader wants {CODEBASE_VERSION}; convert it first.",
        )
    features = value(info, "features", dict, where)
    cameras, kinds = [], set()
    for key, feature in features.items():
        if isinstance(feature, dict) and feature.get("dtype") in ("image", "video"):
            shape = value(feature, "shape", list, f"{where} ({key})")
            if len(shape) != 3 or not all(isinstance(size, int) for size in shape):
                raise SetupError("FV-REC-002", f"{where} ({key}): shape is {shape}, wanted [height, width, 3].")
            cameras.append(CameraFormat(key.removeprefix("observation.images."), shape[0], shape[1]))
            kinds.add(feature["dtype"])
    if len(kinds) > 1:
        raise SetupError("FV-REC-002", f"{where}: some cameras are images, others videos; wanted one of both.")
    action = value(features, ACTION, dict, where)
    value(features, STATE, dict, where)
    return DatasetFormat(
        robot_type=value(info, "robot_type", str, where),
        fps=value(info, "fps", int, where),
        cameras=tuple(cameras),
        frames="video" if kinds == {"video"} else "png",
        joints=texts(action, "names", f"{where} ({ACTION})"),
        chunk_episodes=value(info, "chunks_size", int, where),
    )


def _tasks(meta: Path) -> Mapping[int, str]:
    path = meta / "tasks.jsonl"
    entries = enumerate(read_lines(path), start=1)
    return {value(e, "task_index", int, f"{path}:{n}"): value(e, "task", str, f"{path}:{n}") for n, e in entries}


def _fine_grained(meta: Path) -> Mapping[int, tuple[str, ...]]:
    path = meta / "FineGrainedInstruction.jsonl"
    if not path.exists():
        return {}
    return {
        value(entry, "episode_id", int, f"{path}:{n}"): texts(entry, "FineGrainedInstruction", f"{path}:{n}")
        for n, entry in enumerate(read_lines(path), start=1)
    }


def _notes(meta: Path) -> Mapping[int, DemonstrationNote]:
    path = meta / "finevla_trials.jsonl"
    if not path.exists():
        return {}
    return {
        value(entry, "episode_index", int, f"{path}:{n}"): DemonstrationNote.from_json(entry, f"{path}:{n}")
        for n, entry in enumerate(read_lines(path), start=1)
    }


def _check_totals(info: JsonObject, episodes: list[RecordedEpisode], where: str) -> None:
    found = {"total_episodes": len(episodes), "total_frames": sum(episode.length for episode in episodes)}
    for key, count in found.items():
        if value(info, key, int, where) != count:
            raise SetupError("FV-REC-006", f"{where}: {key} is {info[key]}, episodes.jsonl adds up to {count}.")


def _digest(root: Path) -> str:
    path = root / DATASET_FILE
    return value(read_object(path), "digest", str, str(path)) if path.exists() else ""
