"""Quality of service per kind of topic, in one place, so that publishers and subscriptions fit."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo


def profile(depth: int, *, is_reliable: bool = True, is_transient_local: bool = False) -> QoSProfile:
    """Return a profile that keeps the last ``depth`` messages."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if is_transient_local else DurabilityPolicy.VOLATILE,
    )


# Subscriptions to cameras and joint feedback: drivers offer one or the other, and best effort fits both.
SENSOR = profile(5, is_reliable=False)
# Commands to arms: the newest one counts. A reliable publisher fits every driver.
COMMAND = profile(1)
# Chunks, statuses, buttons and diagnostics.
EVENT = profile(10)
# The state of something, given to whoever joins late.
STATE = profile(1, is_transient_local=True)


def fitting(publishers: Sequence[TopicEndpointInfo], depth: int) -> QoSProfile:
    """Return the strictest profile of a subscription that hears every one of ``publishers``."""
    offered = [publisher.qos_profile for publisher in publishers]
    return profile(
        depth,
        is_reliable=all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered),
        is_transient_local=all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered),
    )
