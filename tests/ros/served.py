"""The shipped policy behind `finevla serve`, in the environment of the project and not in that of ROS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.ros.node_process import ROOT, STOP_S
from tests.ros.peer import Peer

# What the wheels of ROS set for their own interpreter would lead another one astray.
OF_ROS = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH")


class ServedPolicy:
    """A policy server as a process."""

    def __init__(self, folder: Path, peer: Peer) -> None:
        """Serve, and wait until the server answers."""
        folder.mkdir(parents=True)
        ready, self._output = folder / "address", folder / "server.log"
        environment = {name: value for name, value in os.environ.items() if name not in OF_ROS}
        command = [ROOT / ".venv/bin/python", "-m", "finevla_runtime.cli.main", "serve", "checkpoints/tabletop-oft"]
        with self._output.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--ready-file", ready],
                env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        peer.until(lambda: ready.exists() or self.process.poll() is not None, "a policy server")
        assert self.process.poll() is None, self._output.read_text()
        self.address = ready.read_text().strip()

    def kill(self) -> None:
        """End it as a power failure does."""
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> None:
        """End it in good order."""
        self.process.terminate()
        self.process.wait(STOP_S)
