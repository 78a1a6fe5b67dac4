"""Listens beside the graph and writes down stamps; it decides nothing and takes part in nothing.

``commands SECONDS OUT`` keeps the header stamps of the left arm's commands: the sender's clock at the moment of
sending, so the way to this process does not count. ``ages SECONDS OUT`` keeps in addition the stamps of one camera's
pictures, and which observation each chunk answers and when it came by. ``OUT`` is an npz of int64 nanoseconds.
"""

from __future__ import annotations

import struct
import sys
from array import array

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState

from finevla_cobot.qos import EVENT, SENSOR
from finevla_interfaces.msg import ActionChunk
from finevla_runtime.contracts.clock import SteadyClock, elapsed_s

COMMANDS = "left/joint_commands"
PICTURES = "cam_high/color/image_raw"


class Probe(Node):
    """Keeps stamps."""

    def __init__(self) -> None:
        """Listen to commands unread: a header's stamp is in the first bytes."""
        super().__init__("probe")
        self.commands = array("q")
        self.pictures = array("q")
        self.seen = array("q")
        self.came = array("q")
        self._steady = SteadyClock()
        self.create_subscription(JointState, COMMANDS, self._on_command, QoSProfile(depth=1000), raw=True)

    def watch_chunks(self) -> None:
        """Listen to pictures and chunks in addition."""
        self.create_subscription(Image, PICTURES, lambda raw: self.pictures.append(stamp_of(raw)), SENSOR, raw=True)
        self.create_subscription(ActionChunk, "finevla/chunk", self._on_chunk, EVENT)

    def _on_command(self, raw: bytes) -> None:
        self.commands.append(stamp_of(raw))

    def _on_chunk(self, message: ActionChunk) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self.came.append(now_ns)
        # From the robot's steady clock to the wall clock that headers are stamped with.
        self.seen.append(message.capture_time_ns + now_ns - self._steady.now_ns())


def stamp_of(raw: bytes) -> int:
    """Return the stamp of a message that begins with a header, from its little-endian CDR bytes."""
    sec, nanosec = struct.unpack_from("<iI", raw, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def main() -> None:
    """Listen for some seconds after the first command."""
    kind, seconds, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    rclpy.init()
    probe, clock = Probe(), SteadyClock()
    if kind == "ages":
        probe.watch_chunks()
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    begin_ns = clock.now_ns()
    while not probe.commands and elapsed_s(clock, begin_ns) < 30.0:
        executor.spin_once(timeout_sec=0.1)
    begin_ns = clock.now_ns()
    while elapsed_s(clock, begin_ns) < seconds:
        executor.spin_once(timeout_sec=0.05)
    names = ("commands", "pictures", "seen", "came")
    np.savez(out, **{name: np.array(getattr(probe, name), np.int64) for name in names})
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
