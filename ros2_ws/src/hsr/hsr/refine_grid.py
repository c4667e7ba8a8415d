"""The grid that images are refined in: no larger than needed, and without lens distortion."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from hsr_core.geometry.camera import straightening, undistort_points
from hsr_core.types import Array, Camera

_DTYPES = {"16UC1": "u2", "32FC1": "f4", "mono8": "u1", "8UC1": "u1"}


class Grid:
    """Brings images of a camera into the refinement's grid. Where there is nothing to do nothing is copied.

    Args:
        source: The camera, distortion included.
        max_side_px: Longer side of the refined images at most; 0 = as they are.

    Attributes:
        camera: Of the refined images: scaled, without distortion.
    """

    def __init__(self, source: Camera, max_side_px: int = 0) -> None:
        self.source = source
        height, width = source.image_hw
        factor = min(1.0, max_side_px / max(height, width)) if max_side_px else 1.0
        self._small = source.scaled((round(height * factor), round(width * factor)))
        self.camera = self._small
        self._maps: tuple[Array, Array] | None = None
        if source.distorted:
            self.camera, self._maps = straightening(self._small)

    @property
    def _size(self) -> tuple[int, int]:
        return self._small.image_hw[::-1]

    @property
    def same(self) -> bool:
        """True when images are taken as they come."""
        return self.camera is self.source

    def smooth(self, image: Array) -> Array:
        """Return an image (H, W) or (H, W, C), shrunk by area and interpolated; black where the camera saw nothing."""
        if self._small is not self.source:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        return image if self._maps is None else cv2.remap(np.ascontiguousarray(image), *self._maps, cv2.INTER_LINEAR)

    def picked(self, values: Array, *, straighten: bool = True) -> Array:
        """Return values (H, W) of the nearest pixel: depths and labels are not averaged; 0 outside.

        Args:
            straighten: False leaves the distortion as it is.
        """
        if values.shape != self._small.image_hw:
            values = cv2.resize(values, self._size, interpolation=cv2.INTER_NEAREST_EXACT)
        if self._maps is None or not straighten:
            return values
        return cv2.remap(np.ascontiguousarray(values), *self._maps, cv2.INTER_NEAREST)

    def points(self, uv: Array) -> Array:
        """Return where pixels (..., 2) of the images as they come lie in the grid."""
        scale = np.array(self._size) / self.source.image_hw[::-1]
        return undistort_points((np.asarray(uv, np.float64) + 0.5) * scale - 0.5, self._small)

    def pick_message(self, msg: Image, *, straighten: bool = True) -> tuple[Any, tuple[int, int], int, bool]:
        """Return (data, (H, W), step, big endian) of a mask in the grid; see `pick`."""
        hw = msg.height, msg.width
        return self.pick(msg.data, hw, msg.step, msg.encoding, bool(msg.is_bigendian), straighten=straighten)

    def pick(
        self,
        data: Any,
        hw: tuple[int, int],
        step: int,
        encoding: str,
        big_endian: bool,
        *,
        straighten: bool = True,
        resized: bool = False,
    ) -> tuple[Any, tuple[int, int], int, bool]:
        """Return (data, (H, W), step, big endian) of a depth image or mask in the grid.

        One that does not fit is returned as it came: the provider refuses it and says why.

        Args:
            straighten: False leaves the distortion as it is.
            resized: It is the same picture at another size.
        """
        as_it_came = data, hw, step, big_endian
        fits = resized or hw == self.source.image_hw
        if encoding not in _DTYPES or not fits or (self.same and hw == self.source.image_hw):
            return as_it_came
        dtype = np.dtype((">" if big_endian else "<") + _DTYPES[encoding])
        if step < hw[1] * dtype.itemsize or len(data) < step * hw[0]:
            return as_it_came
        values = np.ndarray(hw, dtype, buffer=data, strides=(step, dtype.itemsize))
        picked = self.picked(values.astype(dtype.newbyteorder("=")), straighten=straighten)
        flat = np.ascontiguousarray(picked).reshape(-1).view(np.uint8)
        return flat, picked.shape, picked.shape[1] * dtype.itemsize, sys.byteorder == "big"
