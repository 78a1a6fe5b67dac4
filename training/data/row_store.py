"""State, target and task of every control step of a dataset, memory-mapped and kept under the hash of their content.

Reading all rows once, before the first step, is also the check of them: a value that is not finite, a column of the
wrong width or a task number without a text is reported with episode and frame. The key covers everything that decides
the numbers (parquet bytes, column mapping, gripper range) and nothing that does not: whether a run uses raw or
fine-grained text never touches it, so no run can inherit another run's choice of episodes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.json_lines import read_object, write_object
from finevla_runtime.recording.modality import Modality
from finevla_runtime.recording.modality_slot import ColumnSource
from finevla_runtime.recording.recorded_dataset import Dataset
from finevla_runtime.recording.recorded_episode import RecordedEpisode
from training.data.gripper_range import GripperRange

IntArray = npt.NDArray[np.int64]
TaskArray = npt.NDArray[np.int32]

_FORMAT = "row-store/1"
_HEADER = "store.json"
_BLOCK = 1 << 20
_NUMBERING = ("episode_index", "frame_index", "timestamp")


@dataclass(frozen=True, eq=False)
class RowStore:
    """Rows of all episodes in order.

    Attributes:
        key: sha256 of what decides the content.
        state, action: float32[T, 14], project layout, radians and open fractions.
        task: int32[T], task number of every control step.
        first_row: int64[E + 1], place of every episode's first row; the last entry is T.
    """

    key: str
    state: FloatArray
    action: FloatArray
    task: TaskArray
    first_row: IntArray


def open_row_store(dataset: Dataset, modality: Modality, grippers: GripperRange, folder: Path) -> RowStore:
    """Open the rows of a dataset below ``folder``, reading and checking them first when they are not there.

    A store that is damaged is built again.

    Raises:
        SetupError: FV-REC-004 ... FV-REC-009 naming episode, frame and column; FV-DAT-002 for a task number without
            text, FV-DAT-005 for gripper readings outside their stated range.
    """
    key = _key(dataset, modality, grippers)
    path = folder / f"rows-{key[:20]}"
    found = _read(path, key)
    if found is None:
        _build(dataset, modality, grippers, path, key)
        found = _read(path, key)
    if found is None:
        raise SetupError("FV-DAT-007", f"{path} was written and cannot be read back; check the disk.")
    return found


def episode_state(episode: RecordedEpisode, modality: Modality, grippers: GripperRange) -> FloatArray:
    """Return the measured joints of one episode as the store would hold them, float32[length, 14].

    Project layout, radians and open fractions.

    Raises:
        SetupError: FV-REC-004 ... FV-REC-009 naming episode, frame and column; FV-DAT-005 for gripper readings outside
            their stated range.
    """
    keys = list(dict.fromkeys(source.key for source in modality.state))
    table = episode.table(keys)
    return _joints({key: episode.vector(table, key) for key in keys}, modality.state, grippers, episode)


def _key(dataset: Dataset, modality: Modality, grippers: GripperRange) -> str:
    digest = hashlib.sha256()
    lengths = [episode.length for episode in dataset]
    mapping = [asdict(source) for source in (*modality.state, *modality.action)]
    tasks = sorted(dataset.tasks.items())
    digest.update(json.dumps([_FORMAT, mapping, modality.language_key, asdict(grippers), lengths, tasks]).encode())
    for path in dataset.row_files():
        try:
            digest.update(_file_digest(path).encode())
        except OSError as error:
            first = next(e for e in dataset if e.row_span.path == path)
            raise first.fail("FV-REC-004", f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def _read(path: Path, key: str) -> RowStore | None:
    """Return the store at ``path``, or None when it is missing, another one's or damaged."""
    try:
        header = read_object(path / _HEADER)
        content = (path / "rows.f32", path / "task.i32", path / "first_row.i64")
        if header.get("key") != key or header.get("digests") != [_file_digest(file) for file in content]:
            return None
        rows = np.memmap(content[0], np.float32, "r").reshape(2, -1, DOF)
        task = np.memmap(content[1], np.int32, "r")
        return RowStore(key, rows[0], rows[1], task, np.fromfile(content[2], np.int64))
    except (SetupError, OSError, ValueError):
        return None


def _build(dataset: Dataset, modality: Modality, grippers: GripperRange, path: Path, key: str) -> None:
    """Write the store beside ``path`` and rename it: ranks that build the same store at once do not meet."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    first_row = np.concatenate([[0], np.cumsum([episode.length for episode in dataset])]).astype(np.int64)
    rows = np.memmap(staged / "rows.f32", np.float32, "w+", shape=(2, max(1, int(first_row[-1])), DOF))
    task = np.memmap(staged / "task.i32", np.int32, "w+", shape=(max(1, int(first_row[-1])),))
    names = [name for name in _NUMBERING if all(name in _schema(path) for path in dataset.row_files()[:1])]
    columns = list(dict.fromkeys([*modality.columns(), *names]))
    for episode, table in dataset.tables(columns):
        episode.check_numbering(table)
        span = slice(int(first_row[episode.index]), int(first_row[episode.index + 1]))
        vectors = {key: episode.vector(table, key) for key in modality.columns() if key != modality.language_key}
        for place, sources in enumerate((modality.state, modality.action)):
            rows[place, span] = _joints(vectors, sources, grippers, episode)
        task[span] = _task_numbers(table.column(modality.language_key).to_numpy(), episode, dataset, modality)
    rows.flush()
    task.flush()
    first_row.tofile(staged / "first_row.i64")
    digests = [_file_digest(staged / name) for name in ("rows.f32", "task.i32", "first_row.i64")]
    write_object(staged / _HEADER, {"key": key, "dataset": str(dataset.root), "digests": digests})
    if path.exists() and _read(path, key) is None:
        shutil.rmtree(path, ignore_errors=True)
    try:
        staged.rename(path)
    except OSError:
        # Another process finished the same store first; what it wrote has the same content.
        shutil.rmtree(staged, ignore_errors=True)


def _schema(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        # The reading below reports the file with its episode.
        return list(_NUMBERING)


def _joints(
    vectors: dict[str, FloatArray], sources: tuple[ColumnSource, ...], grippers: GripperRange, episode: RecordedEpisode
) -> FloatArray:
    gathered = np.stack([vectors[source.key][:, source.column] for source in sources], axis=1)
    grippers.check(gathered, f"episode {episode.index} of {episode.dataset}, {sources[0].key}")
    return grippers.apply(gathered)


def _task_numbers(
    values: npt.NDArray[np.generic], episode: RecordedEpisode, dataset: Dataset, modality: Modality
) -> TaskArray:
    """Return the task number of every row after checking that each has a text."""
    if not np.issubdtype(values.dtype, np.integer):
        raise episode.fail(
            "FV-DAT-002", f"{modality.language_key} is {values.dtype}, wanted whole numbers that point into the tasks"
        )
    for number in np.unique(values):
        if not dataset.tasks.get(int(number), "").strip():
            frame = int(np.flatnonzero(values == number)[0])
            raise episode.fail("FV-DAT-002", f"frame {frame}: task {int(number)} has no text in meta/tasks")
    return values.astype(np.int32)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
