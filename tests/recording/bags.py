"""Small bags and what goes into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from finevla_runtime.recording.bag import BagTopic, BagWriter, TopicQos
from finevla_runtime.recording.message_types import MessageTypes

ROOT = Path(__file__).resolve().parents[2]
INTERFACES = ROOT / "ros2_ws/src/finevla_interfaces"
JOINTS = BagTopic("/puppet/joint_left", "sensor_msgs/msg/JointState", TopicQos(is_reliable=False, depth=5))
STATUS = BagTopic("/finevla/status", "finevla_interfaces/msg/ControllerStatus")
EPISODE = BagTopic("/finevla/episode", "finevla_interfaces/msg/Episode", TopicQos(is_transient_local=True, depth=1))
STORE = get_typestore(Stores.ROS2_JAZZY)
MEBI = 2**20


def interface(type_name: str) -> str | None:
    """Return the definition of one of our messages, from its source."""
    path = INTERFACES / f"{type_name.removeprefix('finevla_interfaces/')}.msg"
    return path.read_text() if path.exists() else None


def joint_state(number: int) -> bytes:
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=number, nanosec=0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    positions = np.full(7, float(number))
    message = types["sensor_msgs/msg/JointState"](
        header=header, name=[f"joint{i}" for i in range(7)], position=positions, velocity=positions, effort=positions
    )
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/JointState"))


def writer(folder: Path, free: Callable[[Path], int] = lambda _: 10 * MEBI) -> BagWriter:
    return BagWriter(folder, least_free_bytes=MEBI, types=MessageTypes(interface), free_bytes=free)


def stamps(bag: Path) -> list[int]:
    with Reader(bag) as reader:
        return [stamp for _connection, stamp, _message in reader.messages()]
