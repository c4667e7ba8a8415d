"""A drawn figure that walks and waves, the same pictures every time.

It exercises everything around a regressor. It is no photograph: expect no network to find a person in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Frame
from .base import CameraLike, Closing, camera_for


class SyntheticSource(Closing):
    """`frame_count` pictures of a moving stick figure before a textured wall; a pure function of the index."""

    name = "synthetic"

    def __init__(
        self,
        *,
        camera: CameraLike = None,
        image_hw: tuple[int, int] = (480, 640),
        fps: float = 30.0,
        frame_count: int | None = 150,
    ) -> None:
        self.image_hw, self.fps, self.frame_count = image_hw, fps, frame_count
        self.skipped, self.truncated = 0, False
        noise = np.random.default_rng(0).integers(90, 130, (image_hw[0] // 8 + 1, image_hw[1] // 8 + 1), np.uint8)
        wall = cv2.resize(noise, (image_hw[1], image_hw[0]), interpolation=cv2.INTER_CUBIC)
        self._wall = cv2.merge([wall, wall, wall])
        self._camera = camera_for(camera, self._wall)
        self._open = True

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self._open and (self.frame_count is None or index < self.frame_count):
            stamp_ns = round(index * 1e9 / self.fps)
            yield Frame(self.picture(stamp_ns / 1e9), stamp_ns, "bgr", camera=self._camera, index=index)
            index += 1

    def picture(self, time_s: float) -> NDArray[np.uint8]:
        """Return the picture at a time, BGR (H, W, 3) in memory of its own."""
        image = self._wall.copy()
        height, width = self.image_hw
        unit = height / 10  # the figure is about 7.5 units tall
        x = width * (0.5 + 0.25 * np.sin(0.8 * time_s))
        swing, wave = 0.5 * np.sin(4 * time_s), 2.2 + 0.5 * np.sin(6 * time_s)

        def limb(x0: float, y0: float, angle: float, length: float, color: tuple[int, int, int]) -> tuple[float, float]:
            x1, y1 = x0 + length * unit * np.sin(angle), y0 + length * unit * np.cos(angle)
            cv2.line(image, _px(x0, y0), _px(x1, y1), color, max(2, int(unit / 2)), cv2.LINE_AA, _SHIFT)
            return x1, y1

        hip, neck = 5.6 * unit, 3.0 * unit
        for side in (-1, 1):
            knee = limb(x + 0.3 * side * unit, hip, side * swing, 1.9, (120, 60, 40))
            limb(*knee, side * swing - 0.3 * abs(swing), 1.9, (120, 60, 40))
        limb(x, hip, np.pi, 2.6, (60, 60, 180))
        elbow = limb(x + 0.6 * unit, neck, 1.2, 1.3, (60, 60, 180))
        limb(*elbow, wave, 1.2, (140, 170, 220))
        elbow = limb(x - 0.6 * unit, neck, -0.2 + swing / 2, 1.3, (60, 60, 180))
        limb(*elbow, -0.1 + swing / 2, 1.2, (140, 170, 220))
        cv2.circle(
            image, _px(x, neck - 0.9 * unit), int(0.6 * unit) << _SHIFT, (140, 170, 220), -1, cv2.LINE_AA, _SHIFT
        )
        return image

    def close(self) -> None:
        self._open = False


_SHIFT = 4


def _px(x: float, y: float) -> tuple[int, int]:
    """Sub-pixel point in OpenCV's fixed-point form, so that slow motion is smooth."""
    return round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))
