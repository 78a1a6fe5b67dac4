"""One LeRobot dataset as training reads it: any frame of any episode with its images, targets and texts.

Everything that can be known to be wrong before the first step is found when the dataset is opened: a missing camera,
columns of the wrong width, values that are not finite, tasks without text, videos that end too early.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError, nearest, unknown_name
from finevla_runtime.recording.lerobot_reader import read_dataset
from finevla_runtime.recording.modality import Modality, read_modality
from finevla_runtime.recording.recorded_dataset import Dataset
from finevla_runtime.recording.recorded_episode import RecordedEpisode
from finevla_runtime.recording.seekable_video import video_shortfall
from training.data.gripper_range import GripperRange
from training.data.row_store import IntArray, RowStore, open_row_store


@dataclass(frozen=True)
class DataSource:
    """One dataset of a mixture, as a recipe names it.

    Attributes:
        root: folder of the dataset.
        weight: probability of drawing from it, relative to the other datasets.
        name: what errors and reports call it; the folder's name when empty.
        grippers: readings of its closed and open grippers.
        cameras: camera of the policy -> camera of the dataset, where the names differ.
        language: annotation of ``modality.json`` to read raw texts by, when it lists several.
    """

    root: Path
    weight: float = 1.0
    name: str = ""
    grippers: GripperRange = field(default_factory=GripperRange)
    cameras: Mapping[str, str] = field(default_factory=dict)
    language: str = ""


@dataclass(frozen=True, eq=False)
class VLADataset:
    """An opened and checked dataset.

    Attributes:
        name: what errors and reports call it.
        weight: relative probability of drawing from it.
        source: the LeRobot dataset.
        modality: which columns and cameras are which.
        rows: state, target and task of every control step.
        cameras: camera of the policy -> camera of the dataset.
        annotated: int64[n], episodes that have a fine-grained instruction, in order.
    """

    name: str
    weight: float
    source: Dataset
    modality: Modality
    rows: RowStore
    cameras: Mapping[str, str]
    annotated: IntArray

    @cached_property
    def key(self) -> str:
        """Return the sha256 of what decides its samples: rows, texts, weight, cameras and the sizes of their videos."""
        texts = [[int(number), self.source.episodes[int(number)].fine_grained_text] for number in self.annotated]
        videos = sorted(path.stat().st_size for path in self.source.video_files(tuple(self.cameras.values())))
        told = [self.rows.key, self.weight, texts, sorted(self.cameras.items()), videos]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def episode(self, number: int) -> RecordedEpisode:
        """Return the recorded episode."""
        return self.source.episodes[number]

    def chunk(self, episode: int, step: int, rows: int) -> FloatArray:
        """Return the targets of ``rows`` control steps from ``step`` on, float32[rows, 14]; the last row repeats.

        Project layout, radians and open fractions.
        """
        first, last = int(self.rows.first_row[episode]), int(self.rows.first_row[episode + 1]) - 1
        return np.array(self.rows.action[np.minimum(np.arange(first + step, first + step + rows), last)])

    def state(self, episode: int, step: int) -> FloatArray:
        """Return the measured joints float32[14] of one control step, in the units of ``chunk``."""
        return np.array(self.rows.state[int(self.rows.first_row[episode]) + step])

    def text(self, episode: int, step: int, fine_grained: bool) -> str:
        """Return the instruction of a sample.

        The fine-grained text is the same at every step of an episode; the raw one follows the task of the step.

        Raises:
            SetupError: FV-DAT-010 when the episode has no fine-grained text; raw text never stands in for it.
        """
        if not fine_grained:
            return self.source.tasks[int(self.rows.task[int(self.rows.first_row[episode]) + step])]
        text = self.source.episodes[episode].fine_grained_text
        if not text:
            raise SetupError("FV-DAT-010", f"episode {episode} of {self.name} has no fine-grained instruction.")
        return text

    def task_of(self, episode: int) -> int:
        """Return the task number of an episode's first control step."""
        return int(self.rows.task[int(self.rows.first_row[episode])])


def open_vla_dataset(source: DataSource, cameras: tuple[str, ...], cache: Path) -> VLADataset:
    """Open and check one dataset.

    Args:
        source: where it is and how to read it.
        cameras: cameras of the policy, in model order.
        cache: folder of the row stores.

    Raises:
        SetupError: FV-DAT-001 for a missing camera, FV-DAT-016 for names of cameras that the policy does
            not have, FV-DAT-003 for a broken or short video, FV-DAT-004 for a
            dataset without episodes, FV-DAT-002 and FV-DAT-005 from the rows, FV-REC-* from the reader.
    """
    dataset = read_dataset(source.root)
    if not len(dataset):
        raise SetupError("FV-DAT-004", f"{source.root} has no episode; record or convert some first.")
    modality = read_modality(dataset, source.language)
    _check_names(source, cameras)
    found = {camera: camera_in(dataset, modality, source, camera) for camera in cameras}
    rows = open_row_store(dataset, modality, source.grippers, cache)
    _check_videos(dataset, tuple(found.values()), cache)
    annotated = np.array([e.index for e in dataset if e.fine_grained_text], dtype=np.int64)
    name = source.name or source.root.resolve().name
    return VLADataset(name, source.weight, dataset, modality, rows, found, annotated)


def _check_names(source: DataSource, cameras: tuple[str, ...]) -> None:
    """Refuse names for cameras that the policy does not have (FV-DAT-016 with the nearest)."""
    for name in source.cameras:
        if name not in cameras:
            raise unknown_name("FV-DAT-016", "camera of the policy", name, cameras, str(source.root))


def camera_in(dataset: Dataset, modality: Modality, source: DataSource, camera: str) -> str:
    """Return the dataset's camera that the policy calls ``camera`` (FV-DAT-001 when there is none)."""
    wanted = source.cameras.get(camera, camera)
    feature = modality.cameras.get(wanted)
    for known in dataset.format.cameras:
        if known.feature == feature:
            return known.name
    listed = ", ".join(modality.cameras) or "none"
    guess = nearest(wanted, modality.cameras)
    hint = f" Is {guess!r} the same camera? Then say so with --cameras or in the mixture file." if guess else ""
    raise SetupError("FV-DAT-001", f"{dataset.root} has no camera {wanted!r}; it has {listed}.{hint}")


def _check_videos(dataset: Dataset, cameras: tuple[str, ...], cache: Path) -> None:
    """Refuse missing, truncated and short videos; files that passed are looked at again only when they changed."""
    files = dataset.video_files(cameras)
    if not files:
        return
    stamps = []
    for path, (episode, frames) in files.items():
        if not path.is_file():
            raise episode.fail("FV-DAT-003", f"video {path} is missing")
        state = path.stat()
        stamps.append([str(path), state.st_size, state.st_mtime_ns, frames])
    mark = cache / f"videos-{hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:20]}.ok"
    if mark.exists():
        return
    for path, (episode, frames) in files.items():
        problem = video_shortfall(path, frames)
        if problem:
            last = f"frames up to {episode.length - 1}"
            raise episode.fail("FV-DAT-003", f"video {path} does not hold {last}: {problem}")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
