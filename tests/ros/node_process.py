"""One of our nodes as a process of its own, started the way `ros2 run` starts it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "ros2_ws/install/finevla_cobot/lib/finevla_cobot"
STOP_S = 10.0

Parameter = str | bool | int | float | list[str]


class NodeProcess:
    """A running node; its output goes to a file."""

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Parameter],
        output: Path,
        *,
        namespace: str = "",
        remap: Mapping[str, str] | None = None,
        largest_file: int | None = None,
    ) -> None:
        """Start the node ``name``; ``largest_file`` makes the system refuse bytes beyond, as a full disk does."""
        arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        renamed = dict(remap or {}) | ({"__ns": namespace} if namespace else {})
        arguments += [word for old, new in renamed.items() for word in ("-r", f"{old}:={new}")]
        self._output = output

        def limit() -> None:
            if largest_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        with output.open("w") as file:
            self.process = subprocess.Popen(
                [SCRIPTS / name, "--ros-args", *arguments], stdout=file, stderr=subprocess.STDOUT, preexec_fn=limit
            )

    def output(self) -> str:
        """Return what the node has printed so far."""
        return self._output.read_text()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, within_s: float = STOP_S) -> int:
        """Return the exit code (raises ``TimeoutExpired`` when the node goes on)."""
        return self.process.wait(within_s)

    def stop(self) -> int:
        """Stop the node if it still runs and return its exit code; it is killed when it does not stop by itself."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
