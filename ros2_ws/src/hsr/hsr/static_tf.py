"""Where the cameras of one device are to each other: /tf_static, which comes once."""

from __future__ import annotations

from typing import Any

from hsr_core.errors import TransformError
from hsr_core.geometry.transform_tree import TransformTree
from hsr_core.types import Array

from . import qos
from .notices import Notices
from .tf_output import is_available
from .tf_wire import decode_transforms

WARN_EVERY_S = 30.0


class StaticFrames:
    """Fed by the executor's thread, asked by the worker's. Without tf2_msgs it knows nothing, and says so."""

    def __init__(self, node: Any, notices: Notices) -> None:
        self._node, self._notices = node, notices
        self._tree = TransformTree()
        self._subscription: Any = None
        if not is_available():
            notices.warn("no tf", "depth.register needs tf2_msgs: apt install ros-$ROS_DISTRO-tf2-msgs, or make setup")
            return
        from tf2_msgs.msg import TFMessage

        self._subscription = node.create_subscription(TFMessage, "/tf_static", self._store, qos.tf_static(), raw=True)

    def lookup(self, target: str, source: str) -> Array | None:
        """Return T_target_source (4, 4) [m]; None while it is not known."""
        try:
            return self._tree.lookup(target, source, 0)
        except TransformError as error:
            text = f"depth.register: no static transform from {source!r} to {target!r}: {error}"
            self._notices.warn(("no extrinsics", source, target), text, every_s=WARN_EVERY_S)
            return None

    def close(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _store(self, data: bytes) -> None:
        try:
            for parent, child, stamp_ns, pose in decode_transforms(data):
                self._tree.put(parent, child, stamp_ns, pose, static=True)
        except (ValueError, TransformError) as error:
            if data:  # now and then a raw take of rclpy gives nothing
                self._notices.warn("bad static tf", f"static transform ignored: {error}", every_s=WARN_EVERY_S)
