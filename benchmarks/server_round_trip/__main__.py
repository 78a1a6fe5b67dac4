"""Measures the server's round trip with 1, 4 and 8 clients beside openpi's pattern; writes a Markdown table.

Rounds of the two sides alternate, because a shared machine changes from minute to minute: only figures of one run may
be compared with one another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OPENPI_PYTHON = ROOT / ".cache" / "bench-openpi" / "bin" / "python"
# openpi-client imports typing_extensions without asking for it.
OPENPI_PACKAGES = ("openpi-client==0.1.2", "typing_extensions==4.16.0", "websockets==17.4", "numpy==1.26.4")
# The same ONNX Runtime as ours, for the rows with a model.
OPENPI_PACKAGES += (
    "msgpack==1.2.4",
    "onnxruntime==1.32.0",
    "flatbuffers==25.12.19",
    "protobuf==7.36.2",
    "packaging==26.3",
)
TABLETOP = "96x96,64x64,64x64"
CLIENTS = (1, 4, 8)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What one side measured in one cell: all latencies, and CPU and time per round."""

    ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0


@dataclass(frozen=True)
class Load:
    """What is asked: camera sizes, and the bundle that answers (none: an instant policy)."""

    label: str
    sizes: str
    bundle: tuple[str, ...] = ()


class Side:
    """One server process and its client processes."""

    def __init__(self, command: Sequence[str], load: Load, clients: int, stack: ExitStack) -> None:
        """Start the server, connect every client and let it warm up."""
        self._server = _start([*command, "server", load.sizes, *load.bundle], stack)
        address = _line(self._server)
        self._clients = [_start([*command, "client", address, load.sizes], stack) for _ in range(clients)]
        for client in self._clients:
            if _line(client) != "ready":
                raise RuntimeError("a client did not get ready.")
        self.figures = Figures()

    def round(self, seconds: float) -> None:
        """Let all clients ask for ``seconds`` and add up what they measured."""
        before_s = _cpu_s(self._server.pid)
        for client in self._clients:
            client.stdin.write(f"{seconds}\n")
            client.stdin.flush()
        answers = [json.loads(_line(client)) for client in self._clients]
        self.figures.server_cpu_s += _cpu_s(self._server.pid) - before_s
        self.figures.client_cpu_s += sum(answer["cpu_s"] for answer in answers)
        self.figures.rates.append(sum(len(answer["ms"]) for answer in answers) / seconds)
        for answer in answers:
            self.figures.ms += answer["ms"]


def main() -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_round_trip", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one round of one side")
    parser.add_argument("--bundle", type=Path, default=ROOT / "checkpoints" / "tabletop-oft", help="for the model rows")
    options = parser.parse_args()
    _prepare_openpi()
    commands = {
        "openpi pattern": [str(OPENPI_PYTHON), str(ROOT / "benchmarks/server_round_trip/openpi_side.py")],
        "finevla": [sys.executable, "-m", "benchmarks.server_round_trip.finevla_side"],
    }
    lines = []
    loads = [Load("3 × 480×640, instant", "480x640,480x640,480x640"), Load("tabletop, instant", TABLETOP)]
    if (options.bundle / "policy.json").is_file():
        loads.append(Load("tabletop, shipped model", TABLETOP, (str(options.bundle.resolve()),)))
    for load in loads:
        for clients in CLIENTS:
            cell = _cell(commands, load, clients, options.rounds, options.seconds)
            lines += _rows(load.label, clients, cell)
            sys.stderr.write(f"{lines[-1]}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    text = _page(lines, options.rounds, options.seconds)
    (options.out / "server_round_trip.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _cell(commands: dict[str, list[str]], load: Load, clients: int, rounds: int, seconds: float) -> dict[str, Figures]:
    with ExitStack() as stack:
        sides = {name: Side(command, load, clients, stack) for name, command in commands.items()}
        for number in range(rounds):
            # Every other round starts with the other side, so that neither always follows a warm machine.
            for name in sorted(sides, reverse=bool(number % 2)):
                sides[name].round(seconds)
        return {name: side.figures for name, side in sides.items()}


def _rows(label: str, clients: int, cell: dict[str, Figures]) -> list[str]:
    base = cell["openpi pattern"]
    rows = []
    for name, figures in cell.items():
        p50, p99 = np.percentile(figures.ms, [50, 99])
        rate = float(np.median(figures.rates))
        server_ms = figures.server_cpu_s * 1e3 / len(figures.ms)
        client_ms = figures.client_cpu_s * 1e3 / len(figures.ms)
        ratios = (
            np.median(base.ms) / p50,
            np.percentile(base.ms, 99) / p99,
            rate / float(np.median(base.rates)),
        )
        told = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        rows.append(
            f"| {label} | {clients} | {name} | {p50:.2f} | {p99:.2f} | {rate:.0f} | {server_ms:.2f} | {client_ms:.2f} "
            f"| {told} |"
        )
    return rows


def _page(lines: list[str], rounds: int, seconds: float) -> str:
    head = f"""# Server round trip

`python -m benchmarks.server_round_trip` on {os.cpu_count()} CPU cores, Python {sys.version.split()[0]}, load average \
{os.getloadavg()[1]:.1f} over the last five minutes: {rounds} rounds of {seconds:g} s per side, the sides alternating.
Raw RGB images of random bytes, one process per client, loopback. "Instant" policies answer zeros at once, so that only
the serving is measured; ours still does everything it does for a real bundle (checks, prompt, batching, un-normalising,
metrics), the openpi pattern decodes and encodes. Tabletop cameras are 96×96 and twice 64×64. The rows with the shipped
model run the same ONNX graph with one thread on both sides. Our client process calls `keep_heap()`
(`finevla_runtime.transport.allocator`), as a process that streams images should; openpi's client is unmodified.

openpi's server is not on PyPI. Its row is the unmodified PyPI client `openpi-client` 0.1.2 against a server written
here after openpi's documented behaviour: msgpack over a websocket, the policy called on the event loop.
Latency and CPU in milliseconds per request; ratios are openpi's latency over ours and our rate over openpi's, so more
than 1 means that ours is better. The machine is shared with other work: compare rows of one cell only.

| load | clients | server | p50 | p99 | requests/s | server CPU | client CPU | p50 ratio | p99 ratio | rate ratio |
|---|---|---|---|---|---|---|---|---|---|---|
"""
    return head + "\n".join(lines) + "\n"


def _prepare_openpi() -> None:
    if OPENPI_PYTHON.exists():
        return
    venv.create(OPENPI_PYTHON.parents[1], with_pip=True)
    # openpi-client also names packages that its websocket client never imports; they are left out.
    command = [str(OPENPI_PYTHON), "-m", "pip", "install", "-q", "--no-deps", *OPENPI_PACKAGES]
    subprocess.run(command, check=True)


def _start(command: Sequence[str], stack: ExitStack) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.stdin.close)
    return process


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{process.args} ended with {process.wait()}.")
    return line


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    raise SystemExit(main())
