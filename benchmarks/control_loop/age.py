"""From a picture's stamp to the first command that answers it, over the real graph and in one peer-style process."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.control_loop.processes import Graph, graph, settle
from sim_eval.policy_source import serve_bundle

Stamps = npt.NDArray[np.int64]
SCENE = "colour/3"
SETTLE_S = 4.0
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


@dataclass(frozen=True)
class AgeFigures:
    """Milliseconds from the picture's header stamp to the first command sent that answers it, and the load then."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    answers: int
    load: float


def ages_ns(pictures: Stamps, seen: Stamps, came: Stamps, commands: Stamps) -> Stamps:
    """Return int64[n], the age of the first command after each chunk.

    Args:
        pictures: header stamps of one camera.
        seen: what each chunk says it answers; late by what a fast delivery takes, and so nearest to its picture.
        came: when each chunk had come to a bystander; the commander has it by then too, so the next command answers it.
        commands: header stamps of commands.
    """
    pictures, commands = np.sort(pictures), np.sort(commands)
    picture = np.searchsorted(pictures, seen, side="right") - 1
    command = np.searchsorted(commands, came)
    chosen = (picture >= 0) & (command < len(commands))
    return np.asarray(commands[command[chosen]] - pictures[picture[chosen]])


def _figures(ages: Stamps, load: float) -> dict[str, object]:
    p50, p99 = np.percentile(ages, [50, 99]) / 1e6
    return asdict(AgeFigures(float(p50), float(p99), float(ages.max()) / 1e6, len(ages), load))


def _ours(running: Graph, address: str, seconds: float) -> Stamps:
    body = {"embodiment": "cobot_magic_sim", "topic_profile": "cobot_magic_sim"}
    _tabletop(running)
    running.node("arm_commander", **body, space="cobot_magic_sim")
    running.node("policy_client", **body, server=address)
    running.side("conductor", "arm_commander", "policy_client")
    running.hear("conductor")
    settle(SETTLE_S)
    out = running.folder / "stamps.npz"
    running.side("probe", "ages", f"{seconds}", str(out))
    running.wait("probe", seconds + 60.0)
    with np.load(out) as found:
        return ages_ns(found["pictures"], found["seen"], found["came"], found["commands"])


def _peer(running: Graph, address: str, seconds: float) -> Stamps:
    log = running.folder / "answered.json"
    _tabletop(running)
    cameras = [f"{name}/color/image_raw" for name in CAMERAS]
    running.side("peer_script", "--server", address, "--log", str(log), *cameras)
    settle(SETTLE_S + seconds)
    script = running.running["peer_script"]
    if script.stdin is not None:
        script.stdin.close()
    try:
        script.wait(20.0)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError("the peer script does not end") from error
    answered = np.array(json.loads(log.read_text(encoding="ascii")), np.int64)
    # Connections are cold at the first answer, in both.
    return np.asarray(answered[1:, 1] - answered[1:, 0])


def _tabletop(running: Graph) -> None:
    running.node("sim_arm", topic_profile="cobot_magic_sim", body="tabletop", scene=SCENE)


def measure(bundle: Path, seconds: float, load_average: Callable[[], float]) -> dict[str, object]:
    """Return the ages of both ways, ready for JSON."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder, serve_bundle(bundle, Path(folder)) as address:
        for name, way in (("peers' way, one process", _peer), ("ours", _ours)):
            load = load_average()
            with graph() as running:
                found[name] = _figures(way(running, address, seconds), load)
    return found
