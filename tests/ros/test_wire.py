"""What our nodes say is plain DDS: another vendor's reader, in a process without ROS, understands it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sensor_msgs.msg import JointState

from finevla_cobot.qos import COMMAND
from tests.ros.node_process import ROOT
from tests.ros.peer import Peer

TOPIC = "/master/joint_left"
# The wheels of ROS set these for their own interpreter; another environment must not inherit them.
OF_THE_WHEELS = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH")


@contextmanager
def cyclone_reader(topic: str, count: int) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_WHEELS}
    command = [ROOT / ".venv/bin/python", ROOT / "tests/ros/cyclone_reader.py", topic, str(count)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as reader:
        yield reader
        reader.kill()


def test_another_vendor_reads_our_commands_to_the_last_bit(peer: Peer) -> None:
    positions = [0.1, -2.6179, 3.14, 1e-300, -0.0, 0.07, 2.0]
    command = JointState(name=[f"joint{i}" for i in range(7)], position=positions, velocity=[30.0] * 7)
    command.header.stamp.sec, command.header.frame_id = 1_790_000_000, "left"
    publisher = peer.node.create_publisher(JointState, TOPIC, COMMAND)
    with cyclone_reader(TOPIC, 3) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        peer.until(
            lambda: reader.poll() is not None, "the reader to have enough", each=lambda: publisher.publish(command)
        )
        said = [json.loads(line) for line in reader.stdout.read().splitlines()]
    wanted = {
        "stamp": 1_790_000_000,
        "frame": "left",
        "name": command.name,
        "position": positions,
        "velocity": [30.0] * 7,
    }
    assert said == [wanted] * 3
