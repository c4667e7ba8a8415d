"""Between the image's grid and a depth network's."""

from __future__ import annotations

import cv2
import numpy as np

from ..geometry.view import FrameView
from ..types import Array

PATCH = 14
"""Sides of the network's input are multiples of this: DINOv2's patch."""
PIXELS = (0.2e6, 0.6e6)
"""Smallest and largest input of UniDepthV2 [px]."""
ASPECT = (0.5, 2.5)
"""Width over height that it was trained with."""
_LEVELS = 10


def working_size(image_hw: tuple[int, int], level: int, pixels: tuple[float, float] = PIXELS) -> tuple[int, int]:
    """Return (height, width), multiples of 14, in the middle of a tenth of the network's range, near the aspect.

    The network would round the sides up itself, with one scale for both axes of K: up to 3 % wrong in one focal length.

    Args:
        image_hw: Of the image.
        level: 0 (small) to 9 (large).
        pixels: The network's range.
    """
    step = (pixels[1] - pixels[0]) / _LEVELS
    low, high = pixels[0] + level * step, pixels[0] + (level + 1) * step
    aspect = float(np.clip(image_hw[1] / image_hw[0], *ASPECT))
    heights = np.arange(PATCH, int(np.sqrt(high / ASPECT[0])) + PATCH, PATCH)
    height, width = np.meshgrid(heights, np.arange(PATCH, int(np.sqrt(high * ASPECT[1])) + PATCH, PATCH))
    area, ratio = height * width, width / height
    # Clear of the bounds and of the aspect's limits, so that the network itself neither resizes nor pads.
    allowed = (area > low) & (area < high) & (ratio >= ASPECT[0]) & (ratio <= ASPECT[1])
    stretch = np.where(allowed, np.abs(np.log(ratio / aspect)), np.inf)
    best = np.unravel_index(np.argmin(stretch), stretch.shape)
    return int(height[best]), int(width[best])


def to_image(values: Array, image_hw: tuple[int, int]) -> Array:
    """Return a network's map in the image's size, float32, bilinear."""
    values = np.ascontiguousarray(values, np.float32)
    return cv2.resize(values, (image_hw[1], image_hw[0]), interpolation=cv2.INTER_LINEAR)


def depth_to_image(depth_m: Array, image_hw: tuple[int, int]) -> Array:
    """Return a network's depth in the image's size; 0 where it, or a pixel it is mixed from, is not valid."""
    good = np.isfinite(depth_m) & (depth_m > 0)
    if good.all():
        return to_image(depth_m, image_hw)
    out = to_image(np.where(good, depth_m, 0), image_hw)
    out[to_image(good, image_hw) < 1 - 1e-4] = 0
    return out


def lens_problem(view: FrameView) -> str:
    """Return why the networks, which take a pinhole camera, cannot have this image; "" where they can."""
    if view.camera.distorted:
        return "a depth network takes undistorted images: rectify the image and give its K without distortion"
    return ""
