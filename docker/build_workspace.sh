#!/usr/bin/env bash
# In a clone, on a machine with ROS 2 by apt: .venv with the library beside the system's packages, then the two ROS packages
# by the colcon of that environment, so that their scripts and messages fit its Python. Afterwards:
#   . ros2_ws/install/setup.bash && . .venv/bin/activate
#   ROS_SETUP  ROS' setup.bash; /opt/ros/$ROS_DISTRO/setup.bash unless set
#   EXTRAS     of the library (pyproject.toml)     PIP_ARGS  more options of pip     TORCH  another torch, such as torch==2.9.0
set -eo pipefail
cd "$(dirname "$0")/.."
. "${ROS_SETUP:-/opt/ros/${ROS_DISTRO}/setup.bash}"
set -u

python3 -m venv --system-site-packages .venv
. .venv/bin/activate
constraints=$(mktemp --suffix=.txt)
# ROS' wheels are not taken here, and torch may have to be another one.
grep -v -e '^ros-' ${TORCH:+-e '^torch=='} requirements/constraints.txt >"$constraints"
# shellcheck disable=SC2086  # options are words
pip install --no-cache-dir --constraint "$constraints" ${PIP_ARGS:-} setuptools wheel
# shellcheck disable=SC2086
pip install --no-cache-dir --constraint "$constraints" ${PIP_ARGS:-} --no-build-isolation ${TORCH:-} \
  --editable ".[${EXTRAS:-view}]"
rm "$constraints"
if [ "$(uname -m)" = aarch64 ]; then
  python docker/networks_for_arm64.py
fi

# `ros2` of the environment: the launch file needs the library, and what it starts then runs in the environment, too.
if [ -z "${ROS_SETUP:-}" ]; then
  printf '#!%s/bin/python\nimport sys\nfrom ros2cli.cli import main\nsys.exit(main())\n' "$VIRTUAL_ENV" >.venv/bin/ros2
  chmod +x .venv/bin/ros2
fi

cd ros2_ws
python -m colcon build --merge-install --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$VIRTUAL_ENV/bin/python"
