"""Starts the nodes of a stack as processes, brings them to life in order, and takes them down in order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from finevla_cobot.operator_desk import OperatorDesk
from finevla_cobot.stack import ENDING, NodeKind, Stack
from finevla_interfaces.msg import ControllerStatus, PolicyStatus
from finevla_runtime.contracts.clock import elapsed_s
from finevla_runtime.contracts.errors import SetupError

APPEAR_S = 20.0
# A policy server may still be loading, and drivers may still be starting.
CONFIGURE_S = 60.0
ACTIVATE_S = 15.0
AGAIN_S = 0.5
END_S = 8.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
STEPS = {
    "configure": (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
    "activate": (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
}
Tell = Callable[[str, str], None]


class BringUp:
    """The processes of one stack; nothing that ended is started again."""

    def __init__(self, stack: Stack, desk: OperatorDesk, logs: Path, namespace: str = "") -> None:
        """Prepare; each node prints into a file of its name in ``logs``."""
        self._stack, self._desk, self._logs, self._namespace = stack, desk, logs, namespace
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, tell: Tell, interrupted: Callable[[], object] = lambda: False) -> None:
        """Start every node and bring the lifecycle nodes to active.

        Args:
            tell: called with the name of a node and what became of it.
            interrupted: asked again and again whether to give up, quietly.

        Raises:
            SetupError: FV-STK-005 for a node that ended or did not appear, FV-STK-006 for one that refuses a step.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        for kind in self._stack.nodes:
            self._start(kind)
        for kind in self._stack.nodes:
            if interrupted():
                return
            self._await_appearance(kind, interrupted)
            if kind.has_lifecycle:
                enliven(self._desk, kind.name, partial(self._gives_up, kind.name, interrupted))
                if interrupted():
                    return
                tell(kind.name, "active")
            else:
                tell(kind.name, "running")

    def ended(self) -> dict[str, int]:
        """Return the nodes that ended since this was asked last, with their exit codes."""
        gone = {name: code for name, process in self._processes.items() if (code := process.poll()) is not None}
        for name in gone:
            del self._processes[name]
        return gone

    def down(self, tell: Tell, hurried: Callable[[], object] = lambda: False) -> None:
        """End every node, one after another; in a hurry all are told at once, and told again."""
        for name in ENDING:
            process = self._processes.pop(name, None)
            if process is not None:
                tell(name, self._end(process, hurried))

    def log(self, name: str) -> Path:
        """Return the file that a node prints into."""
        return self._logs / f"{name}.log"

    def _start(self, kind: NodeKind) -> None:
        command = [sys.executable, "-m", f"finevla_cobot.{kind.name}"]
        with self.log(kind.name).open("wb") as log:
            # A group of its own: Ctrl-C is ours, and we take the nodes down in order.
            self._processes[kind.name] = subprocess.Popen(
                [*command, *self._stack.arguments(kind.name, self._namespace)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def _await_appearance(self, kind: NodeKind, interrupted: Callable[[], object]) -> None:
        def is_there() -> bool:
            self._require(kind.name)
            return self._desk.is_there(kind.name) or bool(interrupted())

        if not self._desk.wait(is_there, APPEAR_S):
            raise SetupError("FV-STK-005", f"{kind.name} did not appear within {APPEAR_S:g} s; {self._tail(kind.name)}")

    def _gives_up(self, name: str, interrupted: Callable[[], object]) -> bool:
        self._require(name)
        return bool(interrupted())

    def _require(self, name: str) -> None:
        code = self._processes[name].poll()
        if code is not None:
            raise SetupError("FV-STK-005", f"{name} ended with {code}; {self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"last of {self.log(name)}: {lines[-1]}" if lines else f"it said nothing ({self.log(name)})."

    def _end(self, process: subprocess.Popen[bytes], hurried: Callable[[], object]) -> str:
        process.send_signal(signal.SIGTERM)
        begin_ns, again = self._desk.clock.now_ns(), False
        while process.poll() is None:
            if hurried() and not again:
                again = True
                # Nobody waits for his turn: the arms brake now, whoever hangs.
                for one in (process, *self._processes.values()):
                    one.send_signal(signal.SIGTERM)
            if elapsed_s(self._desk.clock, begin_ns) > END_S:
                process.kill()
                process.wait()
                return f"did not end within {END_S:g} s and was killed"
            self._desk.turn()
        return f"ended ({process.returncode})"


def enliven(desk: OperatorDesk, name: str, watch: Callable[[], object] = lambda: False) -> None:
    """Bring one lifecycle node to active; a refused step is tried again while what it waits for may still come.

    Args:
        desk: in the namespace of the node.
        name: of the node.
        watch: called meanwhile; may raise, and True gives up quietly.

    Raises:
        SetupError: FV-STK-006 with the node's own words when it refuses to the end.
    """
    reasons = _Reasons(desk)
    for step, timeout_s in (("configure", CONFIGURE_S), ("activate", ACTIVATE_S)):
        transition, wanted = STEPS[step]
        begin_ns = desk.clock.now_ns()
        while lifecycle_state(desk, name) not in (wanted, State.PRIMARY_STATE_ACTIVE):
            if watch():
                return
            answer = desk.call(ChangeState, f"{name}/change_state", timeout_s, transition=Transition(id=transition))
            if answer.success:
                break
            desk.wait(watch, AGAIN_S)
            final = step == "configure" and not reasons.may_pass(name)
            if final or elapsed_s(desk.clock, begin_ns) > timeout_s:
                raise SetupError("FV-STK-006", f"{name} does not {step}: {reasons.of(name) or 'it does not say why'}")


def lifecycle_state(desk: OperatorDesk, name: str) -> int:
    """Return the primary state of a lifecycle node, as in lifecycle_msgs/State."""
    return int(desk.call(GetState, f"{name}/get_state").current_state.id)


def _end_with_parent() -> None:
    """Let the kernel end a node in order when whoever brought it up is killed outright: the arms brake then."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class _Reasons:
    """Why nodes refuse, in their own words, from their statuses."""

    def __init__(self, desk: OperatorDesk) -> None:
        self._commander = desk.heard(ControllerStatus, "finevla/status", most=1)
        self._policy = desk.heard(PolicyStatus, "finevla/policy_status", most=1)

    def of(self, name: str) -> str:
        """Return what a node last said was wrong."""
        if name == "arm_commander":
            return "; ".join(self._commander[-1].reasons) if self._commander else ""
        return self._policy[-1].text if self._policy else ""

    def may_pass(self, name: str) -> bool:
        """Tell whether waiting may help: for a server that loads, or a driver that starts; not for a wrong file."""
        return self.of(name).startswith(("FV-NET-", "FV-SRV-", "FV-ROB-008"))
