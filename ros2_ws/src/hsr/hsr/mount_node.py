"""Tells /tf_static where a camera is mounted: `/human/camera_mount`.

python -m hsr.mount_node --ros-args -p mount:="0 0 1.4 0 15 0"      x y z [m] roll pitch yaw [deg]
"""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from .camera_mount import CameraMount
from .node_parameters import MOUNT
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .signals import run_node


class MountNode(Node):
    """See the module."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("camera_mount", namespace="human", **kwargs)
        declare_fixed(self, MOUNT)
        refuse_unknown(self)
        mount, world, frame = (self.get_parameter(name).value for name, *_ in MOUNT)
        self._mount = CameraMount(self, mount, world, frame)
        self.get_logger().info(f"{frame} is at {mount} in {world!r}")


def main() -> None:
    run_node("camera_mount", MountNode)


if __name__ == "__main__":
    main()
