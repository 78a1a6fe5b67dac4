"""Demonstrations of the tabletop suite as training sees them: frames, labels, texts and paired twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.episode import DemonstrationNote
from finevla_runtime.recording.lerobot_reader import Dataset, read_dataset
from training.data.frame_store import FrameStore, Progress, kept_frames, open_frame_store

IntArray = npt.NDArray[np.int64]

# Twins whose joints differ by less than this (rad) still look alike: what tells them apart is the text.
ALIKE_STATE_RAD = 0.15
# Mean absolute difference of the twins' chunks (normalised units) from which on a frame asks for a choice.
DISTINCT_LABEL = 0.04
HELD_OUT_EVERY = 25


@dataclass(frozen=True)
class EpisodeEntry:
    """One demonstration inside the store.

    Attributes:
        index: episode index in the dataset.
        note: family, variant, scene and texts.
        first_row: place of control step 0 in the store's rows.
        length: control steps.
        first_frame, frames: kept frames in the store.
    """

    index: int
    note: DemonstrationNote
    first_row: int
    length: int
    first_frame: int
    frames: int


@dataclass(frozen=True, eq=False)
class TabletopDataset:
    """Everything the mixture draws from.

    Attributes:
        source: the LeRobot dataset.
        store: decoded frames and rows.
        episodes: demonstrations in order.
        factors: (family, variant) pairs in order of first appearance; the classes of the text classifier.
        frame_episode, frame_step: int64[N], episode position and control step of every kept frame.
    """

    source: Dataset
    store: FrameStore
    episodes: tuple[EpisodeEntry, ...]
    factors: tuple[tuple[str, str], ...]
    frame_episode: IntArray
    frame_step: IntArray

    @property
    def families(self) -> tuple[str, ...]:
        """Return the family ids in order of first appearance."""
        return tuple(dict.fromkeys(family for family, _ in self.factors))

    def groups(self, held_out: bool) -> dict[tuple[str, int], tuple[int, ...]]:
        """Return (family, scene seed) -> positions of its episodes; every 25th scene is held out."""
        found: dict[tuple[str, int], list[int]] = {}
        for position, episode in enumerate(self.episodes):
            if is_held_out(episode.note.scene_seed) == held_out:
                found.setdefault((episode.note.family, episode.note.scene_seed), []).append(position)
        return {key: tuple(positions) for key, positions in found.items()}

    def texts(self) -> tuple[str, ...]:
        """Return every recorded training text once, in order of first appearance."""
        listed = (text for e in self.episodes for text in (*e.note.raw_texts, *e.note.fine_grained_texts))
        return tuple(dict.fromkeys(listed))

    def chunk_rows(self, frames: IntArray, rows: int) -> IntArray:
        """Return int64[B, rows]: rows of the store that label each frame; the last row of an episode repeats."""
        first = np.array([e.first_row for e in self.episodes])[self.frame_episode[frames]]
        last = first + np.array([e.length for e in self.episodes])[self.frame_episode[frames]] - 1
        steps = first[:, None] + self.frame_step[frames][:, None] + np.arange(rows)[None, :]
        return np.asarray(np.minimum(steps, last[:, None]), dtype=np.int64)


def is_held_out(scene_seed: int) -> bool:
    """Return whether a scene is kept out of training to watch the choice on it."""
    return scene_seed % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


def open_tabletop_dataset(
    root: Path, cameras: tuple[str, ...], stride: int, cache: Path, workers: int, progress: Progress
) -> TabletopDataset:
    """Read a dataset written by ``finevla sim demos``.

    Raises:
        SetupError: FV-TRN-004 when an episode has no note or no text of one kind (named), FV-TRN-005 when nothing
            is left, and what the reader and the store raise.
    """
    source = read_dataset(root)
    if not len(source):
        raise SetupError("FV-TRN-005", f"{root} has no episode; record demonstrations first.")
    notes = [_note(source, index) for index in range(len(source))]
    store = open_frame_store(source, cameras, stride, cache, workers, progress)
    entries: list[EpisodeEntry] = []
    row = frame = 0
    for episode, note in zip(source, notes, strict=True):
        count = kept_frames(episode.length, stride)
        entries.append(EpisodeEntry(episode.index, note, row, episode.length, frame, count))
        row, frame = row + episode.length, frame + count
    factors = tuple(dict.fromkeys((note.family, note.variant) for note in notes))
    return TabletopDataset(
        source,
        store,
        tuple(entries),
        factors,
        np.repeat(np.arange(len(entries)), [e.frames for e in entries]),
        np.concatenate([np.arange(e.frames) * stride for e in entries]),
    )


def _note(source: Dataset, index: int) -> DemonstrationNote:
    episode = source.episodes[index]
    if not episode.fine_grained:
        raise SetupError(
            "FV-TRN-004",
            f"episode {index} of {source.root} has no line in meta/FineGrainedInstruction.jsonl; without fine-grained "
            "text the FG share would silently be smaller than asked. Record or annotate it.",
        )
    if episode.note is None or not episode.note.raw_texts or not episode.note.fine_grained_texts:
        raise SetupError(
            "FV-TRN-004",
            f"episode {index} of {source.root} has no complete line in meta/finevla_trials.jsonl (family, scene, "
            "texts of both kinds); paired training needs it. Use `finevla sim demos`.",
        )
    return episode.note


def choice_frames(dataset: TabletopDataset, labels: FloatArray, chunk: int) -> npt.NDArray[np.bool_]:
    """Return bool[N]: frames at which twins still look alike but their chunks already part.

    Only the text can tell the twins apart there, so this is where a policy becomes steerable or deaf. The test works
    for choices at the start (colour, arm) and in mid-episode (pose, rotation) alike.

    Args:
        dataset: episodes with twins.
        labels: float32[T, 14], normalised targets of every control step.
        chunk: rows per label.
    """
    chosen = np.zeros(len(dataset.frame_step), dtype=bool)
    for held_out in (False, True):
        for positions in dataset.groups(held_out).values():
            for a in positions:
                for b in positions:
                    if a != b:
                        _mark(dataset, labels, chunk, dataset.episodes[a], dataset.episodes[b], chosen)
    return chosen


def _mark(
    dataset: TabletopDataset,
    labels: FloatArray,
    chunk: int,
    one: EpisodeEntry,
    other: EpisodeEntry,
    chosen: npt.NDArray[np.bool_],
) -> None:
    count = min(one.frames, other.frames)
    mine, theirs = np.arange(one.first_frame, one.first_frame + count), other.first_frame + np.arange(count)
    state = dataset.store.state
    steps = dataset.frame_step[mine]
    apart = np.abs(state[one.first_row + steps] - state[other.first_row + steps]).max(axis=1)
    a, b = labels[dataset.chunk_rows(mine, chunk)], labels[dataset.chunk_rows(theirs, chunk)]
    differ = np.abs(a - b).mean(axis=(1, 2))
    chosen[mine] |= (apart < ALIKE_STATE_RAD) & (differ > DISTINCT_LABEL)


def acting_arms(episodes: Sequence[EpisodeEntry]) -> FloatArray:
    """Return float32[E], 1 where the right arm acts first."""
    return np.array([e.note.acting_arm == "right" for e in episodes], dtype=np.float32)
