"""One episode on disk, whatever LeRobot version wrote it; every mistake names the episode, the frame and the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.recording.dataset_format import ACTION, STATE, CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote
from finevla_runtime.recording.png import decode_picture
from finevla_runtime.recording.seekable_video import SeekableVideo
from finevla_runtime.recording.video import read_video

if TYPE_CHECKING:
    import pyarrow as pa

_TIMESTAMP_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class RowSpan:
    """Where the rows of an episode lie.

    Attributes:
        path: parquet file.
        first: its first row in the file; None when the file holds this episode alone (v2.1).
    """

    path: Path
    first: int | None = None


@dataclass(frozen=True)
class VideoSpan:
    """Where the frames of an episode and camera lie.

    Attributes:
        path: video file.
        first_s: time of the first frame in the file; None when the file holds this episode alone (v2.1).
    """

    path: Path
    first_s: float | None = None

    def time_s(self, step: int, fps: int) -> float:
        """Return the time of a control step in the file, seconds."""
        return (self.first_s or 0.0) + step / fps


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode on disk; rows and frames are read when they are asked for.

    Attributes:
        dataset: folder of the dataset.
        format: cameras, rate and names of the dataset.
        index: episode index.
        length: control steps.
        tasks: raw task texts.
        fine_grained: sentences of the fine-grained instruction, empty when the episode has none.
        note: what is known about a simulated demonstration, else None.
        row_span: where its rows are.
        videos: camera name -> where its frames are; empty when frames are pictures inside the parquet files.
        vectors: feature -> names of its dimensions, for every vector of floats.
    """

    dataset: Path
    format: DatasetFormat
    index: int
    length: int
    tasks: tuple[str, ...]
    fine_grained: tuple[str, ...]
    note: DemonstrationNote | None
    row_span: RowSpan
    videos: Mapping[str, VideoSpan]
    vectors: Mapping[str, tuple[str, ...]]

    @property
    def fine_grained_text(self) -> str:
        """Return the sentences joined by blanks, as FineVLA's training reads them."""
        return " ".join(self.fine_grained)

    def state(self) -> FloatArray:
        """Return ``observation.state``, float32[length, joints], finite."""
        return self.vector(self.table([STATE]), STATE)

    def action(self) -> FloatArray:
        """Return ``action``, float32[length, joints], finite."""
        return self.vector(self.table([ACTION]), ACTION)

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """Return state and action with one read of the file."""
        table = self.table([STATE, ACTION])
        return self.vector(table, STATE), self.vector(table, ACTION)

    def frames(self, camera: str) -> ByteArray:
        """Return uint8[length, height, width, 3] RGB of one camera.

        Raises:
            SetupError: FV-REC-013 for an unknown camera, FV-REC-008 naming episode and frame that cannot be
                decoded or has another size, FV-REC-006 when a video has another length.
        """
        wanted = self.camera(camera)
        if self.format.frames == "video":
            return self._video(wanted)
        frames = np.empty((self.length, wanted.height, wanted.width, 3), dtype=np.uint8)
        for number, picture in enumerate(self.pictures(camera)):
            frames[number] = self.picture(picture, camera, number)
        return frames

    def camera(self, name: str) -> CameraFormat:
        """Return the camera called ``name`` (FV-REC-013 when there is none)."""
        for camera in self.format.cameras:
            if camera.name == name:
                return camera
        raise unknown_name("FV-REC-013", "camera", name, [c.name for c in self.format.cameras], str(self.dataset))

    def pictures(self, camera: str) -> list[bytes]:
        """Return the encoded pictures of a camera whose frames are stored in the parquet file."""
        feature = self.camera(camera).feature
        column = self.table([feature]).column(0).combine_chunks()
        fields = [column.type.field(number).name for number in range(column.type.num_fields)]
        if "bytes" not in fields:
            raise self.fail("FV-REC-005", f"column {feature} of {self.row_span.path} holds no picture bytes")
        return [data or b"" for data in column.field("bytes").to_pylist()]

    def picture(self, data: bytes, camera: str, number: int) -> ByteArray:
        """Decode one encoded picture to uint8[height, width, 3] (FV-REC-008 naming episode and frame)."""
        try:
            return self._sized(decode_picture(data), self.camera(camera))
        except ValueError as error:
            raise self._bad_frame(camera, number, error, self.row_span.path) from error

    def video_frame(self, video: SeekableVideo, camera: str, number: int) -> ByteArray:
        """Decode one frame uint8[height, width, 3] from an open video (FV-REC-008 naming episode and frame)."""
        span, fps = self.videos[camera], self.format.fps
        try:
            return self._sized(video.frame_at(span.time_s(number, fps), 0.5 / fps), self.camera(camera))
        except ValueError as error:
            raise self._bad_frame(camera, number, error, span.path) from error

    def check(self, *, decode_frames: bool = False) -> None:
        """Check numbering, timestamps, shapes and finiteness; with ``decode_frames`` every picture too.

        Raises:
            SetupError: FV-REC-004 ... FV-REC-009 naming episode, frame and column.
        """
        table = self.table(["timestamp", "frame_index", "episode_index", *self.vectors])
        for name in self.vectors:
            self.vector(table, name)
        self.check_numbering(table)
        if decode_frames:
            for camera in self.format.cameras:
                self.frames(camera.name)

    def check_numbering(self, table: pa.Table) -> None:
        """Refuse rows whose numbers or times are not those of this episode (FV-REC-009)."""
        steps = np.arange(self.length)
        wanted: Mapping[str, npt.NDArray[np.float64]] = {
            "episode_index": np.full(self.length, float(self.index)),
            "frame_index": steps.astype(np.float64),
            "timestamp": steps / self.format.fps,
        }
        for name, expected in wanted.items():
            if name not in table.column_names:
                continue
            found = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
            wrong = np.flatnonzero(~(np.abs(found - expected) <= _TIMESTAMP_TOLERANCE_S))
            if wrong.size:
                frame = int(wrong[0])
                raise self.fail("FV-REC-009", f"frame {frame}: {name} is {found[frame]}, wanted {expected[frame]}")

    def table(self, columns: list[str]) -> pa.Table:
        """Read some columns of this episode's rows.

        Raises:
            SetupError: FV-REC-004 (unreadable file), FV-REC-005 (missing column), FV-REC-006 (number of rows).
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.row_span.path
        try:
            with pq.ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise self.fail("FV-REC-005", f"{path} has no column {missing[0]}")
                table = self._span_of(file, columns)
        except (OSError, pa.ArrowException) as error:
            raise self.fail("FV-REC-004", f"cannot read {path}: {error}") from error
        return self.checked_rows(table)

    def checked_rows(self, table: pa.Table) -> pa.Table:
        """Return the rows read for this episode, refusing another number of them (FV-REC-006)."""
        if table.num_rows != self.length:
            raise self.fail(
                "FV-REC-006", f"{self.row_span.path} has {table.num_rows} rows of it, meta/ says {self.length}"
            )
        return table

    def vector(self, table: pa.Table, name: str) -> FloatArray:
        """Return one vector column as float32[length, dimensions].

        Raises:
            SetupError: FV-REC-005 for another type or width, FV-REC-007 naming the frame and the dimension that is
                not finite.
        """
        names = self.vectors.get(name)
        if names is None:
            raise self.fail("FV-REC-005", f"meta/info.json lists no vector {name!r}; it has {', '.join(self.vectors)}")
        rows = _matrix(table.column(name))
        if rows is None or rows.shape[1] != len(names) or not np.issubdtype(rows.dtype, np.floating):
            got = "ragged or no list" if rows is None else f"{rows.dtype}[{rows.shape[0]}, {rows.shape[1]}]"
            raise self.fail("FV-REC-005", f"column {name} is {got}, wanted float32[{self.length}, {len(names)}]")
        if not np.isfinite(rows).all():
            frame, dimension = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
            raise self.fail("FV-REC-007", f"frame {frame}: {name} of {names[dimension]} is {rows[frame, dimension]}")
        return np.asarray(rows, dtype=np.float32)

    def fail(self, code: str, message: str) -> SetupError:
        """Return an error that names this episode and its dataset."""
        return SetupError(code, f"episode {self.index} of {self.dataset}: {message}. Record or convert it again.")

    def _span_of(self, file: pa.parquet.ParquetFile, columns: list[str]) -> pa.Table:
        """Read the row groups that hold this episode and cut its rows out."""
        if self.row_span.first is None:
            return file.read(columns=columns)
        first, begin, groups, skipped = self.row_span.first, 0, [], 0
        for number in range(file.metadata.num_row_groups):
            end = begin + file.metadata.row_group(number).num_rows
            if begin < first + self.length and end > first:
                groups.append(number)
            elif end <= first:
                skipped = end
            begin = end
        return file.read_row_groups(groups, columns=columns).slice(first - skipped, self.length)

    def _sized(self, picture: ByteArray, camera: CameraFormat) -> ByteArray:
        if picture.shape[:2] != (camera.height, camera.width):
            got = f"{picture.shape[0]}x{picture.shape[1]}"
            raise ValueError(f"it is {got}, wanted {camera.height}x{camera.width}")
        return picture

    def _bad_frame(self, camera: str, number: int, error: ValueError, path: Path) -> SetupError:
        return self.fail("FV-REC-008", f"frame {number} of {camera} ({path}): {error}")

    def _video(self, camera: CameraFormat) -> ByteArray:
        span, fps = self.videos[camera.name], self.format.fps
        if span.first_s is None:
            frames = read_video(span.path)
        else:
            try:
                with SeekableVideo(span.path) as video:
                    frames = video.frames_from(span.first_s, self.length, 0.5 / fps)
            except ValueError as error:
                raise self.fail("FV-REC-006", f"cannot read {camera.name}: {error}") from error
        if len(frames) != self.length:
            raise self.fail("FV-REC-006", f"{span.path} has {len(frames)} frames, wanted {self.length}")
        if frames.shape[1:3] != (camera.height, camera.width):
            got, wanted = f"{frames.shape[1]}x{frames.shape[2]}", f"{camera.height}x{camera.width}"
            raise self.fail("FV-REC-008", f"{span.path} is {got}, wanted {wanted}")
        return frames


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.generic] | None:
    """Return a list column as [rows, width], a scalar column as [rows, 1]; None when rows differ in width."""
    import pyarrow as pa

    flat = column.combine_chunks()
    if pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type):
        widths = np.diff(np.asarray(flat.offsets))
        if flat.null_count or (widths != widths[:1]).any():
            return None
        width = int(widths[0]) if len(widths) else 0
    elif pa.types.is_fixed_size_list(flat.type):
        width = flat.type.list_size
    elif pa.types.is_floating(flat.type):
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, 1)
    else:
        return None
    values = np.asarray(flat.flatten().to_numpy(zero_copy_only=False))
    return values.reshape(len(flat), width) if values.size == len(flat) * width else None
