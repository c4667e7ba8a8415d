"""Whether a depth image lies in the colour camera's grid, and how to bring it there."""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import BadFrame, InvalidIntrinsics, ShapeError
from ..geometry.camera import project, undistort_points, unproject
from ..types import Array, Camera
from .base import K_TOLERANCE, same_intrinsics

_REMEDY = (
    "let the driver align depth to colour (docs/cameras.md), or set depth.register to true and provide tf between the "
    "two cameras"
)
_SAME_SURFACE = 0.02
"""A hole is filled from neighbours within this share of the nearest one's depth: those of one surface."""
_NEIGHBOURS = 4
"""A hole with fewer valid neighbours of eight is at an edge, not in a surface."""


def check_registered(hw: tuple[int, int], frame_id: str, depth_camera: Camera | None, camera: Camera) -> None:
    """Refuse a depth image that is not in the colour image's grid, or the same picture at another size.

    Args:
        hw: Size of the depth image.
        frame_id: Of the depth image; "" = not known.
        depth_camera: From its camera info; None when there is none: size and frame decide, and the sizes must be equal.
        camera: Colour camera.

    Raises:
        BadFrame: Size, frame or intrinsics differ; the message gives both and the remedy.
    """
    if hw != camera.image_hw:
        depth_camera = _resized(hw, depth_camera, camera)
    if frame_id and camera.frame_id and frame_id != camera.frame_id:
        raise BadFrame(f"depth is in frame {frame_id!r}, the image in {camera.frame_id!r}: not registered; {_REMEDY}")
    if depth_camera is not None and not same_intrinsics(depth_camera.K, camera.K):
        values = "; ".join(
            f"{what} fx {c.K[0, 0]:.1f} fy {c.K[1, 1]:.1f} cx {c.K[0, 2]:.1f} cy {c.K[1, 2]:.1f}"
            for what, c in (("depth", depth_camera), ("colour", camera))
        )
        raise BadFrame(f"intrinsics differ by more than {K_TOLERANCE:.1%} ({values}): not registered; {_REMEDY}")


def _resized(hw: tuple[int, int], depth_camera: Camera | None, camera: Camera) -> Camera:
    """Return the depth camera at the colour image's size, where its images are the same picture at another."""
    sizes = f"depth is {hw[1]}x{hw[0]}, the image {camera.image_hw[1]}x{camera.image_hw[0]}"
    if depth_camera is None:
        raise BadFrame(f"{sizes}: not registered, or depth_info is missing, which would tell; {_REMEDY}")
    try:
        return depth_camera.scaled(hw).scaled(camera.image_hw)
    except InvalidIntrinsics as error:
        raise BadFrame(f"{sizes}: not registered; {_REMEDY}") from error


class Registration:
    """Re-projects depth images of one camera into another: points, z-buffer, then holes of one pixel.

    Args:
        depth_camera: Where the depth comes from.
        camera: Colour camera, distortion included.
        T_color_depth: (4, 4), x_color = T x_depth [m].
    """

    def __init__(self, depth_camera: Camera, camera: Camera, T_color_depth: Array) -> None:
        T = np.asarray(T_color_depth, np.float64)
        if T.shape != (4, 4):
            raise ShapeError(f"T_color_depth must have shape (4, 4), not {T.shape}")
        self.depth_camera, self.camera, self.T_color_depth = depth_camera, camera, T
        height, width = depth_camera.image_hw
        uv = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
        K = depth_camera.K
        # Rotated once: a depth z is then one multiplication and one addition away from the colour frame.
        self._rays = unproject(undistort_points(uv, depth_camera), np.ones(len(uv)), K) @ T[:3, :3].T
        self._footprint = np.array([camera.K[0, 0] / K[0, 0], camera.K[1, 1] / K[1, 1]])

    def __call__(self, depth_m: Array) -> Array:
        """Return depth in the colour camera's grid, float32 (H, W) [m], 0 = none.

        Args:
            depth_m: Of the depth camera, (h, w) [m], 0 = invalid.

        Raises:
            BadFrame: Its size is not the depth camera's.
        """
        if depth_m.shape != self.depth_camera.image_hw:
            raise BadFrame(f"depth image is {depth_m.shape}, its camera info {self.depth_camera.image_hw}")
        flat = depth_m.reshape(-1)
        valid = np.flatnonzero(flat > 0)
        z = flat[valid].astype(np.float64)
        points = self._rays[valid] * z[:, None] + self.T_color_depth[:3, 3]
        uv = project(points, self.camera)
        out = self._z_buffer(uv, points[:, 2], z)
        fill_holes(out)
        return out

    def _z_buffer(self, uv: Array, z_color: Array, z_depth: Array) -> Array:
        """Draw every depth pixel as a square of its size in the colour image; the nearest stays."""
        height, width = self.camera.image_hw
        inside = np.isfinite(uv).all(axis=1) & (z_color > 0)
        uv, z_color, z_depth = uv[inside], z_color[inside], z_depth[inside]
        buffer = np.full(height * width, np.inf, np.float32)
        if not len(uv):
            return np.zeros((height, width), np.float32)
        # A little less than the pixel's size: neighbours then meet and hardly overlap.
        sides = np.ceil(self._footprint * np.median(z_depth / z_color) - 0.25).clip(1, 8).astype(int)
        first = np.floor(uv - (sides - 1) / 2 + 0.5).astype(np.int64)
        near = z_color.astype(np.float32)
        for dy in range(sides[1]):
            for dx in range(sides[0]):
                x, y = first[:, 0] + dx, first[:, 1] + dy
                on = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                np.minimum.at(buffer, y[on] * width + x[on], near[on])
        buffer[np.isinf(buffer)] = 0
        return buffer.reshape(height, width)


def fill_holes(depth_m: Array) -> None:
    """Fill invalid pixels that lie within a surface with the mean of that surface's pixels in 3 x 3, in place."""
    valid = (depth_m > 0).view(np.uint8)
    around = cv2.boxFilter(valid, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    rows, columns = np.nonzero((valid == 0) & (around >= _NEIGHBOURS))
    if not len(rows):
        return
    padded = np.pad(depth_m, 1)
    near = np.stack(
        [padded[rows + dy, columns + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)], axis=1
    )
    near[near <= 0] = np.inf
    nearest = near.min(axis=1, keepdims=True)
    same = near <= nearest * (1 + _SAME_SURFACE)
    filled = np.where(same, near, 0).sum(1) / same.sum(1)
    depth_m[rows, columns] = np.where(same.sum(1) >= _NEIGHBOURS, filled, 0)
