"""The refiner's subscriptions: camera, people of the perception node, and where they are there depth and masks."""

from __future__ import annotations

from collections.abc import Callable

from hsr_msgs.msg import FrameStats, HumanArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from . import qos
from .cameras import CameraBook
from .following import Following, Source
from .image_input import ImageInput
from .notices import Notices
from .pairing import Pairing
from .refine_params import RefinerSettings
from .slowdown import Slowdown
from .static_tf import StaticFrames
from .stats import Counters, Rate

IMAGES_KEPT = 4
"""By the middleware: each image may be the one that people were found in."""


class RefineInput:
    """Everything here runs in the executor's thread; the callbacks store references and return.

    Attributes:
        images: The camera.
        people_rate: Of the messages of the perception node.
        depth_info: Newest camera info of the depth camera, or None.
        static: Static transforms, with `depth.register`.
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
        self._companions = [self._follow(name, notices) for name in self._wanted()]
        self.static = StaticFrames(node, notices) if settings.depth.register else None

    def watch(self) -> None:
        """Follow the publishers' reliability and complain about silence; called a few times a second."""
        self.images.watch()
        for companion in self._companions:
            companion.watch()

    def close(self) -> None:
        self.images.close()
        for subscription in (self._people, self._stats):
            self._node.destroy_subscription(subscription)
        for companion in self._companions:
            companion.close()
        self._companions.clear()
        if self.static is not None:
            self.static.close()

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
        out = ["depth", "depth_info"] if depth.enabled and depth.provider in ("auto", "topic") else []
        return [*out, "mask"] if mask.provider in ("auto", "topic") else out

    def _follow(self, name: str, notices: Notices) -> Following:
        node, reliability = self._node, self._settings.input.reliability
        topic = node.resolve_topic_name(name)
        if name == "depth_info":
            info = Source(CameraInfo, topic, self._on_depth_info)
            return Following(node, [info], qos.camera_info_input, reliability, notices)

        def put(msg: Image | CompressedImage) -> None:
            self._pairing.put_companion(name, msg)

        sources = [Source(Image, topic, put)]
        if name == "depth":
            sources.append(Source(CompressedImage, f"{topic}/compressedDepth", put))
        return Following(node, sources, qos.paired_input, reliability, notices)
