"""The camera side of the perception node: subscriptions, and which images are taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hsr_core.config import Settings
from hsr_core.input_rules import OneCamera, StampRules, Verdict

from . import qos
from .cameras import CameraBook
from .convert import stamp_to_ns
from .following import Following, Source
from .notices import Notices
from .stats import Counters, Rate

SILENT_S = 1.0
LOST_S = 5.0
SIZE_LIMITS = (16, 16384)


@dataclass(frozen=True)
class Incoming:
    """One image on its way to the worker.

    Attributes:
        msg: Image or CompressedImage, as it came.
        stamp_ns: Its stamp; the time of receipt when it had none.
        receive_ms: Duration of the callback so far.
        epoch: Changes when everything before must be forgotten.
    """

    msg: Any
    stamp_ns: int
    receive_ms: float
    epoch: int


class ImageInput:
    """Subscribes to the camera and offers the images that follow the rules.

    Everything here runs in the executor's thread; the image callback stores and returns.

    Args:
        offer: Takes an image; True when it replaced one that was never taken.
        on_restart: Told why everything before must be forgotten.
        depth: Images that the middleware keeps; more than one only for those that need each image.

    Attributes:
        epoch: Counts restarts; results of an older epoch must not be published.
        rules: The stamp rules, for the diagnostics.
        mixed: Another camera was heard on the image topic within the last seconds.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        cameras: CameraBook,
        counters: Counters,
        notices: Notices,
        offer: Callable[[Incoming], bool],
        on_restart: Callable[[str], None],
        *,
        depth: int = 1,
    ) -> None:
        self._node, self._counters, self._notices = node, counters, notices
        self._offer, self._on_restart = offer, on_restart
        image, reliability = node.resolve_topic_name("image"), settings.input.reliability
        cameras.rectified = shows_rectified(image, settings.input.rectified)
        self.epoch = 0
        self.paused = False
        self.rules = StampRules()
        self.rate = Rate()
        self.size = self.encoding = ""
        self._one_camera = OneCamera()
        self._mixed_s = -float("inf")
        self._seen_s = time.monotonic()
        raw = Source(Image, image, self._on_image)
        compressed = Source(CompressedImage, f"{image}/compressed", self._on_image)
        sources = {"raw": [raw], "compressed": [compressed], "auto": [raw, compressed]}[settings.input.transport]
        info = Source(CameraInfo, node.resolve_topic_name("camera_info"), cameras.put)
        self._images = Following(
            node, sources, partial(qos.image_input, depth=depth), reliability, notices,
            on_lost=partial(counters.add, "dropped_gap"),
        )  # fmt: skip
        self._infos = Following(node, [info], qos.camera_info_input, reliability, notices)

    @property
    def topic(self) -> str:
        """Where the images come from."""
        return self._images.topic

    @property
    def topics(self) -> list[str]:
        """Those that are subscribed now."""
        return [self._images.topic, self._infos.topic]

    @property
    def reliable(self) -> bool:
        """Whether the image subscription asks for reliable delivery."""
        return self._images.reliable

    @property
    def mixed(self) -> bool:
        return time.monotonic() - self._mixed_s < 5.0

    @property
    def silent_s(self) -> float:
        """Seconds since the last image (or since activation)."""
        return time.monotonic() - self._seen_s

    def watch(self) -> None:
        """Follow the publishers' transport and reliability, complain about two and about silence; called often."""
        if self._images.watch():
            self._one_camera = OneCamera()
            self._node.get_logger().info(f"images are taken from {self.topic} now")
        self._infos.watch()
        if self._node.count_publishers(self.topic) > 1:
            publishers = qos.describe_publishers(self._node, self.topic)
            self._notices.warn("several", f"several publish on {self.topic}: {publishers}", every_s=30.0)
        if self.silent_s > SILENT_S:
            publishers = qos.describe_publishers(self._node, self.topic)
            self._notices.warn(
                "silent", f"no image for {self.silent_s:.0f} s on {self.topic}, published by {publishers}", every_s=30.0
            )
        else:
            self._notices.forget("silent")

    def restart(self) -> int:
        """Begin a new epoch: what was seen before no longer counts."""
        self.epoch += 1
        self.rules.restart()
        return self.epoch

    def close(self) -> None:
        self._images.close()
        self._infos.close()

    def _on_image(self, msg: Image | CompressedImage) -> None:
        start = time.perf_counter()
        now_s = time.monotonic()
        self._seen_s = now_s
        self.rate.tick(now_s)
        if self.paused:
            return
        self._counters.add("received")
        if not self._is_of_our_camera(msg, now_s):
            self._counters.add("dropped_bad")
            return
        verdict, stamp_ns = self.rules.judge(stamp_to_ns(msg.header.stamp), self._node.get_clock().now().nanoseconds)
        if verdict is Verdict.STALE:
            self._counters.add("dropped_stale")
            return
        if verdict is Verdict.JUMP:
            self._on_restart("image stamps went back")
        if self.rules.no_stamps:
            self._notices.warn("no stamps", f"images on {self.topic} have no stamps: latency unknown")
        if self.rules.other_clock:
            self._notices.warn(
                "other clock",
                f"image stamps are {self.rules.clock_offset_s:.1f} s behind this clock: "
                "bag played without --clock, or clocks not synchronised",
            )
        if self._offer(Incoming(msg, stamp_ns, (time.perf_counter() - start) * 1e3, self.epoch)):
            self._counters.add("dropped_busy")

    def _is_of_our_camera(self, msg: Image | CompressedImage, now_s: float) -> bool:
        frame_id = msg.header.frame_id
        if isinstance(msg, CompressedImage):
            key, self.encoding = (frame_id,), msg.format
        else:
            low, high = SIZE_LIMITS
            if not (low <= msg.width <= high and low <= msg.height <= high):
                self._notices.warn(
                    ("size", msg.width, msg.height),
                    f"image of {msg.width}x{msg.height} pixels dropped; sides must lie in {low}..{high}",
                )
                return False
            key, self.encoding = (frame_id, msg.height, msg.width), msg.encoding
        if not self._one_camera.takes(key, now_s):
            self._mixed_s = now_s
            self._notices.warn(
                ("mixed", key),
                f"different cameras on {self.topic}: using {_name(self._one_camera.key)}, dropping {_name(key)}; "
                f"{qos.describe_publishers(self._node, self.topic)}",
                every_s=30.0,
            )
            return False
        self.size = _name(key)
        if not frame_id.endswith(("_optical_frame", "_optical")):
            self._notices.warn(
                ("frame", frame_id),
                f"frame_id {frame_id!r} does not end in _optical_frame: if it names the body-axes frame of the camera, "
                "set input.frame_id",
            )
        return True


def shows_rectified(topic: str, wanted: str = "auto") -> bool:
    """Return whether images of a topic are rectified; `auto` by the names that image_proc and drivers use.

    As in /camera/image_rect_color and /zed/zed_node/rgb/color/rect/image.
    """
    if wanted != "auto":
        return wanted == "always"
    return "rect" in topic.rpartition("/")[2].split("_") or "/rect/" in topic


def _name(key: tuple) -> str:
    return f"{key[2]}x{key[1]} in {key[0]!r}" if len(key) == 3 else repr(key[0])
