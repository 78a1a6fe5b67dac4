"""Shards: finished ones are never run again, a failure keeps the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.parallel import Shard, map_shards


def double(key: str) -> str:
    """Double a number; negative ones fail, and each call leaves a mark."""
    job = json.loads(key)
    marks = Path(job["marks"])
    (marks / f"{job['n']}-{len(list(marks.iterdir()))}").touch()
    if job["n"] < 0:
        raise ValueError("negative")
    return str(job["n"] * 2)


def shard(n: int, marks: Path) -> Shard:
    marks.mkdir(exist_ok=True)
    return Shard(str(n), json.dumps({"n": n, "marks": str(marks)}), cost=float(n))


def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    first = {r.shard.name: r for r in map_shards(double, [shard(n, marks) for n in (1, 2)], tmp_path / "r", 2)}
    assert {n: r.value for n, r in first.items()} == {"1": "2", "2": "4"}
    again = {r.shard.name: r for r in map_shards(double, [shard(n, marks) for n in (1, 2, 3)], tmp_path / "r", 2)}
    assert [again[n].resumed for n in ("1", "2", "3")] == [True, True, False]
    assert len(list(marks.iterdir())) == 3


def test_a_failing_shard_is_named_and_finished_ones_are_kept(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with pytest.raises(SetupError, match=r"FV-SHD-002.*'-1'"):
        list(map_shards(double, [shard(5, marks), shard(-1, marks)], tmp_path / "r", 1))
    (kept,) = map_shards(double, [shard(5, marks)], tmp_path / "r", 1)
    assert kept.resumed


def test_a_torn_record_counts_as_missing(tmp_path: Path) -> None:
    job = shard(4, tmp_path / "marks")
    list(map_shards(double, [job], tmp_path / "r", 1))
    (tmp_path / "r" / f"{job.digest}.json").write_text('{"value": "8"')
    (result,) = map_shards(double, [job], tmp_path / "r", 1)
    assert result.value == "8"
    assert not result.resumed


def test_an_unknown_engine_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-SHD-001.*'ray'"):
        list(map_shards(double, [], tmp_path / "r", 1, engine="rey"))
