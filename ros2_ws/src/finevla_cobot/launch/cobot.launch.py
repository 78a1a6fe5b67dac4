"""The nodes of a real robot; drivers of arms and cameras are started elsewhere.

Nothing is decided here: parameters are in config/, and `finevla robot activate` brings the lifecycle nodes to active in
order, waiting for drivers and the policy server. `finevla robot up` does the same without ros2 launch.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = "finevla_cobot"


def generate_launch_description():
    """Return the description; `ros2 launch finevla_cobot cobot.launch.py --show-args` lists the arguments."""
    config = LaunchConfiguration("config")
    namespace = LaunchConfiguration("namespace")
    topics = {"topic_profile": LaunchConfiguration("topic_profile")}
    server = {"server": LaunchConfiguration("server")}
    shipped = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "cobot_magic.yaml"])
    common = {"package": PACKAGE, "namespace": namespace, "output": "screen"}
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", default_value=shipped, description="Parameter file of all nodes."),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes."),
            DeclareLaunchArgument(
                "topic_profile", default_value="agilex_ros1_names", description="In hw_configs/topics."
            ),
            DeclareLaunchArgument(
                "server", default_value="127.0.0.1:8500", description="Address of the policy server."
            ),
            Node(executable="recorder", name="recorder", parameters=[config], **common),
            LifecycleNode(executable="arm_commander", name="arm_commander", parameters=[config, topics], **common),
            LifecycleNode(
                executable="policy_client", name="policy_client", parameters=[config, topics, server], **common
            ),
            Node(executable="session", name="session", parameters=[config], **common),
            ExecuteProcess(cmd=["finevla", "robot", "activate", "--namespace", namespace], output="screen"),
        ]
    )
