"""Square, rotated regions of interest, and cropping them from a frame of any channel order."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import apply_affine, crop_transform, invert_affine
from ..types import Array, Frame


@dataclass(frozen=True)
class Roi:
    """A rotated square of the full image.

    Attributes:
        center: (2,) [px], edge coordinates.
        size_px: Side.
        angle_rad: Clockwise as seen; 0 = upright.
    """

    center: tuple[float, float]
    size_px: float
    angle_rad: float = 0.0

    @classmethod
    def about(cls, uv: Array, size_px: float, angle_rad: float) -> Roi:
        """Return the square whose middle is a pixel (2,), its centre at an integer."""
        return cls((float(uv[0]) + 0.5, float(uv[1]) + 0.5), float(size_px), float(angle_rad))

    @classmethod
    def around(cls, uv: Array, angle_rad: float) -> Roi:
        """Return the square of the box that holds pixels (N, 2) and is turned by an angle."""
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        R = np.array([[cos, -sin], [sin, cos]])
        turned = uv @ R
        low, high = turned.min(0), turned.max(0)
        return cls.about(R @ ((low + high) / 2), (high - low).max(), angle_rad)

    def transform(self, out_px: int) -> Array:
        """Return A_crop_img (2, 3) to a crop of side `out_px`."""
        return crop_transform(self.center, self.size_px, self.angle_rad, out_px)

    def shifted(self, dx: float, dy: float, scale: float = 1.0) -> Roi:
        """Return the square moved by fractions of its side along its own axes and scaled."""
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        step = self.size_px * np.array([dx * cos - dy * sin, dx * sin + dy * cos])
        center = (self.center[0] + float(step[0]), self.center[1] + float(step[1]))
        return Roi(center, self.size_px * scale, self.angle_rad)

    def usable(self, image_hw: tuple[int, int]) -> bool:
        """True when the square is at least 8 px wide, finite, and its centre is near the image."""
        height, width = image_hw
        values = (*self.center, self.size_px, self.angle_rad)
        margin = self.size_px / 2
        return bool(
            np.isfinite(values).all()
            and 8 <= self.size_px <= 8 * max(height, width)
            and -margin <= self.center[0] <= width + margin
            and -margin <= self.center[1] <= height + margin
        )


def crop_rgb(frame: Frame, A_crop_img: Array, out: Array, *, low: float = 0.0) -> None:
    """Cut a region into a network's input: RGB, [low, 1], zero (black) outside the image.

    Args:
        frame: Any channel order.
        A_crop_img: (2, 3), integer-centre pixels on both sides.
        out: float32 (S, S, 3), written in place.
        low: What black becomes: 0 or -1.
    """
    np.multiply(cut_rgb(frame, A_crop_img, out.shape[0]), (1 - low) / 255, out=out, casting="unsafe")
    if low:
        out += low


def cut_rgb(frame: Frame, A_crop_img: Array, side: int) -> NDArray[np.uint8]:
    """Return a region as uint8 RGB (side, side, 3), black outside the image; integer-centre pixels on both sides."""
    border = cv2.BORDER_CONSTANT
    crop = cv2.warpAffine(frame.image, A_crop_img, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    if frame.order == "mono":
        return cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB)
    if frame.order == "bgr":
        return cv2.cvtColor(crop, cv2.COLOR_BGRA2RGB if crop.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return crop[..., :3]


def to_image(roi: Roi, crop_points: Array, crop_px: int) -> Array:
    """Return crop points (..., >=2) as full-image pixels; further columns are dropped."""
    return apply_affine(invert_affine(roi.transform(crop_px)), crop_points[..., :2])


def near(roi: Roi, uv: Array) -> bool:
    """True when the point (2,) [px] lies within the square, or little outside."""
    return bool(np.hypot(uv[0] - roi.center[0], uv[1] - roi.center[1]) < 0.75 * roi.size_px)


def wrap_angle(angle_rad: float) -> float:
    """Return the angle in (-pi, pi]."""
    return float(angle_rad - 2 * np.pi * np.ceil((angle_rad - np.pi) / (2 * np.pi)))
