"""Distance from the person's height: no depth image, no network, always there.

The depth is the posed body's own surface at the translation that explains the key points. It initialises; it must not
be compared with the body it came from (`DepthFrame.measured` is False).
"""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..geometry.camera import unproject
from ..geometry.view import BodyView, FrameView, mesh_depth
from ..types import Array, MetricSource
from .base import DepthFrame, DepthSettings

SIGMA_UNKNOWN, SIGMA_KNOWN = 0.05, 0.01
"""Relative error of the distance: that of an unknown adult's stature, and of one that was given."""
MIN_JOINTS = 6
_PASSES = 3
_HUBER_PX = 3.0


class BodyHeight:
    """The z-buffer of every body, moved to where its key points say it is.

    Args:
        height_m: Height of the person [m]; 0 = unknown, the body's own is taken.
    """

    name = "body_height"

    def __init__(self, height_m: float = 0.0) -> None:
        self.height_m = height_m
        self.status = ""

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        bodies = [body for body in view.bodies if np.isfinite(body.vertices).all()]
        if not bodies:
            self.status = "nobody is in the image"
            return None
        depth_m = np.zeros(view.camera.image_hw, np.float32)
        for body in bodies:
            one = self._surface(body)
            np.copyto(depth_m, one, where=(one > 0) & ((depth_m == 0) | (one < depth_m)))
        known = self.height_m > 0 and all(body.stature_m for body in bodies)
        self.status = ""
        return DepthFrame(
            depth_m,
            view.camera.K,
            view.stamp_ns,
            view.frame.frame_id,
            MetricSource.ASSUMED_HEIGHT,
            SIGMA_KNOWN if known else SIGMA_UNKNOWN,
            0.0,
            provider=self.name,
        )

    def placed(self, body: BodyView) -> tuple[float, Array] | None:
        """Return (size, offset (3,) [m]) with which `size * vertices + offset` explains the key points, or None.

        None without key points, or with fewer than `MIN_JOINTS` of them.
        """
        if body.joints is None or body.keypoints2d is None:
            return None
        seen = body.keypoints2d[:, 2] > 0
        size = self.height_m / body.stature_m if self.height_m > 0 and body.stature_m else 1.0
        if np.count_nonzero(seen) < MIN_JOINTS:
            return None
        joints = body.joints[seen] * size
        offset = solve_translation(joints, body.keypoints2d[seen, :2], body.keypoints2d[seen, 2], body.camera.K)
        return (size, offset) if (joints[:, 2] + offset[2] > 0.1).all() else None

    def reset(self) -> None:
        """Nothing is remembered between images."""

    def close(self) -> None:
        """Nothing to release."""

    def _surface(self, body: BodyView) -> Array:
        placed = self.placed(body)
        if placed is None:
            return body.depth_m
        size, offset = placed
        return mesh_depth(body.vertices * np.float32(size) + offset.astype(np.float32), body.topology, body.camera)


def solve_translation(joints: Array, uv: Array, weights: Array, K: Array) -> Array:
    """Return the translation (3,) [m] that moves joints onto their undistorted pixels.

    Weighted least squares on the reprojection multiplied by depth, which is linear in the translation; residuals in
    pixels reweight it three times (Huber).

    Args:
        joints: (J, 3) [m], from any origin, oriented as in the camera frame.
        uv: (J, 2) [px], pixel centres at integers.
        weights: (J,) >= 0.
        K: Intrinsics.

    Raises:
        ShapeError: Fewer than six joints.
    """
    if len(joints) < MIN_JOINTS:
        raise ShapeError(f"a translation needs {MIN_JOINTS} joints or more, not {len(joints)}")
    joints, uv = np.asarray(joints, np.float64), np.asarray(uv, np.float64)
    x, y, one = unproject(uv, np.ones(len(uv)), K).T
    zero = np.zeros_like(x)
    A = np.stack([np.stack([one, zero, -x], 1), np.stack([zero, one, -y], 1)], 1)  # (J, 2, 3)
    b = np.stack([x * joints[:, 2] - joints[:, 0], y * joints[:, 2] - joints[:, 1]], 1)  # (J, 2)
    robust, transl = np.ones(len(joints)), np.zeros(3)
    for _ in range(1 + _PASSES):
        # Dividing by the depth of the last pass makes the residual one of the image plane again.
        depth = np.maximum(joints[:, 2] + transl[2], 0.1) if transl.any() else one
        w = np.sqrt(np.maximum(weights, 0) * robust) / depth
        transl = np.linalg.lstsq((A * w[:, None, None]).reshape(-1, 3), (b * w[:, None]).reshape(-1), rcond=None)[0]
        placed = joints + transl
        z = np.maximum(placed[:, 2], 0.1)
        error = np.hypot((placed[:, 0] / z - x) * K[0, 0], (placed[:, 1] / z - y) * K[1, 1])
        robust = np.minimum(1.0, _HUBER_PX / np.maximum(error, 1e-9))
    return transl


def create(settings: DepthSettings, *, height_m: float = 0.0, **_: object) -> BodyHeight:
    """Factory for the registry."""
    return BodyHeight(height_m)
