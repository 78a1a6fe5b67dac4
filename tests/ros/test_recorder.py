"""The recorder keeps what was said, as it was said, and stops in good order."""

from __future__ import annotations

import array
import signal
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from finevla_cobot.qos import SENSOR, STATE, profile
from finevla_cobot.recorder import Recorder
from finevla_interfaces.msg import ControllerStatus, Episode
from finevla_interfaces.srv import StartRecording
from finevla_runtime.recording.unfinished_bag import close_unfinished, is_finished
from tests.ros.conftest import StartNode
from tests.ros.peer import Peer

JOINTS, CAMERA, STATUS, EPISODE = (
    "/puppet/joint_left",
    "/camera_f/color/image_raw",
    "/finevla/status",
    "/finevla/episode",
)
# Relative names, as a user in a namespace would give them.
TOPICS = [JOINTS, CAMERA, "finevla/status", "finevla/episode"]


def joint_state(number: int) -> JointState:
    message = JointState(name=[f"joint{i}" for i in range(7)], position=[float(number)] * 7)
    message.header.stamp.sec = number
    message.header.frame_id = "x" * (number % 5)
    return message


def picture() -> Image:
    pixels = np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8)
    return Image(height=480, width=640, encoding="rgb8", step=640 * 3, data=array.array("B", pixels.tobytes()))


class Talker:
    """Says something on every topic at each call."""

    def __init__(self, peer: Peer) -> None:
        self.said = 0
        # Deep enough that a busy machine loses nothing of what is counted below.
        self._joints = peer.node.create_publisher(JointState, JOINTS, profile(100))
        self._camera = peer.node.create_publisher(Image, CAMERA, SENSOR)
        self._status = peer.node.create_publisher(ControllerStatus, STATUS, profile(100))
        self._episode = peer.node.create_publisher(Episode, EPISODE, STATE)
        self._episode.publish(Episode(state=Episode.RUN, instruction="stack the blocks", origin_ns=-5))

    def __call__(self) -> None:
        self.said += 1
        self._joints.publish(joint_state(self.said))
        self._camera.publish(picture())
        self._status.publish(ControllerStatus(state="following", reasons=["a", "bc"], command=[0.5] * 14))

    def is_heard(self) -> bool:
        publishers = (self._joints, self._camera, self._status, self._episode)
        return all(publisher.get_subscription_count() for publisher in publishers)


class Recorded:
    """How many messages of a topic the recorder says it has written."""

    def __init__(self, peer: Peer) -> None:
        self._diagnostics = peer.heard(DiagnosticArray, "/diagnostics")

    def messages(self, topic: str = JOINTS) -> int:
        values = {pair.key: pair.value for array in self._diagnostics[-1:] for pair in array.status[0].values}
        return int(values.get(f"messages {topic}", 0))


def test_what_was_said_on_the_topics_reads_back_without_ros(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    talker, recorded = Talker(peer), Recorded(peer)
    start_node("recorder", parameters={"folder": str(tmp_path / "bags"), "topics": TOPICS, "least_free_mib": 1})
    peer.until(talker.is_heard, "the recorder's subscriptions")
    started = peer.call(StartRecording, "finevla/recorder/start", name="trial-1")
    assert (started.ok, started.path) == (True, str(tmp_path / "bags/trial-1")), started.reason
    peer.until(lambda: talker.said == 30, "thirty rounds", each=talker)
    for topic, count in ((JOINTS, 30), (STATUS, 30), (EPISODE, 1)):
        peer.until(lambda topic=topic, count=count: recorded.messages(topic) == count, f"{topic} in the bag")
    stopped = peer.call(Trigger, "finevla/recorder/stop")
    assert stopped.success, stopped.message

    assert is_finished(tmp_path / "bags/trial-1")
    messages: dict[str, list[object]] = {}
    with AnyReader([tmp_path / "bags/trial-1"]) as reader:
        for connection, _stamp, raw in reader.messages():
            messages.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
        reliable = {c.topic: c.ext.offered_qos_profiles[0].reliability.name for c in reader.connections}
    assert reliable[JOINTS] == "RELIABLE"
    assert reliable[CAMERA] == "BEST_EFFORT"
    assert [message.header.stamp.sec for message in messages[JOINTS]] == list(range(1, 31))
    for message in messages[JOINTS]:
        assert message.position.tolist() == [float(message.header.stamp.sec)] * 7
        assert message.header.frame_id == "x" * (message.header.stamp.sec % 5)
    # Best effort promises no picture that a busy machine could not take.
    assert all(np.array_equal(message.data, np.asarray(picture().data)) for message in messages[CAMERA])
    assert [message.reasons for message in messages[STATUS]] == [["a", "bc"]] * 30
    # The episode was announced before the recording began.
    assert [message.instruction for message in messages[EPISODE]] == ["stack the blocks"]


def test_raw_messages_have_the_size_of_the_wire(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    talker, recorded = Talker(peer), Recorded(peer)
    start_node("recorder", parameters={"folder": str(tmp_path), "topics": [JOINTS], "least_free_mib": 1})
    peer.until(lambda: peer.node.count_subscribers(JOINTS), "the recorder's subscription")
    peer.call(StartRecording, "finevla/recorder/start", name="sizes")
    peer.until(lambda: talker.said == 10, "ten rounds", each=talker)
    peer.until(lambda: recorded.messages() == 10, "ten messages in the bag")
    peer.call(Trigger, "finevla/recorder/stop")
    with AnyReader([tmp_path / "sizes"]) as reader:
        raw = [bytes(message) for _, _, message in reader.messages()]
        kind = "sensor_msgs/msg/JointState"
        again = [bytes(reader.typestore.serialize_cdr(reader.deserialize(m, kind), kind)) for m in raw]
    assert raw == again


def test_a_publisher_that_offers_less_is_heard_as_well(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    recorded = Recorded(peer)
    reliable = peer.node.create_publisher(JointState, JOINTS, profile(100))
    start_node("recorder", parameters={"folder": str(tmp_path), "topics": [JOINTS], "least_free_mib": 1})
    peer.until(reliable.get_subscription_count, "the recorder's subscription")
    assert peer.call(StartRecording, "finevla/recorder/start", name="trial").ok
    reliable.publish(joint_state(1))
    peer.until(lambda: recorded.messages() == 1, "the first message in the bag")
    best_effort = peer.node.create_publisher(JointState, JOINTS, SENSOR)
    peer.until(best_effort.get_subscription_count, "a subscription that fits both")
    peer.until(lambda: recorded.messages() > 1, "another one", each=lambda: best_effort.publish(joint_state(2)))


def test_a_disk_that_fills_up_ends_the_recording_and_says_so(peer: Peer, tmp_path: Path) -> None:
    free = [100 * 2**20]
    node = Recorder(
        context=peer.context,
        parameters=[
            Parameter("folder", value=str(tmp_path)),
            Parameter("topics", value=[JOINTS]),
            Parameter("least_free_mib", value=10),
        ],
        free_bytes=lambda _folder: free[0],
    )
    peer.add(node)
    states, diagnostics = (
        peer.heard(String, "finevla/recorder/state", STATE),
        peer.heard(DiagnosticArray, "/diagnostics"),
    )
    talker, recorded = Talker(peer), Recorded(peer)
    peer.until(lambda: peer.node.count_subscribers(JOINTS), "the recorder's subscription")
    assert peer.call(StartRecording, "finevla/recorder/start", name="trial").ok
    peer.until(recorded.messages, "messages in the bag", each=talker)
    free[0] = 9 * 2**20
    peer.until(lambda: states and states[-1].data.startswith("full: FV-REC-032"), "the state full")
    assert is_finished(tmp_path / "trial")
    with Reader(tmp_path / "trial") as reader:
        assert reader.message_count > 0
    errors = [DiagnosticStatus.ERROR]
    peer.until(lambda: [s.level for a in diagnostics[-1:] for s in a.status] == errors, "an error in the diagnostics")

    refused = peer.call(StartRecording, "finevla/recorder/start", name="next")
    assert (refused.ok, refused.code) == (False, "FV-REC-031")
    assert not (tmp_path / "next").exists()
    free[0] = 100 * 2**20
    assert peer.call(StartRecording, "finevla/recorder/start", name="next").ok
    node.stopping(hurry=False)
    node.destroy_node()


def test_a_disk_that_refuses_ends_the_recording_with_what_it_took(
    peer: Peer, start_node: StartNode, tmp_path: Path
) -> None:
    talker = Talker(peer)
    states = peer.heard(String, "finevla/recorder/state", STATE)
    parameters = {"folder": str(tmp_path), "topics": [CAMERA], "least_free_mib": 1}
    start_node("recorder", parameters=parameters, largest_file=6 * 2**20)
    peer.until(lambda: peer.node.count_subscribers(CAMERA), "the recorder's subscription")
    assert peer.call(StartRecording, "finevla/recorder/start", name="trial").ok
    peer.until(lambda: states[-1].data.startswith("full: FV-REC-032"), "the state full", each=talker)
    assert not is_finished(tmp_path / "trial")
    with Reader(tmp_path / "trial/trial.mcap") as reader:
        assert reader.message_count >= 3


def test_sigterm_closes_the_bag(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    node = start_node("recorder", parameters={"folder": str(tmp_path), "topics": [JOINTS], "least_free_mib": 1})
    assert peer.call(StartRecording, "finevla/recorder/start", name="trial").ok
    node.signal(signal.SIGTERM)
    assert node.wait() == 0, node.output()
    assert is_finished(tmp_path / "trial")


def test_a_killed_recorder_leaves_a_bag_that_can_be_closed(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    talker = Talker(peer)
    node = start_node("recorder", parameters={"folder": str(tmp_path), "topics": [CAMERA], "least_free_mib": 1})
    peer.until(lambda: peer.node.count_subscribers(CAMERA), "the recorder's subscription")
    peer.call(StartRecording, "finevla/recorder/start", name="trial")
    path = tmp_path / "trial/trial.mcap"
    peer.until(lambda: path.stat().st_size > 2**21, "two pictures in the file", each=talker)
    node.signal(signal.SIGKILL)
    node.wait()
    assert not is_finished(tmp_path / "trial")
    assert close_unfinished(tmp_path / "trial") == path
    with Reader(path) as reader:
        assert reader.message_count >= 2


def test_recordings_are_refused_by_code(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    start_node("recorder", parameters={"folder": str(tmp_path), "topics": [JOINTS], "least_free_mib": 1})
    assert "FV-ROS-011" in peer.call(Trigger, "finevla/recorder/stop").message
    for name in ("", "../up", "a/b", ".hidden"):
        assert peer.call(StartRecording, "finevla/recorder/start", name=name).code == "FV-ROS-012"
    assert peer.call(StartRecording, "finevla/recorder/start", name="one").ok
    assert peer.call(StartRecording, "finevla/recorder/start", name="two").code == "FV-ROS-010"
    assert peer.call(Trigger, "finevla/recorder/stop").success
    assert peer.call(StartRecording, "finevla/recorder/start", name="one").code == "FV-REC-030"


def test_a_parameter_that_nobody_reads_is_refused_with_the_nearest_one(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node("recorder", parameters={"folder": str(tmp_path), "topics": [JOINTS], "least_free": 1})
    assert node.wait() == 1
    assert "FV-ROS-001" in node.output()
    assert "Did you mean 'least_free_mib'" in node.output()


def test_a_missing_parameter_and_one_of_another_type_are_refused(start_node: StartNode, tmp_path: Path) -> None:
    missing = start_node("recorder", parameters={"folder": str(tmp_path)})
    assert missing.wait() == 1
    assert "FV-ROS-002: recorder: parameter topics is missing, wanted a list of texts" in missing.output()
    wrong = start_node("recorder", parameters={"folder": str(tmp_path), "topics": JOINTS})
    assert wrong.wait() == 1
    assert "FV-ROS-003" in wrong.output()
