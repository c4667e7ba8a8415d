"""Intrinsics for an image: the last usable camera info of the same frame and size."""

from __future__ import annotations

import time

from hsr_core.errors import InvalidIntrinsics
from hsr_core.types import Camera

from .convert import camera_from_info
from .notices import Notices

WAIT_S = 2.0
"""How long the first images wait for their camera info before a field of view is assumed."""


class CameraBook:
    """Keeps camera infos by frame_id; written by the executor's thread, read by the worker's.

    Attributes:
        note: Why there are no intrinsics, or what was done to them; "" when all is plain.
        rectified: Images have no lens distortion: P of the infos describes them, not K and D. Set before use.
    """

    def __init__(self, notices: Notices) -> None:
        self.note = ""
        self.rectified = False
        self._notices = notices
        self._infos: dict[str, tuple[tuple, object]] = {}
        self._cameras: dict[tuple, tuple[object, Camera | None]] = {}
        self._waiting_since: dict[str, float] = {}

    def put(self, info) -> None:
        """Take a CameraInfo message; one equal to the last is ignored, so that its Camera stays the same object."""
        content = _content(info)
        frame_id = info.header.frame_id
        # repr: two NaN compare as different, their texts do not.
        if frame_id not in self._infos or self._infos[frame_id][0] != content:
            self._infos[frame_id] = (content, info)

    def find(self, frame_id: str, image_hw: tuple[int, int], rename: str = "") -> Camera | None:
        """Return the camera of an image, or None when there are no usable intrinsics.

        Args:
            frame_id: As the image came.
            image_hw: Height and width of the image [px].
            rename: Frame name to give to the camera instead.
        """
        info = self._infos.get(frame_id, (None, None))[1]
        if info is None:
            return None
        key = (frame_id, image_hw, rename)
        source, camera = self._cameras.get(key, (None, None))
        if source is not info:
            camera = self._accept(info, image_hw, rename)
            self._cameras[key] = (info, camera)
        return camera

    def still_waiting(self, frame_id: str) -> bool:
        """True during the first seconds of a frame_id without any camera info."""
        now = time.monotonic()
        started = self._waiting_since.setdefault(frame_id, now)
        if frame_id in self._infos or now - started > WAIT_S:
            return False
        self.note = "waiting for camera info"
        return True

    def explain_none(self, frame_id: str, hfov_deg: float) -> None:
        """Say once that intrinsics are assumed, and why."""
        if frame_id not in self._infos:
            others = ", ".join(map(repr, self._infos)) or "none at all"
            self.note = f"no camera info for frame {frame_id!r} (received: {others})"
        self._notices.warn(
            ("assumed", frame_id, self.note),
            f"{self.note}; assuming a horizontal field of view of {hfov_deg:g} degrees "
            "(camera.assumed_hfov_deg), so distances are a guess",
        )

    def restart(self) -> None:
        """Forget everything; the node was deactivated."""
        self._infos.clear()
        self._cameras.clear()
        self._waiting_since.clear()
        self.note = ""

    def _accept(self, info, image_hw: tuple[int, int], rename: str) -> Camera | None:
        try:
            camera = camera_from_info(info, image_hw=image_hw, frame_id=rename, rectified=self.rectified)
        except InvalidIntrinsics as error:
            self.note = f"camera info refused: {error}"
            self._notices.warn(("info", self.note), self.note, every_s=30.0)
            return None
        self.note = ""
        if (info.height, info.width) != image_hw and info.binning_x <= 1 and not info.roi.width:
            self.note = f"camera info is for {info.width}x{info.height}, scaled to {image_hw[1]}x{image_hw[0]}"
            self._notices.warn(("scaled", self.note), self.note)
        return camera


def same_info(a, b) -> bool:
    """Whether two CameraInfo messages say the same, their stamps apart."""
    return a.header.frame_id == b.header.frame_id and _content(a) == _content(b)


def _content(info) -> tuple:
    roi = info.roi
    return (
        info.width, info.height, info.distortion_model, repr(list(info.k)), repr(list(info.d)), repr(list(info.p)),
        info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height,
    )  # fmt: skip
