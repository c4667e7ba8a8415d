"""Where a camera is mounted that no TF tells of: a static transform from a level world to it.

    mount = "0 0 1.4 0 15 0"      x y z [m], roll pitch yaw [deg]: 1.4 m up, looking down by 15 degrees

The axes are those of a body (REP-103): x where the camera looks, y to its left, z up, in a world whose z is up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from scipy.spatial.transform import Rotation

from hsr_core.errors import ConfigError
from hsr_core.types import Array

from . import qos
from .stamps import header
from .tf_output import is_available

WORLD = "world"
CAMERA = "camera_color_optical_frame"
OPTICAL = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""R_body_optical of REP-103: optical axes are x right, y down, z forward."""
LEVEL = {"clip": "0 0 1.73 0 0 0", "synthetic": "0 0 1 0 0 0"}
"""Mounts of our own sources: level, as the clip's calibration takes its camera, and about as high over the ground as
the person's feet are below it."""
FORM = "six numbers: x y z [m] roll pitch yaw [deg], as in 0 0 1.4 0 15 0"


def parse_mount(text: str, frame: str = CAMERA) -> Array:
    """Return x, y, z, qx, qy, qz, qw of T_world_frame.

    Args:
        text: `FORM`.
        frame: Of the camera; one whose name ends with `optical_frame` has optical axes, another those of a body.

    Raises:
        ConfigError: Not six finite numbers.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise ConfigError(f"a camera's mount is {FORM}; not {text!r}")
    rotation = Rotation.from_euler("ZYX", numbers[:2:-1], degrees=True)
    if frame.endswith("optical_frame"):
        rotation = rotation * OPTICAL
    return np.array([*numbers[:3], *rotation.as_quat()])


def mount_of(source: str, mount: str, world_frame: str) -> tuple[str, str]:
    """Return (mount, world frame) for what was given; an empty mount: TF tells.

    A robot's commands need a world whose z is up: a camera without one is refused, not taken as level.

    Raises:
        ConfigError: Nothing says where the camera is, or the mount is no pose.
    """
    mount = mount or ("" if world_frame else LEVEL.get(source, ""))
    if not mount and not world_frame:
        raise ConfigError(
            "where is the camera? Without a world there is no command: give its mount "
            f"({FORM}; 0 0 1.4 0 0 0 is level, 1.4 m up), or world_frame where TF leads to the camera"
        )
    if mount:
        parse_mount(mount)
    return mount, world_frame or WORLD


class CameraMount:
    """Publishes the transform once, for everybody who comes.

    Raises:
        ConfigError: The mount is no pose, or tf2_msgs is not installed.
    """

    def __init__(self, node: Any, mount: str, world_frame: str = WORLD, frame: str = CAMERA) -> None:
        pose = parse_mount(mount, frame).tolist()
        if not is_available():
            raise ConfigError("a camera's mount needs tf2_msgs: apt install ros-$ROS_DISTRO-tf2-msgs, or make setup")
        from tf2_msgs.msg import TFMessage

        transform = Transform(
            translation=Vector3(**dict(zip("xyz", pose[:3], strict=True))),
            rotation=Quaternion(**dict(zip("xyzw", pose[3:], strict=True))),
        )
        stamped = TransformStamped(
            header=header(node.get_clock().now().nanoseconds, world_frame), child_frame_id=frame, transform=transform
        )
        self._publisher = node.create_publisher(TFMessage, "/tf_static", qos.tf_static())
        self._publisher.publish(TFMessage(transforms=[stamped]))
