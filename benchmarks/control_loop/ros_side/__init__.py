"""What runs under the interpreter of ROS 2: run with scripts/ros_run.sh."""
