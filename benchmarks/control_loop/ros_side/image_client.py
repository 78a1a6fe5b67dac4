"""The way of camera pictures into our policy client: its own conversion and synchroniser, without a policy behind."""

from __future__ import annotations

import sys
from functools import partial

from rclpy.node import Node
from sensor_msgs.msg import Image

from finevla_cobot.conversions import pixels_of, stamp_ns
from finevla_cobot.qos import SENSOR
from finevla_cobot.spin import STEADY, run
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.motion.synchroniser import Freshness, Synchroniser
from finevla_runtime.robot.topic_profile import CameraTopic, find_topic_profile
from finevla_runtime.transport.allocator import keep_heap

LOOK_S = 0.01


class ImageClient(Node):
    """Takes the three pictures of the AgileX profile in."""

    def __init__(self) -> None:
        """Listen and look as the policy client does."""
        super().__init__("image_client")
        self._steady = SteadyClock()
        profile = find_topic_profile("agilex_ros2")
        sources = profile.sources
        limits = Freshness(sources.image_age_s, sources.joint_age_s, sources.image_skew_s, sources.freeze_frames)
        self._synchroniser = Synchroniser(tuple(camera.name for camera in profile.cameras), limits)
        for camera in profile.cameras:
            self.create_subscription(Image, camera.topic, partial(self._on_image, camera), SENSOR)
        self.create_timer(LOOK_S, lambda: self._synchroniser.latest(self._steady.now_ns()), clock=STEADY)

    def stopping(self, hurry: bool) -> bool:
        """Nothing is left to do."""
        del hurry
        return True

    def _on_image(self, camera: CameraTopic, message: Image) -> None:
        pixels = pixels_of(message, camera)
        self._synchroniser.add_image(camera.name, stamp_ns(message, camera), self._steady.now_ns(), pixels)


if __name__ == "__main__":
    keep_heap()
    sys.exit(run(ImageClient))
