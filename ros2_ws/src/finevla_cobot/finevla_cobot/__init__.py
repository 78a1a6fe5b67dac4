"""ROS 2 nodes around the core: parameters, messages and timers; the thinking is in ``finevla_runtime``."""
