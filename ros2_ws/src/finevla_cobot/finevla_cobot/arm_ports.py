"""One arm's topics as the commander uses them: feedback, status and firmware limits in, commands out."""

from __future__ import annotations

from array import array

from builtin_interfaces.msg import Duration, Time
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from finevla_cobot.first_messages import Source
from finevla_cobot.message_types import message_class
from finevla_cobot.qos import COMMAND, SENSOR, fitting
from finevla_runtime.contracts.clock import SteadyClock
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.motion.setpoint import Setpoint
from finevla_runtime.robot.arm_status import find_status_table
from finevla_runtime.robot.controller import Controller
from finevla_runtime.robot.driver_units import arm_rows_to_driver, from_driver
from finevla_runtime.robot.firmware_limits import FirmwareLimits, require_firmware_limits
from finevla_runtime.robot.topic_profile import ARMS, JOINT_TRAJECTORY, TopicProfile

# A driver that publishes its limits once is there within this time.
DISCOVERY_S = 2.0
POLL_S = 0.05
# Drivers say how their arm is many times a second.
STATUS_SILENCE_S = 1.0


class ArmPort:
    """The topics of one arm of a profile, bound to a controller."""

    def __init__(
        self,
        node: Node,
        profile: TopicProfile,
        embodiment: Embodiment,
        arm: str,
        controller: Controller,
        listens: bool,
    ) -> None:
        """Subscribe and publish.

        Args:
            node: owns the topics.
            profile: names and units.
            embodiment: body whose limits the firmware must allow.
            arm: left or right.
            controller: gets what comes.
            listens: whether the arm's own status is wanted.

        Raises:
            SetupError: FV-ROS-004 when the status message's package is not installed, FV-ROB-003 for its table.
            BodyError: FV-ROB-008 when the driver does not publish the firmware limits that the profile names.
        """
        self._profile, self._embodiment, self._arm = profile, embodiment, arm
        self._controller, self._node = controller, node
        self._index = ARMS.index(arm)
        self._topics = profile.arm(arm)
        self._steady = SteadyClock()
        self._feedback_fault = self._status_fault = self._limits_fault = ""
        self._status_ns = 0
        self._feedback_heard = self._status_heard = self._limits_heard = False
        is_trajectory = profile.output == JOINT_TRAJECTORY
        self._publisher = node.create_publisher(
            JointTrajectory if is_trajectory else JointState, self._topics.command.topic, COMMAND
        )
        self._send = self._send_trajectory if is_trajectory else self._send_state
        self.sources = [Source(JointState, self._topics.feedback.topic, self._on_feedback, SENSOR)]
        self._table = None
        if listens and self._topics.status is not None:
            self._table = find_status_table(self._topics.status.table)
            kind = message_class(self._topics.status.message)
            self.sources.append(Source(kind, self._topics.status.topic, self._on_status, SENSOR))
        if self._topics.firmware_limits is not None:
            self.sources.append(self._limits_source(self._topics.firmware_limits))
        self._subscriptions = [
            node.create_subscription(source.kind, source.topic, source.heard, source.qos) for source in self.sources
        ]

    def send(self, setpoint: Setpoint, rows: slice, stamp: Time) -> None:
        """Publish this arm's part of a setpoint."""
        self._send(setpoint, rows, stamp)

    def not_ready(self) -> str | None:
        """Return what is missing before the arm may be commanded."""
        if not self._feedback_heard:
            return f"FV-SAF-008: no joint position has come from the {self._arm} arm on {self._topics.feedback.topic}."
        if self._topics.firmware_limits is not None:
            if not self._limits_heard:
                return f"FV-ROB-008: the {self._arm} arm has not said its firmware limits."
            if self._limits_fault:
                return self._limits_fault
        if self._table is not None and not self._status_heard and self._topics.status is not None:
            return f"FV-ROB-009: the {self._arm} arm has not said how it is on {self._topics.status.topic}."
        return None

    @property
    def hears_status(self) -> bool:
        """Return whether the arm's own status is listened to."""
        return self._table is not None

    def watch(self) -> None:
        """Take an arm that no longer says how it is for one that is not well."""
        silent_s = (self._steady.now_ns() - self._status_ns) / 1e9
        if self._table is not None and self._status_heard and silent_s > STATUS_SILENCE_S:
            self._status_fault = f"it has not said how it is for {silent_s:.1f} s"
            self._report()

    def close(self) -> None:
        """Give the topics back."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)

    def _limits_source(self, topic: str) -> Source:
        """Listen as the publisher offers: limits may be published once only, and kept for late joiners."""
        waited_s = 0.0
        while not (publishers := self._node.get_publishers_info_by_topic(topic)):
            if waited_s >= DISCOVERY_S:
                raise BodyError(
                    "FV-ROB-008",
                    f"nobody publishes the firmware limits of the {self._arm} arm on {topic}; start the driver first, "
                    "or take the line out of the topic profile.",
                )
            self._steady.sleep_s(POLL_S)
            waited_s += POLL_S
        return Source(Float64MultiArray, topic, self._on_limits, fitting(publishers, 1))

    def _on_feedback(self, message: JointState) -> None:
        try:
            row = from_driver(self._profile, self._arm, message.name, message.position)
        except BodyError as error:
            self._feedback_fault = str(error)
        else:
            self._feedback_fault, self._feedback_heard = "", True
            self._controller.feedback(self._index, row, self._steady.now_ns())
        self._report()

    def _on_status(self, message: object) -> None:
        assert self._table is not None  # noqa: S101  # Without a table nothing is subscribed.
        fields = message.get_fields_and_field_types()  # type: ignore[attr-defined]
        values = {name: getattr(message, name) for name in fields}
        numbers = {name: value for name, value in values.items() if isinstance(value, (bool, int))}
        self._status_heard, self._status_ns = True, self._steady.now_ns()
        self._status_fault = self._table.read(numbers).fault
        self._report()

    def _on_limits(self, message: Float64MultiArray) -> None:
        self._limits_heard, self._limits_fault = True, ""
        try:
            require_firmware_limits(self._embodiment, self._arm, FirmwareLimits.from_values(message.data))
        except BodyError as error:
            self._limits_fault = str(error)

    def _report(self) -> None:
        faults = [fault for fault in (self._feedback_fault, self._status_fault, self._limits_fault) if fault]
        self._controller.arm_fault(self._index, "; ".join(faults))

    def _send_state(self, setpoint: Setpoint, rows: slice, stamp: Time) -> None:
        command = self._topics.command
        message = JointState(name=list(command.joints))
        message.header.stamp = stamp
        message.position = array("d", arm_rows_to_driver(self._profile, self._arm, setpoint.position[rows]))
        message.velocity = array("d", command.velocity)
        message.effort = array("d", command.effort)
        self._publisher.publish(message)

    def _send_trajectory(self, setpoint: Setpoint, rows: slice, stamp: Time) -> None:
        """Publish a trajectory of one point, due one tick from now, which replaces the one before."""
        point = JointTrajectoryPoint()
        point.positions = array("d", arm_rows_to_driver(self._profile, self._arm, setpoint.position[rows]))
        point.time_from_start = Duration(nanosec=round(self._controller.lateness.tick_s * 1e9))
        message = JointTrajectory(joint_names=list(self._topics.command.joints), points=[point])
        message.header.stamp = stamp
        self._publisher.publish(message)
