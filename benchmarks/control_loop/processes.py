"""Processes of a graph: started under the interpreter of ROS 2, in a DDS domain of their own, watched and ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finevla_runtime.contracts.clock import SteadyClock, elapsed_s

ROOT = Path(__file__).resolve().parents[2]
ROS_SIDE = "benchmarks.control_loop.ros_side"
TICKS = os.sysconf("SC_CLK_TCK")
STOP_S = 10.0
# Tests of the graph lock the same files, so that nobody hears anybody else.
DOMAINS = range(60, 101)


@dataclass
class Graph:
    """Running processes by name."""

    folder: Path
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def node(self, name: str, **parameters: object) -> None:
        """Start one of our nodes."""
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        self.start(name, ["python", "-m", f"finevla_cobot.{name}", "--ros-args", *words])

    def side(self, name: str, *arguments: str) -> None:
        """Start a module of ``ros_side``."""
        self.start(name, ["python", "-m", f"{ROS_SIDE}.{name}", *arguments])

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a command under scripts/ros_run.sh; it ends when its standard input closes or on SIGTERM."""
        with (self.folder / f"{name}.log").open("w") as log:
            self.running[name] = subprocess.Popen(
                [ROOT / "scripts/ros_run.sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )

    def hear(self, name: str) -> str:
        """Return the next line that a process prints; RuntimeError with its log when it ends instead."""
        process = self.running[name]
        line = process.stdout.readline().strip() if process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{name} said nothing: {(self.folder / f'{name}.log').read_text()}")
        return line

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a process ends by itself; RuntimeError when it fails."""
        if self.running[name].wait(seconds) != 0:
            raise RuntimeError(f"{name} failed: {(self.folder / f'{name}.log').read_text()}")

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each running process has used."""
        return {name: _cpu_s(process.pid) for name, process in self.running.items() if process.poll() is None}

    def end(self) -> None:
        """End what still runs, the last started first."""
        for process in reversed(self.running.values()):
            if process.stdin is not None:
                process.stdin.close()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def graph() -> Iterator[Graph]:
    """Hold a domain and a folder, and end all processes in the end."""
    with tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder:
        lock = _lock_domain()
        found = Graph(Path(folder))
        try:
            yield found
        finally:
            found.end()
            os.close(lock)


def settle(seconds: float) -> None:
    """Let everything that just started come to rest."""
    clock = SteadyClock()
    begin_ns = clock.now_ns()
    while elapsed_s(clock, begin_ns) < seconds:
        clock.sleep_s(0.1)


def _lock_domain() -> int:
    for domain in DOMAINS:
        lock = os.open(Path(tempfile.gettempdir(), f"finevla-ros-domain-{domain}.lock"), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return lock
    raise RuntimeError("no DDS domain is free")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
