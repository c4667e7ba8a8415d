#!/usr/bin/env bash
# add_user.sh UID GID: the user that everything runs as. Shared memory is only shared between processes of one user: give
# the ids of whoever runs the other ROS processes.
set -euo pipefail
if [ "$1" = 0 ]; then
  echo "add_user.sh: UID=0: nothing here needs root; build as a user, or give UID and GID" >&2
  exit 1
fi
if present=$(getent passwd "$1" | cut -d: -f1) && [ -n "$present" ]; then
  userdel --remove "$present" # Ubuntu's images have a user 1000
fi
getent group "$2" >/dev/null || groupadd --gid "$2" hsr
useradd --no-log-init --uid "$1" --gid "$2" --create-home --home-dir /home/hsr --shell /bin/bash hsr
# Volumes take the owner of the folder that they are mounted on for the first time.
install -d -o "$1" -g "$2" /hsr /home/hsr/.cache /home/hsr/.cache/hsr /home/hsr/.local /home/hsr/.local/share \
  /home/hsr/.local/share/hsr
