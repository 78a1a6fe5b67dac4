"""Finds message classes and their definitions by the name of the type, for example ``sensor_msgs/msg/Image``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from finevla_runtime.contracts.errors import SetupError


def message_class(type_name: str) -> type:
    """Return the Python class of a message type (FV-ROS-004 when its package is not installed)."""
    package, _, name = type_name.partition("/msg/")
    try:
        found: type = getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise SetupError("FV-ROS-004", f"message type {type_name}: {error}; install its package.") from error
    return found


def message_definition(type_name: str) -> str | None:
    """Return the text of the type's ``.msg`` file, or None where its package is not installed."""
    package, _, name = type_name.partition("/msg/")
    try:
        path = Path(get_package_share_directory(package), "msg", f"{name}.msg")
    except PackageNotFoundError:
        return None
    return path.read_text() if path.exists() else None
