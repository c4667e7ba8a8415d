"""The depth camera beside the perception node's images: subscriptions, and the depth that belongs to an image."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hsr_core.config import Settings
from hsr_core.depth.base import DepthSettings
from hsr_core.depth.compressed import depth_from_msg
from hsr_core.depth.measured import MeasuredDepth
from hsr_core.errors import InvalidIntrinsics
from hsr_core.types import Array, Camera, Frame

from . import qos
from .cameras import CameraBook, same_info
from .convert import camera_from_info
from .diagnostics import Status
from .following import Following, Source
from .notices import Notices
from .static_tf import StaticFrames
from .stats import Rate, Window

WARN_EVERY_S = 30.0
REGISTERED_PIXELS = 40_000
"""People are placed by patches of 10 cm: of 848 x 480 pixels every third row and column is enough."""
SHOWN_S = 3.0
"""How long the diagnostics show why a frame had no depth."""


class DepthInput:
    """Subscribes in the executor's thread, which only stores references; the worker's thread asks and decodes.

    Args:
        cameras: Gives intrinsics of images; says whether they are rectified.
    """

    def __init__(self, node: Any, settings: Settings, cameras: CameraBook, notices: Notices) -> None:
        self._node, self._cameras, self._notices = node, cameras, notices
        self._mode = settings.depth.mode
        self._measured = MeasuredDepth(_library_settings(settings), registered_pixels=REGISTERED_PIXELS)
        self._max_wait_s = settings.depth.max_wait_s
        self._info: CameraInfo | None = None
        self._infos = CameraBook(notices)
        self._known: tuple[CameraInfo | None, Camera | None] = (None, None)
        self._static = StaticFrames(node, notices) if settings.depth.register else None
        self._rate, self._wait_ms = Rate(), Window()
        self._failure, self._failed_s = "", -float("inf")
        self._encoding = ""
        self._fits, self._in_time = _Balance(), _Balance()
        self._depth, self._following = self._subscribe(settings)

    @property
    def topics(self) -> list[str]:
        """Those that are subscribed now."""
        return [subscription.topic for subscription in self._following]

    def expect(self, stamp_ns: int, original_id: str) -> Callable[[Frame, Camera], Array | None]:
        """Return what gives the depth of an image that is taken into work now; its depth is kept until then."""
        self._measured.hold(stamp_ns)
        return partial(self.depth_of, original_id=original_id)

    def depth_of(self, frame: Frame, camera: Camera, *, original_id: str) -> Array | None:
        """Return the depth of an image, (h, w) [m] in the depth image's resolution; None where there is none.

        Args:
            original_id: The image's frame_id as its driver sent it.
        """
        if self._mode == "auto" and not self._rate.hz():
            return None  # nobody sends any, which may well be
        self._use_info()
        if self._static is not None:
            self._use_extrinsics(original_id)
        start_s = time.monotonic()
        found = self._measured.depth_at(
            frame.stamp_ns, camera, frame.frame_id, original_id=original_id, max_wait_s=self._max_wait_s
        )
        self._wait_ms.add((time.monotonic() - start_s) * 1e3)
        if found is not None:
            return found.depth_m
        self._fail(self._measured.status)
        return None

    def intrinsics(self, frame_id: str, image_hw: tuple[int, int], rename: str) -> Camera | None:
        """Return the camera of an image without a camera info: depth that is registered to it has the same."""
        self._infos.rectified = self._cameras.rectified
        camera = self._infos.find(frame_id, image_hw, rename)
        if camera is not None:
            text = f"no camera info for frame {frame_id!r}: the depth camera's, which has the same frame, is used"
            self._notices.warn(("stand-in", frame_id), text)
        return camera

    def configure(self, settings: Settings) -> None:
        """Take live settings between two frames."""
        self._measured.configure(_library_settings(settings))
        self._max_wait_s = settings.depth.max_wait_s

    def reset(self) -> None:
        """Forget what has come: time went back."""
        self._measured.reset()

    def watch(self) -> None:
        """Follow the publishers; called a few times a second."""
        for subscription in self._following:
            subscription.watch()

    def close(self) -> None:
        for subscription in self._following:
            subscription.close()
        self._following = []
        if self._static is not None:
            self._static.close()
        self._measured.close()

    def status(self, people: Any = None) -> Status:
        """Return `perception: depth`.

        Args:
            people: Counters of the library's stream, which say how many people depth has placed.
        """
        counts, (p50, p99) = self._measured.counts, self._wait_ms.percentiles(50, 99)
        status = Status(
            "depth",
            {"topic": self._depth.topic, "rate_hz": round(self._rate.hz(), 1), "encoding": self._encoding,
             "used": counts["used"], "unpaired": counts["unpaired"], "late": counts["late"],
             "refused": counts["refused"],
             "depth_info": "there" if self._info is not None else "none",
             "time p50/p99 [ms]": f"{p50:.1f}/{p99:.1f}"},
        )  # fmt: skip
        if people is not None:
            status.values |= {"placed": people.placed_by_depth, "not_placed": people.depth_without_person}
            self._fits.add(people.placed_by_depth, people.depth_without_person)
        self._in_time.add(counts["used"], counts["late"])
        if self._in_time.poor and self._rate.hz():
            status.warn(
                f"depth mostly comes too late: {self._measured.late_s * 1e3:.0f} ms after it is looked for; let the "
                f"driver send it sooner, or raise depth.max_wait_s (now {self._max_wait_s:g} s, at most 0.1 s)"
            )
        elif time.monotonic() - self._failed_s < SHOWN_S:
            status.warn(self._failure)
        elif self._fits.poor:
            status.warn(
                "depth fits few of the people seen: they are hidden, it shows another scene, or its unit is wrong "
                "(depth.unit_scale)"
            )
        elif not self._rate.hz():
            publishers = qos.describe_publishers(self._node, self._depth.topic)
            text = f"no depth images on {self._depth.topic}, published by {publishers}"
            (status.warn if self._mode == "topic" or publishers != "nobody" else status.note)(text)
        return status

    # What comes in, executor's thread

    def _subscribe(self, settings: Settings) -> tuple[Following, list[Following]]:
        node, reliability = self._node, settings.input.reliability
        base = node.resolve_topic_name("depth")
        raw = Source(Image, base, self._on_depth)
        compressed = Source(CompressedImage, f"{base}/compressedDepth", self._on_compressed)
        sources = {"raw": [raw], "compressed": [compressed], "auto": [raw, compressed]}[settings.depth.transport]
        depth = Following(node, sources, qos.paired_input, reliability, self._notices)
        info = Source(CameraInfo, node.resolve_topic_name("depth_info"), self._on_info)
        return depth, [depth, Following(node, [info], qos.camera_info_input, reliability, self._notices)]

    def _on_depth(self, msg: Image) -> None:
        self._rate.tick()
        self._encoding = msg.encoding
        self._measured.put(depth_from_msg(msg))

    def _on_compressed(self, msg: CompressedImage) -> None:
        self._rate.tick()
        self._encoding = msg.format
        self._measured.put(depth_from_msg(msg))

    def _on_info(self, msg: CameraInfo) -> None:
        self._info = msg
        self._infos.put(msg)

    # What is made of it, worker's thread

    def _use_info(self) -> None:
        info, (known, camera) = self._info, self._known
        if info is known:
            return
        if info is not None and not (known is not None and same_info(info, known)):
            try:
                camera = camera_from_info(info, rectified=self._cameras.rectified)
            except InvalidIntrinsics as error:
                camera = None
                self._notices.warn(("depth info", str(error)), f"depth_info refused: {error}", every_s=WARN_EVERY_S)
            self._measured.set_camera(camera)
        self._known = (info, camera)

    def _use_extrinsics(self, color_frame: str) -> None:
        camera = self._known[1]
        if camera is None or camera.frame_id == color_frame:
            return
        T_color_depth = self._static.lookup(color_frame, camera.frame_id)
        if T_color_depth is not None:
            self._measured.set_extrinsics(T_color_depth)

    def _fail(self, text: str) -> None:
        self._failure, self._failed_s = text, time.monotonic()
        self._notices.warn(("depth", text[:12]), f"no depth: {text}", every_s=WARN_EVERY_S)


class _Balance:
    """Whether more went wrong than well lately, from two counters that only grow."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=5)

    def add(self, good: int, bad: int) -> None:
        if self._seen and good < self._seen[-1][0]:
            self._seen.clear()
        self._seen.append((good, bad))

    @property
    def poor(self) -> bool:
        if len(self._seen) < 2:
            return False
        good, bad = (last - first for first, last in zip(self._seen[0], self._seen[-1], strict=True))
        return bad > max(good, 5)


def open_depth_input(node: Any, settings: Settings, cameras: CameraBook, notices: Notices) -> DepthInput | None:
    """Return the depth camera's side of the node, or None with `depth.mode` off."""
    return None if settings.depth.mode == "off" else DepthInput(node, settings, cameras, notices)


def _library_settings(settings: Settings) -> DepthSettings:
    depth = settings.depth
    return DepthSettings(unit_scale=depth.unit_scale, max_offset_s=depth.max_offset_s, register=depth.register)
