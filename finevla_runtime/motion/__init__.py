"""From chunks of rows to commands at the control rate: pure steps on an injected clock, without ROS and threads."""
