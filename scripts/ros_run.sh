#!/usr/bin/env bash
# Runs a command where ROS 2, our messages and our nodes are found, for example:
#
#   scripts/ros_run.sh python -m finevla_cobot.recorder --ros-args -p folder:=out/bags
#
# Needs scripts/ros.sh once. The graph stays on this machine unless ROS_AUTOMATIC_DISCOVERY_RANGE says otherwise.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
venv="$root/.venv-ros"
if [ ! -e "$root/ros2_ws/install/local_setup.bash" ]; then echo "ros_run: run scripts/ros.sh first" >&2; exit 1; fi

# The wheels' interpreter starts itself again with their libraries; a parent of another environment must not prevent it.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
export PATH="$venv/bin:$PATH" AMENT_PREFIX_PATH="$venv" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
set +u # The workspace's own script reads variables that may not be set.
. "$root/ros2_ws/install/local_setup.bash"
set -u
exec "$@"
