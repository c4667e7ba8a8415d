"""The web view as a node: `/human/view`. It publishes nothing, and subscribes only while somebody looks.

The mesh is taken from `mesh_compact` and the triangles from `body_model`, so this process needs neither the body model
nor torch. With `robot` the robot that follows stands beside the people. It prints `view: http://...` when the page can
be opened.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads spin; set before numpy is imported

import cv2
import numpy as np
from hsr_msgs.msg import BodyModel, FrameStats, HumanArray, HumanMesh
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import CompressedImage, Image

from hsr_core.config import SmoothingSettings
from hsr_core.errors import BadFrame, HsrError
from hsr_core.viz.web import WebView

from . import convert, qos
from .node_parameters import VIEW
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .signals import ros, spin_until
from .throttled import Throttled
from .view_feed import ViewFeed
from .view_robot import RobotFeed, is_local

CAMERA_HZ = 5.0
"""How often a raw image is taken: each costs several milliseconds to copy and encode."""

_SMOOTHING = {
    "enabled": "smoothing.enabled",
    "min_cutoff_hz": "smoothing.min_cutoff_hz",
    "beta": "smoothing.beta",
}
_PEOPLE_MAX = 8


class ViewNode(Node):
    """See the module."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("view", namespace="human", **kwargs)
        declare_fixed(self, VIEW)
        refuse_unknown(self)
        host, port, rate_hz, self._picture, perception, robot, mode = (self.get_parameter(row[0]).value for row in VIEW)
        self._feed = ViewFeed()
        self._perception = AsyncParameterClient(self, perception)
        self._robot = RobotFeed(self, robot, mode, rate_hz, is_local(host)) if robot else None
        self.view = WebView(
            host=host, port=port, max_rate_hz=rate_hz, on_smoothing=self._send_smoothing,
            robot=self._robot.on_page if self._robot else None,
        )  # fmt: skip
        self._subscribed: list[Any] = []
        self._asked = self._moved = False
        self._wanted: SmoothingSettings | None = None
        self.create_timer(0.5, self._follow_visitors)

    def _follow_visitors(self) -> None:
        """Subscribe when the first browser comes, unsubscribe when the last one leaves; refresh the numbers."""
        if self.view.clients and not self._subscribed:
            self._subscribe()
            if self._robot:
                self._subscribed += self._robot.subscribe(lambda: self.view.show_robot(self._robot.view))
        elif not self.view.clients and self._subscribed:
            for subscription in self._subscribed:
                self.destroy_subscription(subscription)
            self._subscribed = []
            self._feed.clear()
            self._asked = self._moved = False
        if self._subscribed:
            self.view.set_stats(self._feed.stats())
            if self._robot:
                self.view.show_robot(self._robot.view)  # also while nothing comes: it may have gone
            self._ask_smoothing()
        self._serve_smoothing()

    def _subscribe(self) -> None:
        def on(kind: type, topic: str, callback: Any, profile: Any, **options: Any) -> None:
            self._subscribed.append(
                self.create_subscription(
                    kind, topic, callback, profile, qos_overriding_options=qos.OVERRIDES, **options
                )
            )

        on(BodyModel, "body_model", self._on_body_model, qos.body_model())
        on(HumanArray, "people", self._on_people, qos.people(), raw=True)
        on(HumanMesh, "mesh_compact", self._on_mesh, qos.mesh_compact(_PEOPLE_MAX), raw=True)
        on(FrameStats, "stats", self._feed.add_stats, qos.stats())
        if self._picture == "overlay":
            on(CompressedImage, "overlay/compressed", self._on_overlay, qos.overlay())
        elif self._picture == "camera":
            reliable = qos.match_reliability(self, self.resolve_topic_name("image"))
            on(Image, "image", self._on_image, qos.image_input(reliable), callback_group=Throttled(CAMERA_HZ))

    def _on_body_model(self, message: BodyModel) -> None:
        self._feed.set_body_model(message)
        self.view.set_note(message.licence_note)

    def _on_people(self, data: bytes) -> None:
        self._feed.add_people(data)
        self.view.show(self._feed.snapshot)

    def _on_mesh(self, data: bytes) -> None:
        self._feed.add_mesh(data)
        self.view.show(self._feed.snapshot)

    def _on_overlay(self, message: CompressedImage) -> None:
        self._feed.add_image(bytes(message.data))

    def _on_image(self, message: Image) -> None:
        try:
            frame = convert.image_to_frame(message)
        except BadFrame as error:
            self.get_logger().warning(f"picture left out: {error}", throttle_duration_sec=10.0)
            return
        image = cv2.resize(frame.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., :3]
        self._feed.add_image(np.ascontiguousarray(image[..., ::-1] if frame.order == "rgb" else image))

    def _ask_smoothing(self) -> None:
        """Ask once per visit what perception uses, so that the sliders begin there."""
        if self._asked or not self._perception.services_are_ready():
            return
        self._asked = True
        self._perception.get_parameters(list(_SMOOTHING.values()), self._on_smoothing_known)

    def _on_smoothing_known(self, future: Any) -> None:
        values = [parameter_value_to_python(value) for value in future.result().values]
        if len(values) == len(_SMOOTHING) and None not in values and not self._moved:
            self.view.set_smoothing(SmoothingSettings(**dict(zip(_SMOOTHING, values, strict=True))))

    def _send_smoothing(self, wanted: SmoothingSettings) -> None:
        """Set perception's parameters, now or as soon as it answers. Called from the drawing thread."""
        self._moved = True  # an answer that is still under way is older than this
        self._wanted = wanted
        self._serve_smoothing()

    def _serve_smoothing(self) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        if not self._perception.services_are_ready():
            self.get_logger().warning(
                "smoothing waits: the perception node does not answer", throttle_duration_sec=10.0
            )
            return
        self._wanted = None
        parameters = [Parameter(name, value=getattr(wanted, key)) for key, name in _SMOOTHING.items()]
        self._perception.set_parameters(parameters, self._on_smoothing_set)

    def _on_smoothing_set(self, future: Any) -> None:
        refused = [result.reason for result in future.result().results if not result.successful]
        if refused:
            self.get_logger().warning(f"smoothing not changed: {'; '.join(refused)}")

    def close(self) -> None:
        """Stop serving and leave the graph."""
        self.view.close()
        self.destroy_node()


def main(args: list[str] | None = None) -> None:
    """Run until SIGINT or SIGTERM."""
    with ros(args):
        try:
            node = ViewNode()
        except HsrError as error:
            raise SystemExit(f"view: {error}") from None
        try:
            print(f"view: {node.view.address}", flush=True)
            spin_until(node, lambda: False)
        finally:
            node.close()


if __name__ == "__main__":
    main()
