"""Waits for first messages inside a callback, where the node itself cannot be spun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from finevla_runtime.contracts.clock import SteadyClock, elapsed_s

WAIT_S = 0.02


@dataclass(frozen=True, eq=False)
class Source:
    """One subscription.

    Attributes:
        kind: class of its messages.
        topic: as the node names it.
        heard: called with each message.
        qos: of the subscription.
    """

    kind: type
    topic: str
    heard: Callable[..., None]
    qos: QoSProfile


def hear(node: Node, sources: Sequence[Source], is_enough: Callable[[], bool], patience_s: float) -> bool:
    """Listen to sources until it is enough; return whether it became so within ``patience_s``.

    A node of its own listens for that time: callbacks of ``node`` do not run while one of them waits.
    """
    clock = SteadyClock()
    begin_ns = clock.now_ns()
    ear = Node(
        f"{node.get_name()}_first_messages",
        context=node.context,
        namespace=node.get_namespace(),
        use_global_arguments=False,
        start_parameter_services=False,
    )
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(ear)
    try:
        for source in sources:
            ear.create_subscription(source.kind, node.resolve_topic_name(source.topic), source.heard, source.qos)
        while not is_enough() and elapsed_s(clock, begin_ns) < patience_s:
            executor.spin_once(timeout_sec=WAIT_S)
    finally:
        executor.shutdown()
        ear.destroy_node()
    return is_enough()
