"""The operator's side of the graph: one node for one command, with services, actions and what was heard."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from finevla_cobot.qos import EVENT
from finevla_runtime.contracts.clock import SteadyClock, elapsed_s
from finevla_runtime.contracts.errors import SetupError

TURN_S = 0.02
ANSWER_S = 5.0


class OperatorDesk:
    """A node with a context of its own; nothing happens unless somebody waits at it."""

    def __init__(self, namespace: str = "", name: str = "finevla_operator") -> None:
        """Join the graph; signals stay the business of whoever sits here."""
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(name, namespace=namespace or None, context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.clock = SteadyClock()

    def __enter__(self) -> OperatorDesk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def turn(self) -> None:
        """Let one thing happen, or nothing for a moment."""
        self._executor.spin_once(timeout_sec=TURN_S)

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Turn until ``condition`` holds; tell whether it does."""
        begin_ns = self.clock.now_ns()
        while not condition():
            if elapsed_s(self.clock, begin_ns) > timeout_s:
                return False
            self.turn()
        return True

    def is_there(self, name: str) -> bool:
        """Tell whether a node of this name is in the desk's namespace."""
        return (name, self.node.get_namespace()) in self.node.get_node_names_and_namespaces()

    def heard(self, kind: type, topic: str, qos: QoSProfile = EVENT, most: int = 0) -> list[Any]:
        """Return a list that grows with every message; ``most`` keeps only that many of the newest."""
        messages: list[Any] = []

        def keep(message: object) -> None:
            messages.append(message)
            del messages[: len(messages) - most if most else 0]

        self.node.create_subscription(kind, topic, keep, qos)
        return messages

    def call(self, kind: Any, service: str, timeout_s: float = ANSWER_S, /, **fields: object) -> Any:
        """Call a service and return its response.

        Raises:
            SetupError: FV-OPR-001 when nobody offers it, FV-OPR-002 when no answer comes.
        """
        client = self.node.create_client(kind, service)
        try:
            if not self.wait(client.service_is_ready, timeout_s):
                raise SetupError(
                    "FV-OPR-001",
                    f"nobody offers {service}; start the robot's nodes (`finevla robot up`), and look at --namespace "
                    "and ROS_DOMAIN_ID.",
                )
            future = client.call_async(kind.Request(**fields))
            if not self.wait(future.done, timeout_s):
                raise SetupError("FV-OPR-002", f"{service} gave no answer within {timeout_s:g} s.")
            return future.result()
        finally:
            self.node.destroy_client(client)
