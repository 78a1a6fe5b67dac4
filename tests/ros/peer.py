"""The other side of a test: a node in this process that talks to the nodes under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from finevla_cobot.qos import EVENT
from finevla_runtime.contracts.clock import SteadyClock, elapsed_s

# Long enough for a busy machine; a promise that is kept takes no longer than it takes.
PATIENCE_S = 120.0


class Peer:
    """Publishes, listens and calls services, with a context of its own."""

    def __init__(self, name: str = "peer") -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[tuple[type, str], Any] = {}
        self._clock = SteadyClock()

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def add(self, node: Node) -> None:
        """Spin a node under test along; it must be made with ``context=peer.context``."""
        self._executor.add_node(node)

    def remove(self, node: Node) -> None:
        """Spin a node no longer."""
        self._executor.remove_node(node)

    def until(self, condition: Callable[[], object], what: str, each: Callable[[], object] = lambda: None) -> None:
        """Spin until ``condition`` holds; ``each`` runs at every turn, a hundred times a second at most."""
        start_ns = self._clock.now_ns()
        while not condition():
            each()
            self._executor.spin_once(timeout_sec=0.01)
            if elapsed_s(self._clock, start_ns) > PATIENCE_S:
                raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain for {what}")

    def heard(self, kind: type, topic: str, qos: QoSProfile = EVENT) -> list[Any]:
        """Return a list that grows with every message."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def call(self, kind: Any, service: str, /, **fields: object) -> Any:
        """Call a service and return its response; clients are kept, since a fresh one may miss its first answer."""
        client = self._clients.get((kind, service)) or self.node.create_client(kind, service)
        self._clients[kind, service] = client
        self.until(client.service_is_ready, f"service {service}")
        future = client.call_async(kind.Request(**fields))
        self.until(future.done, f"an answer of {service}: {json.dumps(fields, default=str)}")
        return future.result()
