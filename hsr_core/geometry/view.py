"""What providers of depth and masks get: one image, its camera, and the bodies believed to be in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Array, Camera, Frame
from .raster import Topology, image_points, rasterize
from .regions import Mask, grow


@dataclass(frozen=True, eq=False)
class BodyView:
    """One person's posed body in one camera. What is derived from it is computed once, when it is asked for.

    Attributes:
        track_id: Of the body track.
        vertices: (V, 3) [m], camera frame.
        topology: Its triangles; one object for all frames.
        camera: Of the image.
        joints: (55, 3) [m], camera frame.
        keypoints2d: (55, 3) u, v [px] and score, where they were seen; None when nothing was measured in the image.
        stature_m: Height of the person the body has been shaped to [m]; None = unknown.
    """

    track_id: int
    vertices: Array
    topology: Topology
    camera: Camera
    joints: Array | None = None
    keypoints2d: Array | None = None
    stature_m: float | None = None

    @cached_property
    def depth_m(self) -> Array:
        """z-depth of the body's visible surface, float32 (H, W) [m], 0 outside."""
        return mesh_depth(self.vertices, self.topology, self.camera)

    @cached_property
    def mask(self) -> Mask:
        """Silhouette (H, W)."""
        return self.depth_m > 0

    @cached_property
    def distance_m(self) -> float:
        """Median z-depth of the vertices [m]."""
        return float(np.median(self.vertices[:, 2]))

    @cached_property
    def box_xyxy(self) -> Array:
        """Half-open box of the projected body (4,) [px], not cut at the image. NaN when behind the camera."""
        uv, _ = image_points(np.asarray(self.vertices, np.float32), self.camera)
        uv = uv[np.isfinite(uv).all(axis=1)]
        if not len(uv):
            return np.full(4, np.nan)
        return np.concatenate([uv.min(0), uv.max(0) + 1]).astype(np.float64)

    @property
    def height_px(self) -> float:
        """Height of the projected body [px]."""
        return float(self.box_xyxy[3] - self.box_xyxy[1])

    def margin_px(self, margin_m: float) -> float:
        """Return how many pixels a length is at the body's distance."""
        return float(self.camera.K[0, 0] * margin_m / max(self.distance_m, 0.1))

    def silhouette(self, margin_m: float) -> Mask:
        """Return the silhouette (H, W) widened by a length [m], as clothes widen it."""
        return grow(self.mask, self.margin_px(margin_m))


@dataclass(frozen=True, eq=False)
class FrameView:
    """One image with the bodies believed to be in it.

    Attributes:
        frame: The image.
        camera: Its camera.
        bodies: In any order.
    """

    frame: Frame
    camera: Camera
    bodies: tuple[BodyView, ...] = ()

    @property
    def stamp_ns(self) -> int:
        return self.frame.stamp_ns

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """The image as contiguous RGB, uint8 (H, W, 3)."""
        return rgb_of(self.frame)


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    """Return a frame's image as contiguous RGB, uint8 (H, W, 3)."""
    image, order = frame.image, frame.order
    if order == "mono":
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if order == "bgr":
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image[..., :3])


def mesh_depth(vertices: Array, topology: Topology, camera: Camera) -> Array:
    """Return the z-depth of a mesh's first surface, float32 (H, W) [m], 0 where there is none.

    Args:
        vertices: (V, 3) [m], camera frame.
        topology: Closed surface, counter-clockwise from outside.
        camera: Gives the size; distortion is applied.
    """
    uv, inv_depth = image_points(np.asarray(vertices, np.float32), camera)
    seen = rasterize(uv, inv_depth, topology, camera.image_hw)
    depth_m = np.zeros(camera.image_hw, np.float32)
    depth_m.reshape(-1)[seen.pixel] = 1 / seen.inv_depth
    return depth_m
