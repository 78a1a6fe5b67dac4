"""`finevla robot ...` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = "import sys; from finevla_runtime.cli import main, robot; from finevla_runtime.cli.verbs import Verb; "
PROGRAM += "sys.exit(main.run_verb(Verb('robot', 'finevla_runtime.cli.robot', 'robot', ''), sys.argv[1:]))"


class CliProcess:
    """A running command; what it prints goes to a file."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self._output = output
        with output.open("w") as file:
            command = [sys.executable, "-c", PROGRAM, *arguments]
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def output(self) -> str:
        """Return what was printed so far."""
        return self._output.read_text()

    def ended(self) -> bool:
        """Tell whether it ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """End it if it still runs."""
        if not self.ended():
            self.process.kill()
            self.process.wait()
