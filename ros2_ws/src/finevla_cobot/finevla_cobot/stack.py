"""The nodes of a robot and their parameters, read strictly from one parameter file of ROS 2."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from ament_index_python.packages import get_package_share_directory

from finevla_cobot.arm_commander import CommanderSettings
from finevla_cobot.parameters import READERS
from finevla_cobot.policy_client import PolicyClientSettings
from finevla_cobot.recorder import RecorderSettings
from finevla_cobot.session import SessionSettings
from finevla_cobot.sim_arm import SimArmSettings
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml, parse_yaml

ANYWHERE = "/**/"
PARAMETERS = "ros__parameters"
TEXTS = tuple[str, ...]
CONFIG = Path(get_package_share_directory("finevla_cobot"), "config")


@dataclass(frozen=True)
class NodeKind:
    """One of our nodes: its settings, and whether it has a lifecycle."""

    name: str
    settings: type
    has_lifecycle: bool = False


# In the order in which they come up: whoever is listened to first comes first, whoever commands comes before who asks.
KINDS = (
    NodeKind("sim_arm", SimArmSettings),
    NodeKind("recorder", RecorderSettings),
    NodeKind("arm_commander", CommanderSettings, has_lifecycle=True),
    NodeKind("policy_client", PolicyClientSettings, has_lifecycle=True),
    NodeKind("session", SessionSettings),
)
# In the order in which they end: nobody begins anything new, nobody asks, the arms brake; then what they stand on.
ENDING = ("session", "policy_client", "arm_commander", "recorder", "sim_arm")
_AGREE = ("arm_commander", "policy_client", "sim_arm")


@dataclass(frozen=True, eq=False)
class Stack:
    """What is to be started.

    Attributes:
        file: the parameter file, which every node gets.
        nodes: in the order of ``KINDS``.
        parameters: per node, what the file and the overrides say.
        overrides: per node, what is said beside the file.
    """

    file: Path
    nodes: tuple[NodeKind, ...]
    parameters: Mapping[str, Mapping[str, object]]
    overrides: Mapping[str, Mapping[str, object]]

    def arguments(self, node: str, namespace: str = "") -> list[str]:
        """Return what a node's program is called with."""
        words = ["--ros-args", "--params-file", str(self.file.resolve())]
        for name, value in self.overrides.get(node, {}).items():
            words += ["-p", f"{name}:={json.dumps(value)}"]
        return [*words, *(["-r", f"__ns:={namespace}"] if namespace else [])]

    def value(self, node: str, parameter: str) -> object:
        """Return a parameter as the node will have it, its default included; None for a node that is not there."""
        kind = next((kind for kind in self.nodes if kind.name == node), None)
        if kind is None:
            return None
        return self.parameters[node].get(parameter, _defaults(kind.settings).get(parameter))


def find_config(name: str, folder: Path = CONFIG) -> Path:
    """Return the path of a file, or of a shipped one by its name (FV-STK-001 for neither)."""
    if Path(name).is_file():
        return Path(name)
    shipped = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in shipped:
        raise unknown_name("FV-STK-001", "configuration", name, shipped, "this folder and the shipped ones")
    return folder / f"{name}.yaml"


def load_stack(path: Path, overrides: Iterable[str] = ()) -> Stack:
    """Read a parameter file; ``overrides`` are ``node.parameter=value``, the value in YAML.

    Raises:
        SetupError: FV-CFG-* for a file that is no mapping or repeats a key, FV-STK-002 for a node, FV-ROS-001 for a
            parameter that is unknown, FV-ROS-003 for a value of another type, FV-STK-003 for an override that cannot be
            read, FV-STK-004 where nodes disagree about what they share.
    """
    known = {kind.name: kind for kind in KINDS}
    said: dict[str, dict[str, object]] = {}
    for key, node in load_yaml(path).items():
        name = key.removeprefix(ANYWHERE)
        if name not in known or name == key:
            raise unknown_name("FV-STK-002", "node", key, [ANYWHERE + kind for kind in known], node.place)
        said[name] = _read(node.mapping([PARAMETERS])[PARAMETERS], known[name])
    beside: dict[str, dict[str, object]] = {}
    for text in overrides:
        name, parameter, value = _override(text, said)
        beside.setdefault(name, {})[parameter] = _value(value, known[name], parameter)
    for name, values in beside.items():
        said[name] |= values
    stack = Stack(path, tuple(kind for kind in KINDS if kind.name in said), said, beside)
    _require_agreement(stack)
    return stack


def _read(node: Node, kind: NodeKind) -> dict[str, object]:
    return {name: _value(child, kind, name) for name, child in node.items()}


def _value(node: Node, kind: NodeKind, name: str) -> object:
    hints = get_type_hints(kind.settings)
    if name not in hints:
        raise unknown_name("FV-ROS-001", "parameter", name, hints, f"{kind.name}, {node.place}")
    value: object = list(node.map(Node.scalar)) if hints[name] == TEXTS else node.scalar()
    expected, read = READERS[hints[name]]
    if read(value) is None:
        raise SetupError("FV-ROS-003", f"{node.place}: {kind.name} has {name} {value!r}, wanted {expected}.")
    return value


def _override(text: str, said: Mapping[str, object]) -> tuple[str, str, Node]:
    target, equals, value = text.partition("=")
    name, dot, parameter = target.partition(".")
    if not equals or not dot or not parameter:
        raise SetupError("FV-STK-003", f"{text!r} cannot be read; wanted NODE.PARAMETER=VALUE.")
    if name not in said:
        raise unknown_name("FV-STK-002", "node", name, said, repr(text))
    return name, parameter, parse_yaml(value or '""', f"--set {target}")


def _require_agreement(stack: Stack) -> None:
    """Refuse different values of what several nodes must know alike."""
    names = [kind.name for kind in stack.nodes if kind.name in _AGREE]
    settings = {kind.name: _defaults(kind.settings) for kind in stack.nodes}
    shared = {
        "embodiment",
        "topic_profile",
        *(set(_defaults(CommanderSettings)) & set(_defaults(PolicyClientSettings))),
    }
    for parameter in sorted(shared):
        values = {name: stack.value(name, parameter) for name in names if parameter in settings[name]}
        if len({json.dumps(value) for value in values.values()}) > 1:
            listed = ", ".join(f"{name} has {value!r}" for name, value in values.items())
            raise SetupError("FV-STK-004", f"{stack.file.name}: {parameter} must be the same everywhere: {listed}.")


def _defaults(settings: type) -> dict[str, object]:
    """Return every parameter with its default, None where there is none."""
    known: tuple[Field[Any], ...] = fields(settings)
    return {field.name: None if field.default is MISSING else field.default for field in known}
