"""From an RGB picture to the input that networks of the ImageNet family take."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Array

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's, of RGB in [0, 1]."""


def resize_rgb(rgb: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture in another size; averaged when it becomes smaller. Pixel edges align."""
    shrinks = hw[0] * hw[1] < rgb.shape[0] * rgb.shape[1]
    return cv2.resize(rgb, (hw[1], hw[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def write_normalised(rgb: NDArray[np.uint8], out: Array) -> None:
    """Write uint8 (H, W, 3) into float32 (3, H, W), with ImageNet's mean and deviation taken out."""
    scaled = rgb * (1 / (255 * _STD)) - _MEAN / _STD
    np.copyto(out, scaled.transpose(2, 0, 1), casting="same_kind")
