"""Demonstrations of scripted experts as one LeRobot v2.1 dataset, made by worker processes.

The dataset depends on the plan alone: workers encode attempts in any order, the parent numbers the successful ones
in plan order. A killed run goes on where it stopped, because every finished attempt is a file.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.recording.dataset_format import DatasetFormat
from finevla_runtime.recording.encoded_episode import encode_episode, load_encoded, remove_encoded, save_encoded
from finevla_runtime.recording.episode import Episode
from finevla_runtime.recording.json_lines import read_object, value, write_object
from finevla_runtime.recording.lerobot_writer import DatasetSummary, DatasetWriter

STAGING = ".attempts"
ATTEMPT_LIMIT_S = 180.0
"""Seconds after which an attempt counts as hung; an attempt needs a few."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One planned run of an expert; its number decides the order of the dataset."""

    number: int
    family: str
    variant: str
    scene_seed: int


@dataclass(frozen=True, slots=True)
class Made:
    """What an attempt gave: an episode, or why there is none."""

    episode: Episode | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DemoTally:
    """Attempts and successes of one family and variant."""

    family: str
    variant: str
    attempts: int
    kept: int


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The dataset written, and per family and variant how many attempts succeeded."""

    dataset: DatasetSummary
    tallies: tuple[DemoTally, ...]


DemoMaker = Callable[[Attempt], Made]
DemoFactory = Callable[[], DemoMaker]
Progress = Callable[[int, int, int], None]
"""Called with (attempts finished, attempts planned, attempts rejected)."""


@dataclass(frozen=True, slots=True)
class _WorkerState:
    maker: DemoMaker
    wanted: DatasetFormat
    staging: Path


_worker: list[_WorkerState] = []


def make_demonstrations(
    attempts: tuple[Attempt, ...],
    out: Path,
    wanted: DatasetFormat,
    factory: DemoFactory,
    workers: int,
    progress: Progress,
    attempt_limit_s: float = ATTEMPT_LIMIT_S,
) -> DemoResult:
    """Run all attempts and write the dataset; call again with the same arguments to resume.

    Args:
        attempts: the plan, in dataset order.
        out: folder of the dataset.
        wanted: format of the dataset.
        factory: module-level function that a worker process calls once for its maker.
        workers: processes.
        progress: told after every attempt.
        attempt_limit_s: seconds after which an attempt counts as hung.

    Raises:
        SetupError: FV-DEM-001 when the folder was begun with another plan; FV-REC-* of the writer.
        BodyError: FV-DEM-002 when a worker died, FV-DEM-003 when one hung; finished attempts are kept.
    """
    writer = DatasetWriter(out, wanted)
    staging = out / STAGING
    staging.mkdir(exist_ok=True)
    _check_plan(attempts, staging / "plan.json")
    rejected = 0
    for done, attempt in enumerate(_finished(attempts, writer, staging, factory, workers, attempt_limit_s), 1):
        rejected += _commit(attempt, writer, staging)
        progress(done, len(attempts), rejected)
    kept = writer.sources
    summary = writer.finish()
    shutil.rmtree(staging)
    return DemoResult(summary, _tally(attempts, kept))


def _finished(
    attempts: tuple[Attempt, ...],
    writer: DatasetWriter,
    staging: Path,
    factory: DemoFactory,
    workers: int,
    limit_s: float,
) -> Iterator[Attempt]:
    """Yield every attempt in plan order once its files lie in the staging folder or in the dataset."""
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_open_worker, initargs=(factory, writer.format, staging)
    )
    committed = writer.sources
    waiting: deque[tuple[Attempt, Future[None] | None]] = deque()
    upcoming = iter(attempts)
    try:
        while True:
            for following in islice(upcoming, 4 * workers - len(waiting)):
                known = str(following.number) in committed or _is_staged(staging, following)
                waiting.append((following, None if known else pool.submit(_run_attempt, following)))
            if not waiting:
                break
            attempt, future = waiting.popleft()
            if future is not None:
                future.result(timeout=limit_s)
            yield attempt
    except BrokenProcessPool as error:
        raise _stopped("FV-DEM-002", attempt, "a worker process died") from error
    except TimeoutError as error:
        raise _stopped("FV-DEM-003", attempt, f"it took more than {limit_s:.0f} s") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()


def _stopped(code: str, attempt: Attempt, what: str) -> BodyError:
    where = f"attempt {attempt.number} ({attempt.family}/{attempt.variant}, seed {attempt.scene_seed})"
    return BodyError(code, f"{where}: {what}; finished attempts are kept, run the same command to go on.")


def _open_worker(factory: DemoFactory, wanted: DatasetFormat, staging: Path) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides how to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker[:] = [_WorkerState(factory(), wanted, staging)]


def _run_attempt(attempt: Attempt) -> None:
    state = _worker[0]
    stem = _stem(state.staging, attempt)
    made = state.maker(attempt)
    if made.episode is None:
        write_object(stem.with_suffix(".rejected"), {"reason": made.reason})
        return
    save_encoded(encode_episode(made.episode, state.wanted, stem), stem)


def _commit(attempt: Attempt, writer: DatasetWriter, staging: Path) -> int:
    """Move a finished attempt into the dataset; return 1 when it was rejected."""
    stem = _stem(staging, attempt)
    if stem.with_suffix(".rejected").exists():
        return 1
    if str(attempt.number) not in writer.sources:
        writer.add_encoded(load_encoded(stem, writer.format), str(attempt.number))
    remove_encoded(stem)
    return 0


def _check_plan(attempts: tuple[Attempt, ...], path: Path) -> None:
    listed = json.dumps([asdict(attempt) for attempt in attempts]).encode()
    digest = hashlib.sha256(listed).hexdigest()
    if not path.exists():
        write_object(path, {"sha256": digest})
    elif value(read_object(path), "sha256", str, str(path)) != digest:
        raise SetupError(
            "FV-DEM-001",
            f"{path.parent.parent} was begun with other families, scenes or seeds; repeat the first command to go on, "
            "or choose another folder.",
        )


def _is_staged(staging: Path, attempt: Attempt) -> bool:
    stem = _stem(staging, attempt)
    return stem.with_suffix(".json").exists() or stem.with_suffix(".rejected").exists()


def _stem(staging: Path, attempt: Attempt) -> Path:
    return staging / f"attempt_{attempt.number:06d}"


def _tally(attempts: tuple[Attempt, ...], kept: Set[str]) -> tuple[DemoTally, ...]:
    groups: dict[tuple[str, str], list[bool]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.family, attempt.variant), []).append(str(attempt.number) in kept)
    return tuple(DemoTally(family, variant, len(flags), sum(flags)) for (family, variant), flags in groups.items())


def use_one_thread_per_worker() -> None:
    """Keep numpy and the software renderer single-threaded in worker processes: one process per core is faster."""
    for name, threads in (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("LP_NUM_THREADS", "0")):
        os.environ.setdefault(name, threads)
