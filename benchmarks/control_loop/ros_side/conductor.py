"""Brings our nodes up and lets an episode run: ``conductor.py [--chunks] NODE...``; prints ``ready``.

With ``--chunks`` it plays the policy too: a chunk of 16 rows every 0.8 s that moves all joints a little.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
from array import array

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node

from finevla_cobot.qos import EVENT, STATE
from finevla_interfaces.msg import ActionChunk, Episode
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.paths import HW_CONFIGS

ROWS, STEP_S, EVERY_S, SWING_RAD = 16, 0.1, 0.8, 0.08
TRANSITIONS = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
INSTRUCTION = "put the red block into the bowl with the left arm"


class Conductor(Node):
    """Speaks for the session, and for the policy where there is none."""

    def __init__(self) -> None:
        """Open the topics."""
        super().__init__("conductor")
        self._steady = SteadyClock()
        self._episodes = self.create_publisher(Episode, "finevla/episode", STATE)
        self._chunks = self.create_publisher(ActionChunk, "finevla/chunk", EVENT)
        joints = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml").joints
        self._home = [min(max(joint.home, joint.lower + 0.1), joint.upper - 0.1) for joint in joints]
        self._begin_ns = self._steady.now_ns()

    def bring_up(self, name: str) -> None:
        """Configure and activate a node; RuntimeError when it refuses."""
        client = self.create_client(ChangeState, f"{name}/change_state")
        if not client.wait_for_service(30.0):
            raise RuntimeError(f"{name} is not there")
        for number in TRANSITIONS:
            request = ChangeState.Request(transition=Transition(id=number))
            future = client.call_async(request)
            rclpy.spin_until_future_complete(self, future, timeout_sec=30.0)
            if future.result() is None or not future.result().success:
                raise RuntimeError(f"{name} refused transition {number}")

    def begin(self) -> None:
        """Let an episode run."""
        message = Episode(state=Episode.RUN, episode_id="bench", instruction=INSTRUCTION, kind="fine_grained")
        message.origin_ns = self._begin_ns = self._steady.now_ns()
        self._episodes.publish(message)

    def send_chunk(self) -> None:
        """Send rows of a slow wave around home, as the answer to what was seen 20 ms ago."""
        seen_ns = self._steady.now_ns() - 20_000_000
        times = [(seen_ns - self._begin_ns) / 1e9 + STEP_S * (row + 1) for row in range(ROWS)]
        waves = [SWING_RAD * math.sin(2.0 * time_s) for time_s in times]
        positions = array("f", [home + wave for wave in waves for home in self._home])
        self._chunks.publish(
            ActionChunk(
                chunk_id=f"{seen_ns}",
                episode_id="bench",
                step_s=STEP_S,
                capture_time_ns=seen_ns,
                rows=ROWS,
                positions=positions,
            )
        )


def main() -> None:
    """Run until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", action="store_true")
    parser.add_argument("nodes", nargs="+")
    options = parser.parse_args()
    rclpy.init()
    node = Conductor()
    for name in options.nodes:
        node.bring_up(name)
    node.begin()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    while not closed.wait(EVERY_S):
        if options.chunks:
            node.send_chunk()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
