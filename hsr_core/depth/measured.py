"""Depth of a depth camera, paired with colour images by stamp."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from ..errors import BadFrame
from ..geometry.camera import resize_intrinsics
from ..geometry.view import FrameView
from ..pairing import StampRing
from ..types import Array, Camera, MetricSource
from .base import DepthFrame, DepthSettings
from .compressed import CompressedDepth
from .decode import RawDepth, check_plausible, to_metres
from .registration import Registration, check_registered

SIGMA_REL = 0.005
_NOISE = {"stereo": (0.0, 0.0025), "tof": (0.006, 0.0)}
"""By sensor: constant [m] and per squared distance [1/m]; stereo's grows with the square, time of flight's hardly."""
_LATE_S = 0.1
"""A depth image so much older than the image is no matter of pairing any more."""
_MISSED, _WAITED_S = 8, 0.2
"""Images without depth that are remembered, and for how long: what comes later has nothing to do with waiting."""


class MeasuredDepth:
    """Keeps the last depth images, decodes the one that belongs to the image in work, and refuses what does not fit.

    `put` may be called from another thread; it stores a reference and returns.

    Args:
        settings: Group `depth`.
        registered_pixels: Of a depth image that is registered no more than about so many pixels are, evenly spread:
            it takes 0.2 ms a thousand. 0 = all.

    Attributes:
        name, status: As the protocol says.
        counts: Images by outcome: used, unpaired, refused; late: of the unpaired, those whose depth came afterwards.
        late_s: How long after it had been asked for the depth of such an image came, the last time [s].
    """

    name = "topic"

    def __init__(self, settings: DepthSettings, *, registered_pixels: int = 0) -> None:
        self._settings, self._registered_pixels = settings, registered_pixels
        self._ring: StampRing[RawDepth | CompressedDepth] = StampRing()
        self._depth_camera: Camera | None = None
        self._T_color_depth: Array | None = None
        self._registration: tuple[Camera, Registration, int] | None = None
        self.status = "no depth image has come"
        self.counts: Counter[str] = Counter()
        self.late_s = 0.0
        self._missed: deque[tuple[int, float]] = deque(maxlen=_MISSED)
        self._missed_lock = threading.Lock()

    def put(self, raw: RawDepth | CompressedDepth) -> None:
        """Take a depth image."""
        self._ring.put(raw.stamp_ns, raw)
        if self._missed:
            self._note_late(raw.stamp_ns)

    def hold(self, stamp_ns: int) -> None:
        """Keep the depth of an image that is taken into work, until the next one is."""
        self._ring.hold(stamp_ns)

    def set_camera(self, depth_camera: Camera | None) -> None:
        """Take the depth camera's intrinsics; None = not known."""
        known = self._depth_camera
        if known is not depth_camera and not _same_camera(known, depth_camera):
            self._registration = None
        self._depth_camera = depth_camera

    def set_extrinsics(self, T_color_depth: Array) -> None:
        """Take the depth camera's pose, (4, 4), x_color = T x_depth; used when `register` is on."""
        if self._T_color_depth is None or not np.array_equal(T_color_depth, self._T_color_depth):
            self._registration = None
        self._T_color_depth = T_color_depth

    def configure(self, settings: DepthSettings) -> None:
        """Take changed settings between two frames."""
        self._settings = settings

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        if view.frame.depth_m is not None:  # a source that delivers both together
            return self._attempt(view.stamp_ns, view.camera, view.frame.frame_id, lambda: _given(view))
        found = self.depth_at(view.stamp_ns, view.camera, view.frame.frame_id)
        if found is None or found.depth_m.shape == view.camera.image_hw:
            return found
        depth_m = cv2.resize(found.depth_m, view.camera.image_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return replace(found, depth_m=depth_m, K=view.camera.K)

    def depth_at(
        self, stamp_ns: int, camera: Camera, frame_id: str, *, original_id: str | None = None, max_wait_s: float = 0.0
    ) -> DepthFrame | None:
        """Return the depth that belongs to an image, in the depth image's own resolution, or None (`status` says why).

        Args:
            stamp_ns, frame_id: Of the colour image.
            camera: Of the colour image; distortion included.
            original_id: The colour image's frame_id as its driver sent it, where it was renamed.
            max_wait_s: Wait at most so long for an image that is about to come; see `StampRing.nearest`.
        """
        asked_s = time.monotonic()
        paired = self._ring.nearest(stamp_ns, self._settings.max_offset_s, max_wait_s)
        if paired is None:
            self.counts["unpaired"] += 1
            with self._missed_lock:
                self._missed.append((stamp_ns, asked_s))
            self.status = self._why_unpaired(stamp_ns)
            return None
        raw = paired[1]
        if original_id is not None:
            camera = replace(camera, frame_id=original_id)
        return self._attempt(stamp_ns, camera, frame_id, lambda: self._in_image(raw, camera))

    def reset(self) -> None:
        self._ring.clear()
        with self._missed_lock:
            self._missed.clear()

    def close(self) -> None:
        self._ring.clear()

    def _note_late(self, stamp_ns: int) -> None:
        most_ns, now = self._settings.max_offset_s * 1e9, time.monotonic()
        with self._missed_lock:
            for missed_ns, asked_s in self._missed:
                if abs(missed_ns - stamp_ns) <= most_ns and now - asked_s <= _WAITED_S:
                    self._missed.remove((missed_ns, asked_s))
                    self.counts["late"] += 1
                    self.late_s = now - asked_s
                    return

    def _why_unpaired(self, stamp_ns: int) -> str:
        newest = self._ring.newest_ns()
        if newest is None:
            return "no depth image has come"
        apart_ms = (newest - stamp_ns) / 1e6
        most_ms = self._settings.max_offset_s * 1e3
        text = f"no depth within {most_ms:.0f} ms of the image; the newest is {apart_ms:+.0f} ms away"
        if apart_ms < -1000 * _LATE_S:
            text += ": depth has stopped, comes too late, or has the stamps of another clock"
        return text

    def _attempt(self, stamp_ns: int, camera: Camera, frame_id: str, read: Callable[[], Array]) -> DepthFrame | None:
        try:
            depth_m = read()
        except BadFrame as error:
            self.counts["refused"] += 1
            self.status = str(error)
            return None
        self.counts["used"] += 1
        self.status = ""
        constant, per_m = _NOISE[self._settings.sensor]
        return DepthFrame(
            depth_m,
            resize_intrinsics(camera.K, camera.image_hw, depth_m.shape),
            stamp_ns,
            frame_id,
            MetricSource.DEPTH_CAMERA,
            SIGMA_REL,
            constant,
            per_m,
            provider=self.name,
        )

    def _in_image(self, raw: RawDepth | CompressedDepth, camera: Camera) -> Array:
        if isinstance(raw, CompressedDepth):
            raw = raw.decoded()
        register = self._registration_for(raw, camera) if self._settings.register else None
        if register is None:
            check_registered(raw.hw, raw.frame_id, self._depth_camera, camera)
        depth_m = to_metres(raw, self._settings.unit_scale)
        check_plausible(depth_m)
        return depth_m if register is None else register(depth_m)

    def _registration_for(self, raw: RawDepth, camera: Camera) -> Callable[[Array], Array] | None:
        """Return how to bring the image into the colour grid; None when it is there already."""
        try:
            check_registered(raw.hw, raw.frame_id, self._depth_camera, camera)
        except BadFrame as error:
            if self._depth_camera is None:
                raise BadFrame("depth.register needs the depth camera's info: remap depth_info") from error
            if self._T_color_depth is None:
                raise BadFrame("depth.register needs tf between the depth and the colour camera: none yet") from error
        else:
            return None
        if self._registration is None or not _same_camera(self._registration[0], camera):
            every = self._every_nth(self._depth_camera.image_hw)
            small = camera.scaled((round(camera.image_hw[0] / every), round(camera.image_hw[1] / every)))
            registration = Registration(_thinned(self._depth_camera, every), small, self._T_color_depth)
            self._registration = camera, registration, every
        _, registration, every = self._registration
        return lambda depth_m: registration(depth_m[every // 2 :: every, every // 2 :: every])

    def _every_nth(self, hw: tuple[int, int]) -> int:
        """Return which rows and columns of a depth image are registered."""
        if not self._registered_pixels:
            return 1
        return max(1, round(math.sqrt(hw[0] * hw[1] / self._registered_pixels)))


def _thinned(camera: Camera, every: int) -> Camera:
    """Return the camera of every n-th row and column, from the n/2-th on."""
    if every == 1:
        return camera
    first = every // 2
    K = camera.K.copy()
    K[0] = [K[0, 0] / every, K[0, 1] / every, (K[0, 2] - first) / every]
    K[1] = [0.0, K[1, 1] / every, (K[1, 2] - first) / every]
    return replace(camera, K=K, image_hw=tuple(len(range(first, side, every)) for side in camera.image_hw))


def _same_camera(a: Camera | None, b: Camera | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.image_hw == b.image_hw and np.array_equal(a.K, b.K) and np.array_equal(a.dist, b.dist)


def _given(view: FrameView) -> Array:
    """Return the depth that came with the image, 0 where invalid."""
    depth_m = np.asarray(view.frame.depth_m, np.float32)
    if depth_m.shape != view.camera.image_hw:
        raise BadFrame(f"the frame's depth is {depth_m.shape}, its image {view.camera.image_hw}: not registered")
    depth_m = np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.float32(0))
    check_plausible(depth_m)
    return depth_m


def create(settings: DepthSettings, **_: object) -> MeasuredDepth:
    """Factory for the registry."""
    return MeasuredDepth(settings)
