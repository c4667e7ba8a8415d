"""A camera of this machine, through OpenCV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2

from ..errors import SourceError
from ..types import Frame
from .base import CameraLike, Closing, camera_for

MAX_MISSES = 30
"""Consecutive failed grabs after which the camera counts as unplugged (about 1 s)."""


class WebcamSource(Closing):
    """Frames of a local camera, BGR, endless, stamped with the system clock when the driver hands them over.

    Args:
        device: Number of the camera, as in /dev/video<device>.
        camera: Its intrinsics.
        open_capture: What opens it; for tests.

    Raises:
        SourceError: The camera is absent, busy, or delivers nothing.
    """

    def __init__(
        self, device: int = 0, *, camera: CameraLike = None, open_capture: Callable[[int], Any] = cv2.VideoCapture
    ) -> None:
        self.name = f"webcam:{device}"
        level = cv2.getLogLevel()
        cv2.setLogLevel(0)  # the error below says it in one line
        try:
            self._capture = open_capture(device)
        finally:
            cv2.setLogLevel(level)
        ok, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok:
            self._capture.release()
            there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
            raise SourceError(f"camera {device} cannot be read (absent, busy or not permitted); devices: {there}")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not one from the driver's queue
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 30.0
        self.image_hw = image.shape[:2]
        self.frame_count: int | None = None
        self.skipped, self.truncated = 0, False
        self._camera = camera_for(camera, image)
        self._open = True

    def __iter__(self) -> Iterator[Frame]:
        index = misses = 0
        while self._open and misses < MAX_MISSES:
            ok, image = self._capture.read()
            stamp_ns = time.time_ns()
            if not ok:
                misses += 1
                self.skipped += 1
                time.sleep(1 / self.fps)  # the driver answers at once when it has nothing
                continue
            misses = 0
            yield Frame(image, stamp_ns, "bgr", camera=self._camera, index=index)
            index += 1
        self.truncated = self._open

    def close(self) -> None:
        self._open = False
        self._capture.release()
