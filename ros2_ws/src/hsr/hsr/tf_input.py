"""Where the camera is in the world: /tf and /tf_static, heard in a thread of its own, looked up at image stamps."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor

from hsr_core.errors import (
    BadTransform,
    ConfigError,
    ExtrapolationFuture,
    ExtrapolationPast,
    NotConnected,
    TransformError,
    TransformLoop,
    UnknownFrame,
)
from hsr_core.geometry.transform_tree import TransformTree
from hsr_core.types import FrameResult

from . import qos
from .diagnostics import Status
from .notices import Notices
from .stats import Window
from .tf_output import is_available
from .tf_wire import check_layout, decode_transforms

WARN_EVERY_S = 5.0
_REASONS = {
    UnknownFrame: "unknown frame",
    NotConnected: "not connected",
    ExtrapolationFuture: "too late",
    ExtrapolationPast: "too long ago",
    TransformLoop: "loop",
}


class WorldLookup:
    """Puts the camera's pose in the world into results. Used by the worker's thread; `status` by the executor's.

    Args:
        frame: Name of the world.
    """

    def __init__(self, tree: TransformTree, frame: str, notices: Notices) -> None:
        self.frame = frame
        self._tree, self._notices = tree, notices
        self._found = 0
        self._failed: Counter[str] = Counter()
        self._wait_ms = Window()
        self._failure, self._failed_s = "", -float("inf")

    def locate(self, result: FrameResult, began_s: float, timeout_s: float) -> FrameResult:
        """Return the result with the pose at its stamp, or as it is when that is not known.

        Args:
            began_s: When work on the image began (monotonic); waiting is over `timeout_s` after it.
        """
        now_s = time.monotonic()
        try:
            left_s = max(0.0, began_s + timeout_s - now_s)
            T_world_cam = self._tree.lookup(self.frame, result.frame_id, result.stamp_ns, left_s)
        except TransformError as error:
            self._fail(error)
            return result
        finally:
            self._wait_ms.add((time.monotonic() - now_s) * 1e3)
        self._found += 1
        return dataclasses.replace(result, world_frame=self.frame, T_world_cam=T_world_cam)

    def status(self) -> Status:
        """Return `perception: world frame`."""
        p50, p99 = self._wait_ms.percentiles(50, 99)
        status = Status(
            "world frame",
            {"frame": self.frame, "found": self._found, "failed": self._failed.total(), **dict(self._failed),
             "wait p50/p99 [ms]": f"{p50:.1f}/{p99:.1f}"},
        )  # fmt: skip
        if time.monotonic() - self._failed_s < WARN_EVERY_S:
            status.warn(f"the camera's pose in {self.frame!r} is not known: {self._failure}")
        return status

    def _fail(self, error: TransformError) -> None:
        self._failed[_REASONS.get(type(error), "other")] += 1
        self._failure, self._failed_s = str(error), time.monotonic()
        self._notices.warn(
            "world frame",
            f"the camera's pose in {self.frame!r} is not known at the image's stamp: {error}",
            every_s=WARN_EVERY_S,
        )


class TfInput:
    """Listens to /tf and /tf_static as long as it is open.

    Args:
        node: Its name, namespace, context and remappings count. It does not get the messages: they would come between
            the images and their worker.
        world_frame: Of the lookups.

    Attributes:
        lookup: Of the camera in the world.
    """

    def __init__(self, node: Any, world_frame: str, notices: Notices) -> None:
        from tf2_msgs.msg import TFMessage

        self._tree, self._notices = TransformTree(), notices
        self.lookup = WorldLookup(self._tree, world_frame, notices)
        self._node = rclpy.create_node(
            f"{node.get_name()}_tf", namespace=node.get_namespace(), context=node.context, use_global_arguments=False,
            enable_rosout=False, start_parameter_services=False,
        )  # fmt: skip
        for topic, static, profile in (("/tf", False, qos.tf()), ("/tf_static", True, qos.tf_static())):
            name = node.resolve_topic_name(topic)
            self._node.create_subscription(TFMessage, name, self._store(static), profile, raw=True)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._closing = False
        self._end = self._node.create_guard_condition(lambda: None)  # one with a callback: else the spin waits on
        self._thread = threading.Thread(target=self._spin, name="tf", daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Forget what moves: time went back."""
        self._tree.clear()

    def close(self) -> None:
        self._closing = True
        self._end.trigger()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _store(self, static: bool) -> Callable[[bytes], None]:
        def store(data: bytes) -> None:
            try:
                for parent, child, stamp_ns, pose in decode_transforms(data):
                    try:
                        self._tree.put(parent, child, stamp_ns, pose, static=static)
                    except BadTransform as error:
                        self._notices.warn("bad transform", f"transform ignored: {error}", every_s=WARN_EVERY_S)
            except ValueError as error:
                if data:  # now and then a raw take of rclpy gives nothing
                    self._notices.warn("bad tf", f"TF message ignored: {error}", every_s=WARN_EVERY_S)

        return store

    def _spin(self) -> None:
        while not self._closing and self._node.context.ok():
            try:
                self._executor.spin_once(timeout_sec=1.0)
            except (ExternalShutdownException, ShutdownException):
                return
            except Exception as error:  # a race in the graph must not end the listening
                self._notices.error("tf", f"listening to TF failed: {error}", every_s=10.0)


def check_world_frame(world_frame: str) -> None:
    """Refuse a world frame where TF cannot be read.

    Raises:
        ConfigError: What is missing.
    """
    if not world_frame:
        return
    if not is_available():
        raise ConfigError(
            f"world_frame {world_frame!r} needs tf2_msgs: apt install ros-$ROS_DISTRO-tf2-msgs, or make setup; "
            'or set world_frame to ""'
        )
    problem = check_layout()
    if problem:
        raise ConfigError(f'TF cannot be read here ({problem}); set world_frame to ""')
