"""A dataset on disk, whatever LeRobot version wrote it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import DatasetFormat
from finevla_runtime.recording.json_lines import read_object, value
from finevla_runtime.recording.lerobot_writer import DATASET_FILE
from finevla_runtime.recording.recorded_episode import RecordedEpisode

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk.

    Attributes:
        root: its folder.
        version: LeRobot version, ``v2.1`` or ``v3.0``.
        format: cameras, rate and names.
        tasks: task_index -> raw text.
        episodes: all episodes in order.
        digest: content hash that the writer recorded, empty for datasets of other writers.
        vectors: feature -> names of its dimensions, for every vector of floats.
    """

    root: Path
    version: str
    format: DatasetFormat
    tasks: Mapping[int, str]
    episodes: tuple[RecordedEpisode, ...]
    digest: str
    vectors: Mapping[str, tuple[str, ...]]

    def __iter__(self) -> Iterator[RecordedEpisode]:
        return iter(self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def total_frames(self) -> int:
        """Return the number of control steps of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def row_files(self) -> tuple[Path, ...]:
        """Return the parquet files that hold rows, each once, in episode order."""
        return tuple(dict.fromkeys(episode.row_span.path for episode in self.episodes))

    def video_files(self, cameras: Collection[str] | None = None) -> Mapping[Path, tuple[RecordedEpisode, int]]:
        """Return every video file with its last episode and the number of frames that the episodes need in it.

        Args:
            cameras: names of the cameras to look at; all of them by default.
        """
        found: dict[Path, tuple[RecordedEpisode, int]] = {}
        for episode in self.episodes:
            for camera, span in episode.videos.items():
                needed = round((span.first_s or 0.0) * self.format.fps) + episode.length
                if cameras is not None and camera not in cameras:
                    continue
                if span.path not in found or found[span.path][1] < needed:
                    found[span.path] = (episode, needed)
        return found

    def tables(self, columns: list[str]) -> Iterator[tuple[RecordedEpisode, pa.Table]]:
        """Yield every episode with some columns of its rows; a file of many episodes is read once.

        Raises:
            SetupError: as in ``RecordedEpisode.table``.
        """
        for _, group in groupby(self.episodes, key=lambda episode: episode.row_span.path):
            episodes = list(group)
            if len(episodes) == 1:
                yield episodes[0], episodes[0].table(columns)
                continue
            whole = _whole_table(episodes[0], columns)
            for episode in episodes:
                yield episode, episode.checked_rows(whole.slice(episode.row_span.first or 0, episode.length))

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


def _whole_table(episode: RecordedEpisode, columns: list[str]) -> pa.Table:
    """Read some columns of a file of several episodes; mistakes name the first of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = episode.row_span.path
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise episode.fail("FV-REC-004", f"cannot read {path}: {error}") from error
