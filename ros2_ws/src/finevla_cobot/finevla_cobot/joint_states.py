"""The measured joints under the names of the robot's description, for RViz and Foxglove."""

from __future__ import annotations

from array import array

from rclpy.node import Node
from sensor_msgs.msg import JointState

from finevla_cobot.qos import EVENT
from finevla_runtime.contracts.action import GRIPPER_INDICES, JOINT_NAMES
from finevla_runtime.motion.setpoint import JointArray


class JointStates:
    """Publishes ``joint_states`` as robot_state_publisher wants them: hinges in rad, fingers in metres."""

    def __init__(self, node: Node, finger_travel: float) -> None:
        """Publish for ``node``; a finger moves by ``finger_travel`` metres from closed to open."""
        self._node = node
        self._publisher = node.create_publisher(JointState, "joint_states", EVENT)
        # The second finger mimics the first one in the description.
        self._names = [
            name.replace("_gripper", "_finger_a") if index in GRIPPER_INDICES else name
            for index, name in enumerate(JOINT_NAMES)
        ]
        self._scale = [finger_travel if index in GRIPPER_INDICES else 1.0 for index in range(len(JOINT_NAMES))]

    def publish(self, measured: JointArray) -> None:
        """Publish float64[14] in the project's layout."""
        message = JointState(name=self._names)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.position = array("d", measured * self._scale)
        self._publisher.publish(message)

    def close(self) -> None:
        """Give the topic back."""
        self._node.destroy_publisher(self._publisher)
