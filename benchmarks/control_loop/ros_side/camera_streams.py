"""Three cameras of 640x480 at 30 Hz, each frame another one; names on the command line."""

from __future__ import annotations

import sys
from array import array

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from finevla_cobot.qos import SENSOR
from finevla_cobot.spin import STEADY, run

HEIGHT, WIDTH, RATE_HZ = 480, 640, 30.0


class CameraStreams(Node):
    """Publishes on the given topics from one timer, stamped."""

    def __init__(self, topics: list[str]) -> None:
        """Prepare a few frames, so that publishing is all that costs."""
        super().__init__("camera_streams")
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
        self._frames = [array("B", frame.tobytes()) for frame in frames]
        self._sent = 0
        self._outs = [self.create_publisher(Image, topic, SENSOR) for topic in topics]
        self.create_timer(1.0 / RATE_HZ, self._send, clock=STEADY)

    def stopping(self, hurry: bool) -> bool:
        """Nothing is left to do."""
        del hurry
        return True

    def _send(self) -> None:
        message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=WIDTH * 3)
        message.header.stamp = self.get_clock().now().to_msg()
        message.data = self._frames[self._sent % len(self._frames)]
        self._sent += 1
        for out in self._outs:
            out.publish(message)


if __name__ == "__main__":
    sys.exit(run(lambda: CameraStreams(sys.argv[1:])))
