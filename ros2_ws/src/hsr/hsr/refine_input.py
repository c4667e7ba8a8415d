"""The refiner's subscriptions: camera, people of the perception node, and where they are there depth and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hsr_msgs.msg import FrameStats, HumanArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image

from . import qos
from .cameras import CameraBook
from .image_input import ImageInput
from .notices import Notices
from .pairing import Pairing
from .refine_params import RefinerSettings
from .slowdown import Slowdown
from .stats import Counters, Rate

IMAGES_KEPT = 4
"""By the middleware: each image may be the one that people were found in."""


class RefineInput:
    """Everything here runs in the executor's thread; the callbacks store references and return.

    Attributes:
        images: The camera.
        people_rate: Of the messages of the perception node.
        depth_info: Newest camera info of the depth camera, or None.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: RefinerSettings,
        cameras: CameraBook,
        counters: Counters,
        notices: Notices,
        pairing: Pairing,
        slowdown: Slowdown,
        refining: Callable[[], bool],
        on_restart: Callable[[str], None],
    ) -> None:
        self._node, self._settings, self._pairing = node, settings, pairing
        self._slowdown, self._refining = slowdown, refining
        self.people_rate = Rate()
        self.depth_info: CameraInfo | None = None
        self.images = ImageInput(
            node, settings, cameras, counters, notices, pairing.put_image, on_restart, depth=IMAGES_KEPT
        )
        self._people = node.create_subscription(
            HumanArray, "people", self._on_people, qos.people(), qos_overriding_options=qos.OVERRIDES
        )
        self._stats = node.create_subscription(
            FrameStats, "stats", self._on_stats, qos.stats(), qos_overriding_options=qos.OVERRIDES
        )
        self._companions: dict[str, tuple[bool, list[Any]]] = {}
        self._watch_companions()

    def watch(self) -> None:
        """Follow the publishers' reliability and complain about silence; called a few times a second."""
        self.images.watch()
        self._watch_companions()

    def close(self) -> None:
        self.images.close()
        for subscription in (self._people, self._stats, *(s for _, group in self._companions.values() for s in group)):
            self._node.destroy_subscription(subscription)
        self._companions.clear()

    def _on_people(self, msg: HumanArray) -> None:
        self.people_rate.tick()
        if not self.images.paused:
            self._pairing.put_people(msg)

    def _on_stats(self, msg: FrameStats) -> None:
        self._slowdown.add(msg.total_ms, self._refining())

    def _on_depth_info(self, msg: CameraInfo) -> None:
        self.depth_info = msg

    def _wanted(self) -> list[str]:
        depth, mask = self._settings.depth, self._settings.mask
        out = ["depth"] if depth.enabled and depth.provider in ("auto", "topic") else []
        return [*out, "mask"] if mask.provider in ("auto", "topic") else out

    def _watch_companions(self) -> None:
        node = self._node
        for name in self._wanted():
            topic = node.resolve_topic_name(name)
            known = self._companions.get(name)
            if known is not None and not node.count_publishers(topic):
                continue
            reliable = qos.match_reliability(node, topic, self._settings.input.reliability)
            if known is not None and known[0] == reliable:
                continue
            for subscription in known[1] if known else ():
                node.destroy_subscription(subscription)
            self._companions[name] = reliable, self._subscribe(name, reliable)

    def _subscribe(self, name: str, reliable: bool) -> list[Any]:
        node, options = self._node, {"qos_overriding_options": qos.INPUT_OVERRIDES}
        out = [
            node.create_subscription(
                Image, name, lambda msg: self._pairing.put_companion(name, msg), qos.paired_input(reliable), **options
            )
        ]
        if name == "depth":
            info = qos.camera_info_input(
                qos.match_reliability(node, node.resolve_topic_name("depth_info"), self._settings.input.reliability)
            )
            out.append(node.create_subscription(CameraInfo, "depth_info", self._on_depth_info, info, **options))
        return out
