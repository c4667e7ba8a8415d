"""Project, undistort and crop. Pixel centres are at integers, camera axes are the optical ones."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ..types import Array, Camera
from .rotations import rotation_between


def project(points: Array, camera: Camera, *, distort: bool = True) -> Array:
    """Return the pixels of points in the camera frame.

    Points behind the camera give NaN: they have no pixel.

    Args:
        points: Shape (..., 3), [m], optical frame.
        camera: Intrinsics and distortion.
        distort: Apply the lens distortion (pixels of the image as it came).

    Returns:
        Shape (..., 2), [px].
    """
    points = np.asarray(points, np.float64)
    flat = points.reshape(-1, 3)
    front = flat[:, 2] > 1e-6
    uv = np.full((len(flat), 2), np.nan)
    if distort and camera.distorted:
        if front.any():
            rays = np.ascontiguousarray(flat[front][:, None])
            zero = np.zeros(3)
            if camera.model == "equidistant":
                pixels, _ = cv2.fisheye.projectPoints(rays, zero, zero, camera.K, camera.dist[:4])
            else:
                pixels, _ = cv2.projectPoints(rays, zero, zero, camera.K, camera.dist)
            uv[front] = pixels[:, 0]
    else:
        K = camera.K
        xy = flat[front, :2] / flat[front, 2:]
        uv[front, 0] = K[0, 0] * xy[:, 0] + K[0, 1] * xy[:, 1] + K[0, 2]
        uv[front, 1] = K[1, 1] * xy[:, 1] + K[1, 2]
    return uv.reshape(*points.shape[:-1], 2)


def undistort_points(uv: Array, camera: Camera) -> Array:
    """Return where the pixels would lie without lens distortion, under the same K. Shape (..., 2) [px]."""
    uv = np.asarray(uv, np.float64)
    if not camera.distorted:
        return uv
    flat = np.ascontiguousarray(uv.reshape(-1, 1, 2))
    if camera.model == "equidistant":
        out = cv2.fisheye.undistortPoints(flat, camera.K, camera.dist[:4], P=camera.K)
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-8)
        out = cv2.undistortPointsIter(flat, camera.K, camera.dist, np.eye(3), camera.K, criteria)
    return out.reshape(uv.shape)


def straightening(camera: Camera) -> tuple[Camera, tuple[Array, Array]]:
    """Return the camera without its lens distortion, under the same K, and the maps of `cv2.remap` to its images."""
    fisheye = camera.model == "equidistant"
    make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    dist = camera.dist[:4] if fisheye else camera.dist
    maps = make(camera.K, dist, np.eye(3), camera.K, camera.image_hw[::-1], cv2.CV_32FC1)
    return replace(camera, dist=np.zeros(5), model="plumb_bob"), maps


def unproject(uv: Array, depth_m: Array, K: Array) -> Array:
    """Return camera-frame points of undistorted pixels at z-depth `depth_m`. Shape (..., 2), (...) -> (..., 3) [m]."""
    uv, depth_m = np.asarray(uv, np.float64), np.asarray(depth_m, np.float64)
    y = (uv[..., 1] - K[1, 2]) / K[1, 1]
    x = (uv[..., 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return np.stack([x * depth_m, y * depth_m, depth_m], -1)


def ray_rotation(uv: Array, K: Array) -> Array:
    """Return the smallest rotation (3, 3) from the optical axis to the ray through an undistorted pixel (2,).

    A network that sees a crop as if it lay in the middle of the picture gives directions relative to the crop's ray.
    """
    y = (uv[1] - K[1, 2]) / K[1, 1]
    x = (uv[0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return rotation_between(np.array([0.0, 0, 1]), np.array([x, y, 1.0]))


def fit_translation(points: Array, uv: Array, K: Array, roots: Array | None = None) -> Array | None:
    """Return the translation (3,) [m] that best brings points onto pixels, or None where they do not tell it.

    Least squares on the reprojection multiplied by depth, which is linear; exact for exact projections.

    Args:
        points: (N, 3) [m], oriented as in the camera frame.
        uv: (N, 2) undistorted pixels.
        K: (3, 3).
        roots: (N,) square roots of the points' weights; None = all count the same.
    """
    f, offset = K[[0, 1], [0, 1]], uv - K[:2, 2]
    A = np.zeros((len(points), 2, 3))
    A[:, 0, 0], A[:, 1, 1], A[:, :, 2] = f[0], f[1], -offset
    b = offset * points[:, 2:] - f * points[:, :2]
    if roots is not None:
        A, b = A * roots[:, None, None], b * roots[:, None]
    solution, _, rank, _ = np.linalg.lstsq(A.reshape(-1, 3), b.reshape(-1), rcond=None)
    return solution if rank == 3 else None


def crop_transform(center: Array, size_px: float, angle_rad: float, out_px: int) -> Array:
    """Return A_crop_img (2, 3): a rotated square of the image to an out_px x out_px crop.

    The square's edges map to the crop's edges (pixel centres at integers on both sides).

    Args:
        center: Middle of the square, (2,) [px] in edge coordinates of the full image
            (a pixel's centre is at +0.5).
        size_px: Side of the square in the full image.
        angle_rad: Rotation of the square, clockwise positive as seen (y down).
        out_px: Side of the crop.
    """
    scale = out_px / size_px
    cos, sin = np.cos(angle_rad) * scale, np.sin(angle_rad) * scale
    A = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
    A[:, 2] = out_px / 2 - 0.5 - A[:, :2] @ (np.asarray(center, np.float64) - 0.5)
    return A


def invert_affine(A: Array) -> Array:
    """Return the inverse of a (2, 3) pixel transform."""
    inverse = np.linalg.inv(A[:, :2])
    return np.concatenate([inverse, -(inverse @ A[:, 2:])], axis=1)


def apply_affine(A: Array, uv: Array) -> Array:
    """Apply a (2, 3) pixel transform to points. Shape (..., 2)."""
    return uv @ A[:, :2].T + A[:, 2]


def resize_intrinsics(K: Array, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Array:
    """Return K (3, 3) for the picture resized, each axis by its own factor; pixel edges align, centres at integers."""
    (height, width), (new_height, new_width) = from_hw, to_hw
    to_edges = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    scale = np.diag([new_width / width, new_height / height, 1.0])
    return np.linalg.inv(to_edges) @ scale @ to_edges @ K


def pixel_rays(K: Array, image_hw: tuple[int, int]) -> Array:
    """Return the direction of every pixel at z = 1, float32 (3, H, W), for undistorted images."""
    height, width = image_hw
    uv = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    return np.moveaxis(unproject(uv, np.ones((height, width)), K), -1, 0).astype(np.float32)
