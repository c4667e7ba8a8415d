"""What every frame source offers."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..types import Camera, Frame
from .calibration import CalibratedCamera

CameraLike = Camera | CalibratedCamera | None


class Source(Protocol):
    """Frames in order, once, with true stamps.

    Attributes:
        name: What is read.
        fps: Nominal frame rate [Hz].
        image_hw: (height, width) of the first image.
        frame_count: How many frames to expect, or None when unknown or endless.
        skipped: Frames so far that could not be read.
        truncated: True once the source is known to have ended before its announced end.
    """

    name: str
    fps: float
    image_hw: tuple[int, int]
    frame_count: int | None
    skipped: int
    truncated: bool

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a frame that cannot be read is skipped and counted."""
        ...

    def close(self) -> None:
        """Release the file or device; iteration ends."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """`with source:` closes it."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()


def camera_for(camera: CameraLike, image: NDArray[np.uint8]) -> Camera | None:
    """Return the camera for images like this one, or None without one.

    Raises:
        InvalidIntrinsics: The calibration is for another picture.
    """
    if camera is None:
        return None
    size = image.shape[0], image.shape[1]
    return camera.scaled(size) if isinstance(camera, Camera) else camera.camera(size, image)
