"""Publishes what a node knows about itself on ``/diagnostics``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from finevla_cobot.qos import EVENT


class Level(Enum):
    """How bad it is."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR


class Diagnostics:
    """The diagnostic messages of one node; whoever owns it decides when to publish (once a second is usual)."""

    def __init__(self, node: Node) -> None:
        """Publish in the name of ``node``."""
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", EVENT)

    def publish(self, level: Level, message: str, values: Mapping[str, object]) -> None:
        """Say how the node is: ``message`` in words, ``values`` for tools."""
        name = self._node.get_fully_qualified_name().lstrip("/")
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        status = DiagnosticStatus(level=level.value, name=name, message=message, hardware_id="", values=pairs)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
