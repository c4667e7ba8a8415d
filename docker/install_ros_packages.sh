#!/usr/bin/env bash
# What apt brings: ROS, what package.xml names, a compiler, and what the optional parts need.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends \
  "ros-${ROS_DISTRO}-ros-base" "ros-${ROS_DISTRO}-rmw-fastrtps-cpp" "ros-${ROS_DISTRO}-rosbag2-storage-mcap" \
  "ros-${ROS_DISTRO}-hri-msgs" \
  python3-colcon-common-extensions python3-venv python3-dev python3-pip g++ make \
  python3-numpy python3-opencv python3-scipy python3-yaml \
  libgl1 libglib2.0-0 libegl1 libgles2
rm -rf /var/lib/apt/lists/*
