"""The camera side of the perception node: subscriptions, and which images are taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hsr_core.config import Settings
from hsr_core.input_rules import OneCamera, StampRules, Verdict

from . import qos
from .cameras import CameraBook
from .convert import stamp_to_ns
from .following import first_published
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
        self._node, self._cameras, self._counters, self._notices = node, cameras, counters, notices
        self._offer, self._on_restart = offer, on_restart
        self._wanted, self._depth = settings.input.reliability, depth
        self._transport, self._base = settings.input.transport, node.resolve_topic_name("image")
        self._compressed = self._takes_compressed(False)
        cameras.rectified = shows_rectified(self._base, settings.input.rectified)
        self.epoch = 0
        self.paused = False
        self.rules = StampRules()
        self.rate = Rate()
        self.size = self.encoding = ""
        self._one_camera = OneCamera()
        self._mixed_s = -float("inf")
        self._seen_s = time.monotonic()
        self._info_topic = node.resolve_topic_name("camera_info")
        self._matched = (self._match(self.topic), self._match(self._info_topic))
        self._subscriptions: list = []
        self._subscribe()

    @property
    def topic(self) -> str:
        """The topic that is subscribed to."""
        return f"{self._base}/compressed" if self._compressed else self._base

    @property
    def topics(self) -> list[str]:
        """Those that are subscribed now."""
        return [one.topic_name for one in self._subscriptions]

    @property
    def reliable(self) -> bool:
        """Whether the image subscription asks for reliable delivery."""
        return self._matched[0]

    @property
    def mixed(self) -> bool:
        return time.monotonic() - self._mixed_s < 5.0

    @property
    def silent_s(self) -> float:
        """Seconds since the last image (or since activation)."""
        return time.monotonic() - self._seen_s

    def watch(self) -> None:
        """Follow the publishers' transport and reliability, complain about silence; called a few times a second."""
        compressed = self._takes_compressed(self._compressed)
        if compressed != self._compressed:
            self._compressed, self._matched, self._one_camera = compressed, (), OneCamera()
            self._node.get_logger().info(f"images are taken from {self.topic} now")
        matched = tuple(
            self._match(topic) if self._node.count_publishers(topic) or not self._matched else old
            for topic, old in zip((self.topic, self._info_topic), self._matched or (True, True), strict=True)
        )
        if matched != self._matched:
            self._matched = matched
            self._subscribe()
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
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _takes_compressed(self, now: bool) -> bool:
        """Return whether to take compressed images: `auto` takes raw ones where somebody publishes them."""
        if self._transport != "auto":
            return self._transport == "compressed"
        return first_published(self._node, (self._base, f"{self._base}/compressed"), int(now)) == 1

    def _match(self, topic: str) -> bool:
        return qos.match_reliability(self._node, topic, self._wanted)

    def _subscribe(self) -> None:
        self.close()
        node, events = self._node, SubscriptionEventCallbacks
        self._subscriptions = [
            node.create_subscription(
                CompressedImage if self._compressed else Image,
                self.topic,
                self._on_image,
                qos.image_input(self.reliable, self._depth),
                event_callbacks=events(message_lost=self._on_lost, incompatible_qos=self._on_incompatible),
                qos_overriding_options=qos.INPUT_OVERRIDES,
            ),
            node.create_subscription(
                CameraInfo,
                "camera_info",
                self._cameras.put,
                qos.camera_info_input(self._matched[1]),
                event_callbacks=events(incompatible_qos=self._on_incompatible),
                qos_overriding_options=qos.INPUT_OVERRIDES,
            ),
        ]

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
        if self._compressed:
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

    def _on_lost(self, event: Any) -> None:
        self._counters.add("dropped_gap", event.total_count_change)

    def _on_incompatible(self, event: Any) -> None:
        policy = getattr(event.last_policy_kind, "name", event.last_policy_kind)
        self._notices.warn(
            ("incompatible", str(policy)),
            f"a publisher on {self.topic} offers an incompatible {policy}: this node asks for "
            f"{'reliable' if self.reliable else 'best effort'}; {qos.describe_publishers(self._node, self.topic)}; "
            "set input.reliability to best_effort",
            every_s=30.0,
        )


def shows_rectified(topic: str, wanted: str = "auto") -> bool:
    """Return whether images of a topic are rectified; `auto` by the names that image_proc and drivers use.

    As in /camera/image_rect_color and /zed/zed_node/rgb/color/rect/image.
    """
    if wanted != "auto":
        return wanted == "always"
    return "rect" in topic.rpartition("/")[2].split("_") or "/rect/" in topic


def _name(key: tuple) -> str:
    return f"{key[2]}x{key[1]} in {key[0]!r}" if len(key) == 3 else repr(key[0])
