"""Expert and judge tables, one shard per family: the families share nothing, so they run side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from finevla_runtime.parallel import Shard, map_shards
from sim_eval.tabletop.catalog import FAMILIES, find_family
from sim_eval.tabletop.expert import ExpertRow, expert_table
from sim_eval.tabletop.judge.agreement import AgreementRow, agreement_report


def expert_rows(
    seeds: int, first_seed: int, noise: float | None, families: tuple[str, ...], workers: int
) -> list[ExpertRow]:
    """Run :func:`expert_table` in worker processes; rows in the order of the families.

    Raises:
        SetupError: FV-SIM-001 for an unknown family, FV-SHD-002 when a worker fails.
    """
    found = _by_family(_expert_shard, families, {"seeds": seeds, "first_seed": first_seed, "noise": noise}, workers)
    return [ExpertRow(**{**row, "failed": tuple(row["failed"])}) for rows in found for row in json.loads(rows)]


def agreement_rows(seeds: int, first_seed: int, families: tuple[str, ...], workers: int) -> list[AgreementRow]:
    """Run :func:`agreement_report` in worker processes; rows in the order of the families.

    Raises:
        SetupError: FV-SIM-001 for an unknown family, FV-SHD-002 when a worker fails.
    """
    found = _by_family(_agreement_shard, families, {"seeds": seeds, "first_seed": first_seed}, workers)
    return [
        AgreementRow(**{**row, "wrong_seeds": tuple(row["wrong_seeds"])}) for rows in found for row in json.loads(rows)
    ]


def _by_family(
    function: Callable[[str], str], families: tuple[str, ...], settings: dict[str, float | None], workers: int
) -> list[str]:
    """Return what ``function`` gives for every family, in the order of the families."""
    wanted = [find_family(name).id for name in families or tuple(FAMILIES)]
    shards = [Shard(name, json.dumps({"family": name, **settings})) for name in wanted]
    with tempfile.TemporaryDirectory(prefix="finevla-tables-") as records:
        values = {r.shard.name: r.value for r in map_shards(function, shards, Path(records), workers)}
    return [values[name] for name in wanted]


def _expert_shard(key: str) -> str:
    job = json.loads(key)
    rows = expert_table(job["seeds"], job["first_seed"], job["noise"], (job["family"],))
    return json.dumps([asdict(row) for row in rows])


def _agreement_shard(key: str) -> str:
    job = json.loads(key)
    return json.dumps([asdict(row) for row in agreement_report(job["seeds"], job["first_seed"], (job["family"],))])
