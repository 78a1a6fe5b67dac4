"""Lateness of a 200 Hz loop of commands: our arm commander beside the loop of an inference script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.control_loop.processes import Graph, graph, settle

Stamps = npt.NDArray[np.int64]
PERIOD_NS = 5_000_000
# Clocks drift apart by microseconds in this time.
BLOCK_NS = 2_000_000_000
CAMERAS = ("/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw")
SETTLE_S = 3.0


@dataclass(frozen=True)
class LoopFigures:
    """What several rounds of one loop come to.

    Attributes:
        p50_ms, p99_ms, max_ms: from the instant a command was due to the next one that was sent.
        gap_ms: longest time between two commands.
        rate_hz: commands sent per second.
        cpu: CPU seconds per second, by process.
        load: load average at the begin of each round.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    gap_ms: float
    rate_hz: float
    cpu: Mapping[str, float]
    load: tuple[float, ...]


def lateness_ns(stamps: Stamps) -> Stamps:
    """Return int64[n] nanoseconds between each due instant and the next command.

    Due instants lie on a grid of 5 ms whose phase nobody says. It is laid so that commands come on average as soon
    after it as possible, anew every two seconds. A loop without any rhythm is flattered by that, a punctual one is not.
    """
    found = []
    for begin_ns in range(int(stamps[0]), int(stamps[-1]) - BLOCK_NS + 1, BLOCK_NS):
        block = stamps[(stamps >= begin_ns) & (stamps < begin_ns + BLOCK_NS)]
        if len(block) < 2:
            continue
        phases = block % PERIOD_NS
        late = (phases[None, :] - phases[:, None]) % PERIOD_NS
        phase = phases[late.mean(axis=1).argmin()]
        due = np.arange(block[0] - (block[0] - phase) % PERIOD_NS, block[-1] + 1, PERIOD_NS)
        found.append(block[np.searchsorted(block, due)] - due)
    return np.concatenate(found)


def figures(rounds: list[Stamps], cpu: Mapping[str, float], load: tuple[float, ...]) -> LoopFigures:
    """Return the figures of a loop."""
    late_ms = np.concatenate([lateness_ns(stamps) for stamps in rounds]) / 1e6
    p50, p99 = np.percentile(late_ms, [50, 99])
    seconds = sum(float(stamps[-1] - stamps[0]) for stamps in rounds) / 1e9
    return LoopFigures(
        p50_ms=float(p50),
        p99_ms=float(p99),
        max_ms=float(late_ms.max()),
        gap_ms=max(float(np.diff(stamps).max()) for stamps in rounds) / 1e6,
        rate_hz=sum(len(stamps) - 1 for stamps in rounds) / seconds,
        cpu=cpu,
        load=load,
    )


def _ours(running: Graph, *, loaded: bool) -> None:
    running.node("sim_arm", topic_profile="cobot_magic_sim")
    running.node(
        "arm_commander", embodiment="cobot_magic_sim", topic_profile="cobot_magic_sim", space="cobot_magic_sim"
    )
    if loaded:
        running.side("camera_streams", *CAMERAS)
        running.side("image_client")
        running.side("policy_work")
    running.side("conductor", "--chunks", "arm_commander")
    running.hear("conductor")


def _peer(running: Graph, *, streams: bool, works: bool) -> None:
    running.node("sim_arm", topic_profile="cobot_magic_sim")
    if streams:
        running.side("camera_streams", *CAMERAS)
    running.side("peer_script", *(["--work"] if works else []), *(CAMERAS if streams else ()))


LOOPS: Mapping[str, Callable[[Graph], None]] = {
    "ours, alone": lambda running: _ours(running, loaded=False),
    "peers' way, alone": lambda running: _peer(running, streams=False, works=False),
    "ours, cameras and policy work": lambda running: _ours(running, loaded=True),
    "peers' way, cameras only": lambda running: _peer(running, streams=True, works=False),
    "peers' way, cameras and policy work": lambda running: _peer(running, streams=True, works=True),
}
BESIDE = {
    "ours, alone": "peers' way, alone",
    "ours, cameras and policy work": "peers' way, cameras and policy work",
}


def measure_round(begin: Callable[[Graph], None], seconds: float) -> tuple[Stamps, dict[str, float]]:
    """Run one loop once; return the stamps of its commands and the CPU seconds per second of each process."""
    with graph() as running:
        begin(running)
        settle(SETTLE_S)
        out = running.folder / "stamps.npz"
        before = running.cpu_s()
        running.side("probe", "commands", f"{seconds}", str(out))
        running.wait("probe", seconds + 60.0)
        after = running.cpu_s()
        with np.load(out) as found:
            stamps = found["commands"]
    span_s = float(stamps[-1] - stamps[0]) / 1e9
    # The probe's start lies within the window too; the rates are of the whole window.
    return stamps, {name: (after[name] - before[name]) / span_s for name in after if name in before}


def measure(rounds: int, seconds: float, load_average: Callable[[], float]) -> dict[str, object]:
    """Return the figures of every loop, the loops alternating, ready for JSON."""
    stamps: dict[str, list[Stamps]] = {name: [] for name in LOOPS}
    cpu: dict[str, list[dict[str, float]]] = {name: [] for name in LOOPS}
    loads: dict[str, list[float]] = {name: [] for name in LOOPS}
    for number in range(rounds):
        for name in list(LOOPS)[:: -1 if number % 2 else 1]:
            loads[name].append(load_average())
            found, used = measure_round(LOOPS[name], seconds)
            stamps[name].append(found)
            cpu[name].append(used)
            sys.stderr.write(f"{name}: {figures([found], used, (loads[name][-1],))}\n")
    return {name: asdict(figures(stamps[name], _means(cpu[name]), tuple(loads[name]))) for name in LOOPS}


def _means(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in rounds])) for name in rounds[0]}
