"""Depth of a depth camera, paired with colour images by stamp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..errors import BadFrame
from ..geometry.view import FrameView
from ..pairing import StampRing
from ..types import Array, Camera, MetricSource
from .base import DepthFrame, DepthSettings
from .decode import RawDepth, check_plausible, to_metres
from .registration import Registration, check_registered

SIGMA_REL = 0.005
_NOISE = {"stereo": (0.0, 0.0025), "tof": (0.006, 0.0)}
"""By sensor: constant [m] and per squared distance [1/m]; stereo's grows with the square, time of flight's hardly."""


class MeasuredDepth:
    """Keeps the last depth images, decodes the one that belongs to the image in work, and refuses what does not fit.

    `put` may be called from another thread; it stores a reference and returns.

    Attributes:
        name, status: As the protocol says.
        counts: Images by outcome: used, unpaired, refused.
    """

    name = "topic"

    def __init__(self, settings: DepthSettings) -> None:
        self._settings = settings
        self._ring: StampRing[RawDepth] = StampRing()
        self._depth_camera: Camera | None = None
        self._T_color_depth: Array | None = None
        self._registration: Registration | None = None
        self.status = "no depth image has come"
        self.counts: Counter[str] = Counter()

    def put(self, raw: RawDepth) -> None:
        """Take a depth image."""
        self._ring.put(raw.stamp_ns, raw)

    def set_camera(self, depth_camera: Camera) -> None:
        """Take the depth camera's intrinsics."""
        known = self._depth_camera
        if known is None or known.image_hw != depth_camera.image_hw or not np.array_equal(known.K, depth_camera.K):
            self._registration = None
        self._depth_camera = depth_camera

    def set_extrinsics(self, T_color_depth: Array) -> None:
        """Take the depth camera's pose, (4, 4), x_color = T x_depth; used when `register` is on."""
        if self._T_color_depth is None or not np.array_equal(T_color_depth, self._T_color_depth):
            self._registration = None
        self._T_color_depth = T_color_depth

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        if view.frame.depth_m is not None:  # a source that delivers both together
            return self._attempt(view, lambda: _given(view))
        paired = self._ring.nearest(view.stamp_ns, self._settings.max_offset_s)
        if paired is None:
            newest = self._ring.newest_ns()
            self.counts["unpaired"] += 1
            self.status = (
                "no depth image has come"
                if newest is None
                else f"no depth within {self._settings.max_offset_s * 1e3:.0f} ms of the image; "
                f"the newest is {(newest - view.stamp_ns) / 1e6:+.0f} ms away"
            )
            return None
        return self._attempt(view, lambda: self._in_image(paired[1], view.camera))

    def reset(self) -> None:
        self._ring.clear()

    def close(self) -> None:
        self._ring.clear()

    def _attempt(self, view: FrameView, read: Callable[[], Array]) -> DepthFrame | None:
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
            view.camera.K,
            view.stamp_ns,
            view.frame.frame_id,
            MetricSource.DEPTH_CAMERA,
            SIGMA_REL,
            constant,
            per_m,
            provider=self.name,
        )

    def _in_image(self, raw: RawDepth, camera: Camera) -> Array:
        register = self._registration_for(raw, camera) if self._settings.register else None
        if register is None:
            check_registered(raw.hw, raw.frame_id, self._depth_camera, camera)
        depth_m = to_metres(raw, self._settings.unit_scale)
        check_plausible(depth_m)
        return depth_m if register is None else register(depth_m)

    def _registration_for(self, raw: RawDepth, camera: Camera) -> Registration | None:
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
        known = self._registration
        if known is None or known.camera.image_hw != camera.image_hw or not np.array_equal(known.camera.K, camera.K):
            self._registration = Registration(self._depth_camera, camera, self._T_color_depth)
        return self._registration


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
