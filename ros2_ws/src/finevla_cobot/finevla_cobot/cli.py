"""The sub-verbs of `finevla robot` that need a graph; each is one line in setup.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from std_srvs.srv import Trigger

from finevla_cobot.bring_up import BringUp, enliven
from finevla_cobot.operator_desk import OperatorDesk
from finevla_cobot.spin import StopSignals
from finevla_cobot.stack import KINDS, find_config, load_stack
from finevla_interfaces.srv import ChangeInstruction
from finevla_runtime.cli.options import parse
from finevla_runtime.cli.robot import KindName
from finevla_runtime.contracts.errors import SetupError


@dataclass(frozen=True)
class GraphOptions:
    """Options of every command on a graph."""

    namespace: str = ""
    """Namespace of the robot's nodes, for example /left_cell."""


@dataclass(frozen=True)
class ChangeOptions:
    """Give the running episode another instruction; a refused one leaves it as it is."""

    instruction: str
    """What the robot shall do from now on."""
    kind: KindName = "fine_grained"
    """Whether the instruction is raw or fine-grained."""
    namespace: str = ""
    """Namespace of the robot's nodes."""


@dataclass(frozen=True)
class UpOptions(GraphOptions):
    """Start the nodes of a robot and bring them to life; Ctrl-C takes them down in order.

    Nothing that ended is started again.
    """

    config: str = ""
    """Parameter file, or the name of a shipped one: cobot_magic, sim, tabletop."""
    sim: bool = False
    """Short for --config sim."""
    set: tuple[str, ...] = ()
    """NODE.PARAMETER=VALUE beside the file, for example policy_client.server=10.0.0.2:8500."""
    logs: Path = Path("out/robot-logs")
    """Folder for what the nodes print."""
    ready_file: Path | None = None
    """File that is written when everything is up."""


def run(argv: Sequence[str]) -> int:
    """Let the policy carry out an instruction; Ctrl-C cancels, a second one stops."""
    from finevla_cobot.run_instruction import run_instruction

    return run_instruction(argv)


def doctor(argv: Sequence[str]) -> int:
    """Say what of a robot's graph works, what does not, and what to do."""
    from finevla_cobot.doctor import run_doctor

    return run_doctor(argv)


def stop(argv: Sequence[str]) -> int:
    """Brake and hold until `finevla robot reset`."""
    return _trigger("stop", argv)


def reset(argv: Sequence[str]) -> int:
    """Let the arms move again after a stop."""
    return _trigger("reset", argv)


def approach(argv: Sequence[str]) -> int:
    """Let the next motion begin from far away, slowly."""
    return _trigger("approach", argv, "allow_approach")


def change(argv: Sequence[str]) -> int:
    """Give the running episode another instruction."""
    options = parse(ChangeOptions, argv, prog="finevla robot change")
    fields = {"instruction": options.instruction, "kind": options.kind}
    with OperatorDesk(options.namespace) as desk:
        answer = desk.call(ChangeInstruction, "finevla/change_instruction", **fields)
    if not answer.accepted:
        sys.stderr.write(f"{answer.code}: {answer.reason}\n")
        return 1
    say("session", f"instruction {answer.epoch} of the episode: {options.instruction}")
    return 0


def activate(argv: Sequence[str]) -> int:
    """Bring the lifecycle nodes to active, for example after a launch file."""
    options = parse(GraphOptions, argv, prog="finevla robot activate")
    with OperatorDesk(options.namespace) as desk:
        for kind in KINDS:
            if kind.has_lifecycle:
                enliven(desk, kind.name)
                say(kind.name, "active")
    return 0


def up(argv: Sequence[str]) -> int:
    """Start the nodes of a robot, real or simulated, and bring them to life."""
    options = parse(UpOptions, argv, prog="finevla robot up")
    if bool(options.config) == options.sim:
        raise SetupError("FV-STK-007", "say which robot: --config FILE, or --sim.")
    stack = load_stack(find_config(options.config or "sim"), options.set)
    signals = StopSignals()
    failed = False
    with OperatorDesk(options.namespace) as desk:
        bring_up = BringUp(stack, desk, options.logs, options.namespace)
        try:
            bring_up.up(say, interrupted=lambda: signals.count)
            if options.ready_file is not None and not signals.count:
                options.ready_file.write_text("ready\n", encoding="utf-8")
            while not signals.count:
                desk.turn()
                for name, code in bring_up.ended().items():
                    failed = True
                    say(name, f"ended with {code} and is not started again; see {bring_up.log(name)}")
        finally:
            begun = signals.count
            bring_up.down(say, hurried=lambda: signals.count > begun)
    return 1 if failed else 0


def say(name: str, what: str) -> None:
    """Print one line about a node."""
    sys.stdout.write(f"{name:<14} {what}\n")
    sys.stdout.flush()


def _trigger(verb: str, argv: Sequence[str], service: str = "") -> int:
    options = parse(GraphOptions, argv, prog=f"finevla robot {verb}")
    with OperatorDesk(options.namespace) as desk:
        answer = desk.call(Trigger, f"finevla/{service or verb}")
    say("arm_commander", answer.message)
    return 0 if answer.success else 1
