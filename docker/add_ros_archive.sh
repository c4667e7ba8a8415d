#!/usr/bin/env bash
# Makes ROS' package archive known to apt, by the package that the ROS project publishes for it.
#   ROS_APT_SOURCE         version of that package
#   ROS_APT_SOURCE_SHA256  of its file for this Ubuntu
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends ca-certificates curl
. /etc/os-release
file="ros2-apt-source_${ROS_APT_SOURCE}.${VERSION_CODENAME}_all.deb"
curl -fsSL -o /tmp/ros2-apt-source.deb \
  "https://github.com/ros-infrastructure/ros-apt-source/releases/download/${ROS_APT_SOURCE}/${file}"
echo "${ROS_APT_SOURCE_SHA256}  /tmp/ros2-apt-source.deb" | sha256sum --check --strict
apt-get install -y /tmp/ros2-apt-source.deb
rm -rf /tmp/ros2-apt-source.deb /var/lib/apt/lists/*
