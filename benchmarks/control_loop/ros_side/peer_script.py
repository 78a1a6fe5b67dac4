"""An inference script in the manner of the AgileX and openpi clients: one process for everything.

The main thread spins the node: joints and pictures come in. A second thread publishes commands at 200 Hz and sleeps to
the next due instant, as a rate does. With ``--work`` a third thread does the policy's work in Python. With ``--server``
that thread asks a real policy server instead, blocking, and the publishing thread executes what comes.

Written here from descriptions; the pacing is the best a Python thread can do: an absolute deadline, no drift.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from array import array
from collections.abc import Callable
from functools import partial

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from benchmarks.control_loop.ros_side.policy_work import ByteArray, work
from finevla_cobot.qos import COMMAND, SENSOR
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.robot.topic_profile import ARMS, find_topic_profile
from finevla_runtime.transport.client import RemotePolicy

PERIOD_NS = 5_000_000
STEP_NS = 100_000_000


class PeerScript(Node):
    """Keeps the last of everything and sends two arms their commands."""

    def __init__(self, cameras: list[str], server: str, log: str) -> None:
        """Open the topics of the simulated pair and of the cameras."""
        super().__init__("peer_script")
        self.clock = SteadyClock()
        self.running = True
        self.images: dict[str, tuple[int, ByteArray]] = {}
        self.joints = np.zeros(14)
        self._server, self._log_path = server, log
        self._chunk: tuple[int, int, np.ndarray] | None = None
        self._answered: list[tuple[int, int]] = []
        self._outs = []
        profile = find_topic_profile("cobot_magic_sim")
        for index, arm in enumerate(ARMS):
            topics = profile.arm(arm)
            self._outs.append(self.create_publisher(JointState, topics.command.topic, COMMAND))
            self.create_subscription(JointState, topics.feedback.topic, partial(self._on_joints, index), SENSOR)
        self._names = list(profile.arm("left").command.joints)
        for topic in cameras:
            self.create_subscription(Image, topic, partial(self._on_image, topic), SENSOR)

    def publish_for_ever(self) -> None:
        """Send at 200 Hz: the publishing thread."""
        due_ns = self.clock.now_ns()
        target = None
        while self.running:
            # What was missed is left out, as the timers of ROS do it.
            now_ns = self.clock.now_ns()
            due_ns += PERIOD_NS * max(1, -(-(now_ns - due_ns) // PERIOD_NS))
            self.clock.sleep_s((due_ns - now_ns) / 1e9)
            chunk = self._chunk
            target = self._row(chunk) if chunk is not None else self.joints if target is None else target
            stamp = self.get_clock().now()
            for index, out in enumerate(self._outs):
                message = JointState(name=self._names, position=array("d", target[index * 7 : index * 7 + 7]))
                message.header.stamp = stamp.to_msg()
                out.publish(message)
            if chunk is not None and (not self._answered or self._answered[-1][0] != chunk[0]):
                self._answered.append((chunk[0], stamp.nanoseconds))

    def _row(self, chunk: tuple[int, int, np.ndarray]) -> np.ndarray:
        _, begin_ns, rows = chunk
        row = min(len(rows) - 1, max(0, (self.clock.now_ns() - begin_ns) // STEP_NS))
        return np.asarray(rows[row], dtype=np.float64)

    def work_for_ever(self) -> None:
        """Preprocess the newest pictures: the policy's thread."""
        work(lambda: [image for _, image in list(self.images.values())], lambda: self.running)

    def ask_for_ever(self) -> None:
        """Wait for a new picture of every camera, ask, execute eight rows, and again: the policy's thread."""
        told = Instruction("put the red block into the bowl", InstructionKind.FINE_GRAINED)
        last_ns, step = 0, 0
        with RemotePolicy.connect(self._server, timeout_s=5.0) as policy:
            policy.reset(0)
            while self.running:
                seen = dict(self.images)
                stamp_ns = min((stamp for stamp, _ in seen.values()), default=0)
                if len(seen) < 3 or stamp_ns <= last_ns:
                    self.clock.sleep_s(0.002)
                    continue
                last_ns = stamp_ns
                images = {topic.partition("/")[0]: image for topic, (_, image) in seen.items()}
                chunk = policy.infer(Observation(images, self.joints.astype(np.float32), told, stamp_ns, step))
                step += 8
                self._chunk = (stamp_ns, self.clock.now_ns(), chunk.positions)
                self.clock.sleep_s(0.8)

    def save(self) -> None:
        """Write which command was the first to answer which picture: wall-clock nanoseconds."""
        if self._log_path:
            with open(self._log_path, "w", encoding="ascii") as file:
                json.dump(self._answered, file)

    def _on_joints(self, index: int, message: JointState) -> None:
        self.joints[index * 7 : index * 7 + 7] = message.position

    def _on_image(self, topic: str, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        stamp = message.header.stamp
        self.images[topic] = (stamp.sec * 1_000_000_000 + stamp.nanosec, pixels)


def main() -> None:
    """Run until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", action="store_true")
    parser.add_argument("--server", default="")
    parser.add_argument("--log", default="")
    parser.add_argument("cameras", nargs="*")
    options = parser.parse_args()
    rclpy.init()
    node = PeerScript(options.cameras, options.server, options.log)
    jobs: list[Callable[[], None]] = [node.publish_for_ever]
    jobs += [node.work_for_ever] if options.work else []
    jobs += [node.ask_for_ever] if options.server else []
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    spinner = threading.Thread(target=rclpy.spin, args=(node,), daemon=True)
    for thread in (spinner, *threads):
        thread.start()
    sys.stdin.read()
    node.running = False
    for thread in threads:
        thread.join(timeout=2.0)
    node.save()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
