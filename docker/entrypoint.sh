#!/usr/bin/env bash
# Runs a command with ROS, the built packages and the virtual environment.
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
. "${ROS_SETUP:-/opt/ros/${ROS_DISTRO}/setup.bash}"
. "$here/ros2_ws/install/setup.bash"
. "$here/.venv/bin/activate"
exec "$@"
