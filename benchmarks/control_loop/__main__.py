"""Control loop: lateness of commands, seams between chunks, age of commands; each beside the ways of other projects.

`python -m benchmarks.control_loop [--out PATH] [--parts lateness,cost,seams,age]` measures the parts, keeps each as
JSON in the folder, and writes control_loop.md from all parts that are there. The seams are on a simulated clock and do
not depend on the machine; for the rest it should be idle.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.control_loop import age, guard_cost, lateness, page, seams
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import wall_clock_utc
from finevla_runtime.paths import DEFAULT_BUNDLE

PARTS = ("lateness", "cost", "seams", "age")


@dataclass(frozen=True)
class BenchOptions:
    """Measure the control loop; needs `scripts/ros.sh` once."""

    bundle: Path = DEFAULT_BUNDLE
    """Policy bundle."""
    parts: str = ",".join(PARTS)
    """What to measure now, separated by commas."""
    latencies_ms: str = "0,50,150"
    """Simulated times from observation to chunk, for the seams."""
    episodes: int = 10
    """Episodes of each strategy and latency, for the seams."""
    rounds: int = 3
    """Rounds of each loop, for lateness."""
    seconds: float = 10.0
    """Length of a round of lateness; ages are watched three times as long."""
    out: Path = Path("out/control_loop")
    """Folder of the parts and of the page."""


def main(argv: Sequence[str]) -> int:
    """Measure and write the page."""
    options = parse(BenchOptions, argv, prog="python -m benchmarks.control_loop")
    options.out.mkdir(parents=True, exist_ok=True)
    measures: Mapping[str, Callable[[], Mapping[str, object]]] = {
        "lateness": lambda: lateness.measure(options.rounds, options.seconds, _load),
        "cost": guard_cost.measure,
        "age": lambda: age.measure(options.bundle, 3.0 * options.seconds, _load),
    }
    for part in options.parts.split(","):
        if part == "seams":
            for latency in options.latencies_ms.split(","):
                found = seams.measure(options.bundle, options.episodes, int(latency))
                _keep(options.out / f"seams-{int(latency):03}.json", found)
        elif part:
            _keep(options.out / f"{part}.json", measures[part]())
    text = page.page(options.out)
    (options.out / "control_loop.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _keep(path: Path, found: Mapping[str, object]) -> None:
    whole = {"date": wall_clock_utc()[:16], "load": os.getloadavg()[1], "cpus": os.cpu_count(), "found": found}
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")


def _load() -> float:
    return os.getloadavg()[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
