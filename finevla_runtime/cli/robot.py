"""`finevla robot`: everything about a real or simulated pair of arms on a ROS 2 graph.

The core knows nothing of ROS. Whoever does, registers sub-verbs as entry points of the group ``finevla.robot_verbs``
(``name = "module:function"``, a function as a verb has it); what needs no robot is here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from finevla_runtime.cli.options import dispatch, parse
from finevla_runtime.cli.verbs import RunVerb
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.safety.feasibility import explain
from finevla_runtime.safety.scene_declaration import find_scene_declaration

GROUP = "finevla.robot_verbs"
# As on the wire; a command line would show the names of an enumeration's members instead.
KindName = Literal["fine_grained", "raw"]
# Known also where ROS 2 is not, so that help is the same everywhere and says what is missing.
WITH_ROS = {
    "up": "Start the nodes of a robot, real or simulated, and bring them to life.",
    "run": "Let the policy carry out an instruction; Ctrl-C cancels, a second one stops.",
    "change": "Give the running episode another instruction.",
    "stop": "Brake and hold until `finevla robot reset`.",
    "reset": "Let the arms move again after a stop.",
    "approach": "Let the next motion begin from far away, slowly.",
    "doctor": "Say what of a robot's graph works, what does not, and what to do.",
    "activate": "Bring the lifecycle nodes to active, for example after a launch file.",
}
HOW_TO = (
    "run it where ROS 2 and our nodes are: `source ros2_ws/install/setup.bash` on a robot, or, in a checkout, "
    "`scripts/ros.sh` once and then `scripts/ros_run.sh finevla robot ...`; see docs/robot.md."
)


@dataclass(frozen=True)
class CheckOptions:
    """Say what is understood of an instruction, and why it would be refused; needs no robot."""

    instruction: str
    """What the robot shall do."""
    scene: str
    """Declaration in hw_configs/scenes of what stands before the robot."""
    kind: KindName = "fine_grained"
    """Whether the instruction is raw or fine-grained."""


def robot(argv: Sequence[str]) -> int:
    """Drive a real or simulated pair of arms on a ROS 2 graph."""
    return dispatch("finevla robot", robot_verbs(), argv)


def robot_verbs() -> Mapping[str, RunVerb]:
    """Return the sub-verbs; those that need ROS 2 where it is not say how to get it."""
    found: dict[str, RunVerb] = {"check": check}
    found |= {name: _absent(name, line) for name, line in WITH_ROS.items()}
    if util.find_spec("rclpy") is not None:
        entries = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
        found |= {name: _registered(entry, WITH_ROS.get(name, "")) for name, entry in sorted(entries.items())}
    return found


def check(argv: Sequence[str]) -> int:
    """Say what is understood of an instruction and why it would be refused."""
    options = parse(CheckOptions, argv, prog="finevla robot check")
    instruction = Instruction(options.instruction, InstructionKind(options.kind))
    found = explain(instruction.text, find_scene_declaration(options.scene))
    for line in found.lines():
        sys.stdout.write(line + "\n")
    sys.stdout.write("nothing speaks against it\n" if found.feasible else "refused\n")
    return 0 if found.feasible else 1


def _absent(name: str, line: str) -> RunVerb:
    def run(argv: Sequence[str]) -> int:
        del argv
        raise SetupError("FV-OPR-003", f"`finevla robot {name}` needs ROS 2 and finevla_cobot: {HOW_TO}")

    run.__doc__ = line
    return run


def _registered(entry: metadata.EntryPoint, line: str) -> RunVerb:
    """Return a sub-verb that is imported only when it is called."""

    def run(argv: Sequence[str]) -> int:
        verb: RunVerb = entry.load()
        return verb(argv)

    run.__doc__ = line
    return run
