"""Where the policy of an evaluation comes from: a bundle, a running server, or the scripted expert."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.clock import Clock, SteadyClock, elapsed_s
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import check_compatibility, raise_for_errors
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.transport.client import RemotePolicy
from sim_eval.expert_policy import CHUNK_ROWS, EXPERT_LABEL, ExpertPolicy
from sim_eval.plan import EMBODIMENT
from sim_eval.rollout import World
from sim_eval.tabletop.world import TabletopWorld
from sim_eval.trial_worker import ClosablePolicy, PolicyFactory

SERVER_LOG = "server.log"
_START_LIMIT_S = 120.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy that workers can open.

    Attributes:
        label: name in manifest and report.
        digest: identity of the policy, the bundle's digest where there is one.
        chunk_rows: prediction horizon.
        address: server shared by all workers, empty when there is none.
        factory: opens the policy in a worker.
    """

    label: str
    digest: str
    chunk_rows: int
    address: str
    factory: PolicyFactory


def expert_source() -> PolicySource:
    """Return the scripted expert: no server, no model."""
    return PolicySource(EXPERT_LABEL, "scripted-expert", CHUNK_ROWS, "", open_expert)


def server_source(address: str, label: str = "") -> PolicySource:
    """Ask a running server what it serves and check that it fits the simulated body.

    Raises:
        SetupError: FV-NET-* when there is no server, FV-CMP-* when the policy was made for another body.
    """
    with RemotePolicy.connect(address, label="plan") as policy:
        spec, digest = policy.spec, policy.bundle_digest
    raise_for_errors(check_compatibility(spec, load_embodiment(HW_CONFIGS / f"{EMBODIMENT}.yaml")))
    return PolicySource(label or spec.name, digest, spec.chunk_rows, address, open_remote)


@contextmanager
def serve_bundle(bundle: Path, log_folder: Path, clock: Clock | None = None) -> Iterator[str]:
    """Run `finevla serve` on a free port of this machine; yield its address and stop it in the end.

    The server answers one observation per run of the model: batches of changing size would change the last bits of
    the actions, and with them the outcome of a trial would depend on the number of workers.

    Raises:
        SetupError: FV-RUN-004 when it ends or does not answer in time; its output is in the log.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    log = log_folder / SERVER_LOG
    with tempfile.TemporaryDirectory(prefix="finevla-") as folder, log.open("ab") as output:
        ready = Path(folder) / "address"
        command = [sys.executable, "-m", "finevla_runtime.cli.main", "serve", str(bundle), "--port", "0"]
        command += ["--max-batch", "1", "--threads", "1", "--ready-file", str(ready)]
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            yield _wait_for_address(server, ready, log, clock or SteadyClock())
        finally:
            server.terminate()
            try:
                server.wait(timeout=15.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def open_remote(address: str) -> ClosablePolicy:
    """Open a session of the shared server (worker side)."""
    return RemotePolicy.connect(address, label="rollout")


def open_expert(address: str) -> ClosablePolicy:
    """Build the expert (worker side); it needs no address."""
    return ExpertPolicy()


def rendering_world() -> World:
    """Build a world with cameras (worker side)."""
    return TabletopWorld(render=True)


def physics_world() -> World:
    """Build a world without cameras (worker side), for policies that need no images."""
    return TabletopWorld(render=False)


def _wait_for_address(server: subprocess.Popen[bytes], ready: Path, log: Path, clock: Clock) -> str:
    begin_ns = clock.now_ns()
    while not ready.exists():
        if server.poll() is not None:
            raise SetupError(
                "FV-RUN-004", f"the policy server ended with status {server.returncode}: {_last_line(log)} (see {log})"
            )
        if elapsed_s(clock, begin_ns) > _START_LIMIT_S:
            raise SetupError(
                "FV-RUN-004", f"the policy server did not answer within {_START_LIMIT_S:.0f} s; see {log}."
            )
        clock.sleep_s(0.05)
    return ready.read_text(encoding="utf-8").strip()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end_with_parent() -> None:
    """Let the kernel stop the server when this process is killed outright (runs in the child before it starts)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
