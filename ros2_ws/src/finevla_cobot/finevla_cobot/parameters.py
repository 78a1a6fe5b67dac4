"""Reads a node's parameters into a frozen dataclass: each field is a parameter, and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import TypeVar, get_type_hints

from rclpy.node import Node

from finevla_runtime.contracts.errors import SetupError, unknown_name

Settings = TypeVar("Settings")

# Parameters that ROS 2 itself puts into every node.
OF_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides")


def _text(value: object) -> object:
    return value if isinstance(value, str) else None


def _flag(value: object) -> object:
    return value if isinstance(value, bool) else None


def _whole(value: object) -> object:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: object) -> object:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _texts(value: object) -> object:
    is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    return tuple(value) if is_list and isinstance(value, (list, tuple)) else None


READERS: Mapping[object, tuple[str, Callable[[object], object]]] = {
    str: ("a text", _text),
    bool: ("true or false", _flag),
    int: ("a whole number", _whole),
    float: ("a number", _real),
    tuple[str, ...]: ("a list of texts", _texts),
}


def read_parameters(node: Node, settings: type[Settings]) -> Settings:
    """Return ``settings`` (a dataclass of str, bool, int, float and tuple[str, ...]) filled from the parameters.

    Args:
        node: made with ``automatically_declare_parameters_from_overrides=True``, so that unknown ones are seen.
        settings: the class; a field without a default is a parameter that must be given.

    Raises:
        SetupError: FV-ROS-001 (a parameter that no field has), FV-ROS-002 (one is missing), FV-ROS-003 (wrong type).
    """
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    known = {field.name: field for field in fields(settings)}  # type: ignore[arg-type]
    kinds = get_type_hints(settings)
    for name in given:
        if name.partition(".")[0] not in (*known, *OF_ROS):
            raise unknown_name("FV-ROS-001", "parameter", name, known, node.get_name())
    return settings(**{name: _value(node, field, kinds[name], given.get(name)) for name, field in known.items()})


def _value(node: Node, field: Field[object], kind: object, given: object) -> object:
    expected, read = READERS[kind]
    place = f"{node.get_name()}: parameter {field.name}"
    if given is None:
        if field.default is MISSING:
            raise SetupError("FV-ROS-002", f"{place} is missing, wanted {expected}; add -p {field.name}:=...")
        return field.default
    value = read(given)
    if value is None:
        raise SetupError("FV-ROS-003", f"{place} is {given!r}, wanted {expected}.")
    return value
