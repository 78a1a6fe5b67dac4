"""Run one function over many shards: local processes or Ray, resumable by content hash.

The data pipeline and the rollouts share this. A shard that finished leaves a small JSON record named by the hash
of everything it depends on, so that a killed run redoes only what is missing and a changed input is never mistaken
for a finished one.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError, unknown_name

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Shard:
    """One unit of work.

    Attributes:
        name: what people see in progress lines and errors.
        key: JSON text of everything the result depends on; its hash names the record.
        cost: relative cost; dear shards start first, so that the last worker does not run alone.
    """

    name: str
    key: str
    cost: float = 1.0

    @property
    def digest(self) -> str:
        """Return the sha256 of the key."""
        return hashlib.sha256(self.key.encode()).hexdigest()


@dataclass(frozen=True)
class ShardResult:
    """What one shard gave.

    Attributes:
        shard: the shard.
        value: JSON text the function returned.
        resumed: whether the value was read from an earlier run's record.
    """

    shard: Shard
    value: str
    resumed: bool


def map_shards(
    function: Callable[[str], str],
    shards: Sequence[Shard],
    records: Path,
    workers: int,
    engine: str = "local",
) -> Iterator[ShardResult]:
    """Yield results as they come, finished ones first.

    Args:
        function: importable function from a shard's key (JSON text) to a JSON text; it runs in another process.
        shards: the work.
        records: folder for the records of finished shards.
        workers: processes at once; 1 still uses another process, so that a native crash is contained.
        engine: ``local`` or ``ray``.

    Raises:
        SetupError: FV-SHD-001 (unknown engine), FV-SHD-002 (a shard raised; the others' records are kept),
            FV-SHD-003 (ray is not installed).
    """
    if engine not in ENGINES:
        raise unknown_name("FV-SHD-001", "engine", engine, ENGINES)
    records.mkdir(parents=True, exist_ok=True)
    missing = []
    for shard in shards:
        value = _read_record(records, shard)
        if value is None:
            missing.append(shard)
        else:
            yield ShardResult(shard, value, resumed=True)
    missing.sort(key=lambda shard: -shard.cost)
    run = _run_ray if engine == "ray" else _run_local
    for shard, value in run(function, missing, workers):
        _write_record(records, shard, value)
        yield ShardResult(shard, value, resumed=False)


def _run_local(function: Callable[[str], str], shards: Sequence[Shard], workers: int) -> Iterator[tuple[Shard, str]]:
    """Run in spawned processes: a forked child would inherit threads and renderer state."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=max(1, workers), mp_context=context) as pool:
        pending: dict[Future[str], Shard] = {pool.submit(function, shard.key): shard for shard in shards}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                shard = pending.pop(future)
                error = future.exception()
                if error is not None:
                    for other in pending:
                        other.cancel()
                    raise _failed(shard, error) from error
                yield shard, future.result()


def _run_ray(function: Callable[[str], str], shards: Sequence[Shard], workers: int) -> Iterator[tuple[Shard, str]]:
    try:
        import ray
    except ImportError as error:
        raise SetupError("FV-SHD-003", "engine 'ray' needs: pip install ray; or use engine 'local'.") from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(function)
    pending = {remote.remote(shard.key): shard for shard in shards}
    while pending:
        done, _ = ray.wait(list(pending), num_returns=1)
        for reference in done:
            shard = pending.pop(reference)
            try:
                yield shard, ray.get(reference)
            except ray.exceptions.RayError as error:
                raise _failed(shard, error) from error


def _failed(shard: Shard, error: BaseException) -> SetupError:
    return SetupError(
        "FV-SHD-002",
        f"shard {shard.name!r} failed: {error}. Finished shards are kept; mend the cause and run it again.",
    )


def _read_record(records: Path, shard: Shard) -> str | None:
    path = records / f"{shard.digest}.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return str(record["value"]) if record["key"] == shard.key else None
    except (ValueError, KeyError, TypeError):
        # A torn record counts as missing: the shard runs again.
        return None


def _write_record(records: Path, shard: Shard, value: str) -> None:
    path = records / f"{shard.digest}.json"
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps({"name": shard.name, "key": shard.key, "value": value}), encoding="utf-8")
    os.replace(staged, path)
