"""Writes LeRobot v2.1 datasets episode by episode, so that a killed writer loses at most the episode in its hands.

Every finished episode is one line of a journal (flushed to disk after the episode's own files were renamed into
place). ``finish`` derives all of ``meta/`` from the journal; a new writer on the same folder goes on after it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import DatasetFormat
from finevla_runtime.recording.encoded_episode import EncodedEpisode, encode_episode
from finevla_runtime.recording.episode import DemonstrationNote, Episode
from finevla_runtime.recording.episode_stats import column_stats, whole_stats
from finevla_runtime.recording.json_lines import JsonObject, line, texts, value, write_lines, write_object

IndexColumn = npt.NDArray[np.int64] | npt.NDArray[np.float32]
JOURNAL = "meta/finevla_writer.jsonl"
DATASET_FILE = "meta/finevla_dataset.json"


@dataclass(frozen=True)
class DatasetSummary:
    """What ``finish`` wrote: totals and the content hash (sha256 over the sorted file digests)."""

    root: Path
    episodes: int
    frames: int
    tasks: int
    digest: str


class DatasetWriter:
    """Writes one dataset; open it again on the same folder to go on after a crash."""

    def __init__(self, root: Path, wanted: DatasetFormat) -> None:
        """Begin a dataset in an empty folder, or resume the one begun there.

        Raises:
            SetupError: FV-REC-011 when the folder holds anything else (a finished dataset included), FV-REC-012
                when the dataset was begun with another format.
        """
        self.root, self.format = root, wanted
        self._entries: list[JsonObject] = []
        self._sources: set[str] = set()
        self._tasks: dict[str, int] = {}
        self._frames = 0
        self._journal = root / JOURNAL
        head = json.loads(json.dumps({"format": asdict(wanted)}))
        if self._journal.exists():
            self._resume(head)
            return
        if root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise SetupError(
                "FV-REC-011", f"{root} is not empty and no unfinished dataset; choose another folder or remove it."
            )
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        self._append(head)

    @property
    def episodes(self) -> int:
        """Return the number of finished episodes."""
        return len(self._entries)

    @property
    def sources(self) -> Set[str]:
        """Return the source names of the finished episodes."""
        return self._sources

    def add_episode(self, episode: Episode, source: str = "") -> int:
        """Encode and add one episode; return its index (FV-REC-010 when it does not fit the dataset)."""
        stem = self.root / "meta" / f".episode_{self.episodes:06d}"
        return self.add_encoded(encode_episode(episode, self.format, stem), source)

    def add_encoded(self, encoded: EncodedEpisode, source: str = "") -> int:
        """Number an encoded episode, put its files into place and record it; return its index."""
        episode = self.episodes
        task_index = self._tasks.setdefault(encoded.task, len(self._tasks))
        stats = dict(encoded.stats)
        table = encoded.table
        for name, values in self._numbering(episode, encoded.length, task_index).items():
            table = table.append_column(name, [values])
            whole = np.issubdtype(values.dtype, np.integer)
            stats[name] = whole_stats(values.astype(np.int64)) if whole else column_stats(values.astype(np.float64))
        table = table.replace_schema_metadata({"huggingface": self.format.hugging_face_features()})
        files = {self.format.data_path(episode): self._place_table(table, episode)}
        for camera in self.format.cameras:
            if camera.name in encoded.videos:
                path = self.format.video_path(episode, camera)
                files[path] = self._place_video(encoded.videos[camera.name], path)
        entry: JsonObject = {
            "source": source,
            "length": encoded.length,
            "task": encoded.task,
            "fine_grained": list(encoded.fine_grained),
            "note": None if encoded.note is None else encoded.note.to_json(episode),
            "stats": stats,
            "files": files,
        }
        self._append(entry)
        self._remember(entry)
        return episode

    def finish(self) -> DatasetSummary:
        """Write ``meta/`` for the episodes so far, remove the journal and return the totals.

        Raises:
            SetupError: FV-REC-015 when there is no episode.
        """
        if not self._entries:
            raise SetupError("FV-REC-015", f"{self.root} has no finished episode; nothing to write.")
        meta = self.root / "meta"
        files: dict[str, str] = {}
        for entry in self._entries:
            files.update(value(entry, "files", dict, JOURNAL))
        write_object(meta / "info.json", self.format.info(self.episodes, self._frames, len(self._tasks)))
        write_object(meta / "modality.json", self.format.modality())
        write_lines(meta / "tasks.jsonl", ({"task_index": i, "task": t} for t, i in self._tasks.items()))
        self._write_episode_lines(meta)
        for path in sorted(meta.glob("*.json*")):
            if path.name not in (Path(JOURNAL).name, Path(DATASET_FILE).name):
                files[f"meta/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        digest = dataset_digest(files)
        totals = {"episodes": self.episodes, "frames": self._frames, "tasks": len(self._tasks)}
        write_object(self.root / DATASET_FILE, {"digest": digest, **totals, "files": dict(sorted(files.items()))})
        self._journal.unlink()
        return DatasetSummary(self.root, self.episodes, self._frames, len(self._tasks), digest)

    def _write_episode_lines(self, meta: Path) -> None:
        numbered = list(enumerate(self._entries))
        write_lines(
            meta / "episodes.jsonl",
            ({"episode_index": i, "tasks": [e["task"]], "length": e["length"]} for i, e in numbered),
        )
        write_lines(meta / "episodes_stats.jsonl", ({"episode_index": i, "stats": e["stats"]} for i, e in numbered))
        write_lines(
            meta / "FineGrainedInstruction.jsonl",
            ({"episode_id": i, "FineGrainedInstruction": e["fine_grained"]} for i, e in numbered if e["fine_grained"]),
        )
        notes = [note for entry in self._entries if isinstance(note := entry["note"], dict)]
        if notes:
            write_lines(meta / "finevla_trials.jsonl", notes)

    def _numbering(self, episode: int, length: int, task_index: int) -> Mapping[str, IndexColumn]:
        steps = np.arange(length, dtype=np.int64)
        return {
            "timestamp": (steps / self.format.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, episode, dtype=np.int64),
            "index": steps + self._frames,
            "task_index": np.full(length, task_index, dtype=np.int64),
        }

    def _place_table(self, table: object, episode: int) -> str:
        import pyarrow.parquet as pq

        path = self.root / self.format.data_path(episode)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table, partial, compression="none", use_dictionary=False)
        return _move_into_place(partial, path)

    def _place_video(self, found: Path, relative: str) -> str:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        # A writer killed between this move and its journal line finds the file already in place.
        return _move_into_place(found if found.exists() else path, path)

    def _resume(self, head: JsonObject) -> None:
        lines = self._journal.read_bytes().splitlines(keepends=True)
        # A line without its end was being written when the writer was killed; its episode is written again.
        whole = [text for text in lines if text.endswith(b"\n")]
        if len(whole) < len(lines):
            os.truncate(self._journal, sum(len(text) for text in whole))
        entries = [json.loads(text) for text in whole]
        if not entries:
            self._append(head)
            return
        if entries[0] != head:
            raise SetupError(
                "FV-REC-012",
                f"{self.root} was begun with another format ({entries[0].get('format')}); go on with that one "
                "or choose another folder.",
            )
        for entry in entries[1:]:
            self._remember(entry)

    def _remember(self, entry: JsonObject) -> None:
        texts(entry, "fine_grained", JOURNAL)
        note = entry.get("note")
        if isinstance(note, dict):
            DemonstrationNote.from_json(note, JOURNAL)
        task = value(entry, "task", str, JOURNAL)
        self._tasks.setdefault(task, len(self._tasks))
        self._frames += value(entry, "length", int, JOURNAL)
        self._sources.add(value(entry, "source", str, JOURNAL))
        self._entries.append(entry)

    def _append(self, entry: JsonObject) -> None:
        with self._journal.open("ab") as file:
            file.write(line(entry).encode())
            file.flush()
            os.fsync(file.fileno())


def dataset_digest(files: Mapping[str, str]) -> str:
    """Return the sha256 over ``path`` and file digest of every file, sorted by path."""
    listed = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def _move_into_place(partial: Path, path: Path) -> str:
    """Flush, hash and rename one file; return its sha256."""
    with partial.open("rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
        os.fsync(file.fileno())
    partial.replace(path)
    return digest
