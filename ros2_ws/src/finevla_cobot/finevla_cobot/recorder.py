"""Records topics into MCAP bags, one per trial, as the bytes that came over the wire."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import String
from std_srvs.srv import Trigger

from finevla_cobot.diagnostics import Diagnostics, Level
from finevla_cobot.message_types import message_class, message_definition
from finevla_cobot.parameters import read_parameters
from finevla_cobot.qos import STATE, fitting
from finevla_cobot.spin import STEADY, run
from finevla_interfaces.srv import StartRecording
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.recording.bag import BagTopic, BagWriter, FreeBytes, TopicQos, free_bytes_on_disk
from finevla_runtime.recording.message_types import MessageTypes

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# A quarter of a second of joint feedback, or a second and a half of pictures.
DEPTH = 50
DISCOVERY_S = 0.25
UPKEEP_S = 1.0


@dataclass(frozen=True)
class RecorderSettings:
    """Parameters of the recorder.

    Attributes:
        folder: folder that holds the bags; it is made.
        topics: topics to record; relative names are in the node's namespace.
        least_free_mib: the disk keeps this much; recording stops before.
    """

    folder: str
    topics: tuple[str, ...]
    least_free_mib: int = 2048


@dataclass
class HeardTopic:
    """A topic that has a publisher, and the subscription to it.

    Attributes:
        last: the newest message where the topic keeps one for late joiners: every bag begins with it.
    """

    topic: BagTopic
    profile: QoSProfile
    subscription: Subscription
    last: bytes | None = None


class Recorder(Node):
    """Node ``recorder``; services ``finevla/recorder/start`` and ``stop``, state on ``finevla/recorder/state``."""

    def __init__(
        self,
        *,
        context: Context | None = None,
        parameters: Sequence[Parameter] = (),
        free_bytes: FreeBytes = free_bytes_on_disk,
    ) -> None:
        """Read the parameters and listen; recording begins with the service."""
        super().__init__(
            "recorder",
            context=context,
            parameter_overrides=list(parameters),
            automatically_declare_parameters_from_overrides=True,
        )
        self.settings = read_parameters(self, RecorderSettings)
        self._free_bytes = free_bytes
        self._wall = Clock(clock_type=ClockType.SYSTEM_TIME)
        self._bag: BagWriter | None = None
        self._heard: dict[str, HeardTopic] = {}
        self._types = MessageTypes(message_definition)
        self._unknown: dict[str, str] = {}
        self._wanted = tuple(self.resolve_topic_name(name) for name in self.settings.topics)
        self._diagnostics = Diagnostics(self)
        self._state_publisher = self.create_publisher(String, "finevla/recorder/state", STATE)
        self._set_state("idle")
        self.create_service(StartRecording, "finevla/recorder/start", self._start)
        self.create_service(Trigger, "finevla/recorder/stop", self._stop)
        self.create_timer(DISCOVERY_S, self._discover, clock=STEADY)
        self.create_timer(UPKEEP_S, self._upkeep, clock=STEADY)

    def stopping(self, hurry: bool) -> bool:
        """Close the bag; the process may end then."""
        del hurry
        self._close()
        return True

    def _set_state(self, state: str) -> None:
        self._state = state
        self._state_publisher.publish(String(data=state))

    def _start(self, request: StartRecording.Request, response: StartRecording.Response) -> StartRecording.Response:
        try:
            response.path = str(self._open(request.name))
            response.ok = True
        except FineVLAError as error:
            response.code, response.reason = error.code, error.message
            self.get_logger().error(str(error))
        return response

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        bag = self._bag
        if bag is None:
            response.message = f"FV-ROS-011: nothing is being recorded ({self._state})."
            return response
        response.success = self._close()
        response.message = f"{bag.folder}: {bag.messages} messages" if response.success else self._state
        return response

    def _open(self, name: str) -> Path:
        """Begin a bag; what is kept for late joiners goes into it first."""
        if self._bag is not None:
            raise SetupError("FV-ROS-010", f"{self._bag.folder} is being recorded; stop it first.")
        if not NAME.fullmatch(name):
            raise SetupError("FV-ROS-012", f"{name!r} names no bag; wanted letters, digits, '.', '_' and '-'.")
        bag = BagWriter(
            Path(self.settings.folder, name),
            least_free_bytes=self.settings.least_free_mib * 2**20,
            types=self._types,
            free_bytes=self._free_bytes,
        )
        for heard in self._heard.values():
            bag.add_topic(heard.topic)
            if heard.last is not None:
                bag.write(heard.topic.name, self._now_ns(), heard.last)
        self._bag = bag
        self._set_state("recording")
        return bag.folder

    def _close(self) -> bool:
        """Close the bag if there is one; say whether it is complete."""
        bag, self._bag = self._bag, None
        if bag is None:
            return True
        try:
            bag.close()
        except FineVLAError as error:
            self._broke_off(error)
            return False
        self._set_state("idle")
        return True

    def _broke_off(self, error: FineVLAError) -> None:
        """Recording ended by itself; the writer has closed the bag."""
        self._bag = None
        self._set_state(f"full: {error}")
        self.get_logger().error(str(error))

    def _now_ns(self) -> int:
        return int(self._wall.now().nanoseconds)

    def _received(self, name: str, message: bytes) -> None:
        heard = self._heard[name]
        if heard.topic.qos.is_transient_local:
            heard.last = message
        if self._bag is None:
            return
        try:
            self._bag.write(name, self._now_ns(), message)
        except FineVLAError as error:
            self._broke_off(error)

    def _discover(self) -> None:
        """Subscribe where a publisher appeared, and anew where the publishers offer something else by now."""
        for name in self._wanted:
            publishers = self.get_publishers_info_by_topic(name)
            if not publishers:
                continue
            wanted = fitting(publishers, DEPTH)
            heard = self._heard.get(name)
            if heard is None and name not in self._unknown:
                self._listen(BagTopic(name, publishers[0].topic_type, topic_qos(wanted)), wanted)
            elif heard is not None and heard.profile != wanted:
                self.destroy_subscription(heard.subscription)
                heard.subscription, heard.profile = self._subscribe(heard.topic, wanted), wanted

    def _listen(self, topic: BagTopic, wanted: QoSProfile) -> None:
        """Begin to hear a topic; one whose messages are not installed here is reported and left out."""
        try:
            self._types.learn(topic.type_name)
            self._heard[topic.name] = HeardTopic(topic, wanted, self._subscribe(topic, wanted))
        except FineVLAError as error:
            self._unknown[topic.name] = str(error)
            self.get_logger().error(f"{topic.name} is not recorded: {error}")
            return
        if self._bag is not None:
            self._bag.add_topic(topic)

    def _subscribe(self, topic: BagTopic, wanted: QoSProfile) -> Subscription:
        received = partial(self._received, topic.name)
        return self.create_subscription(message_class(topic.type_name), topic.name, received, wanted, raw=True)

    def _upkeep(self) -> None:
        """Secure what was written, watch the disk and say how things are."""
        if self._bag is not None:
            try:
                self._bag.flush()
                self._bag.check_room()
            except FineVLAError as error:
                self._broke_off(error)
        silent = [name for name in self._wanted if name not in self._heard]
        free_mib = self._free_bytes(Path(self.settings.folder)) // 2**20
        is_full = self._state.startswith("full") or free_mib < self.settings.least_free_mib
        values: dict[str, object] = {
            "bag": self._bag.folder if self._bag else "",
            "free_mib": free_mib,
            "least_free_mib": self.settings.least_free_mib,
            "without_publisher": ", ".join(name for name in silent if name not in self._unknown),
            "not_recordable": "; ".join(self._unknown.values()),
        }
        counts = self._bag.counts if self._bag else {}
        values |= {f"messages {topic}": count for topic, count in counts.items()}
        level = Level.ERROR if is_full else Level.WARN if silent else Level.OK
        self._diagnostics.publish(level, self._state, values)


def topic_qos(wanted: QoSProfile) -> TopicQos:
    """Return what a bag says about the publishers that a subscription of profile ``wanted`` fits."""
    return TopicQos(
        is_reliable=wanted.reliability == ReliabilityPolicy.RELIABLE,
        is_transient_local=wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        depth=wanted.depth,
    )


def main() -> None:
    """Run the recorder until a signal ends it."""
    sys.exit(run(Recorder))


if __name__ == "__main__":
    main()
