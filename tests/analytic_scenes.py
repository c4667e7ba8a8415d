"""Analytic scenes: planes and spheres whose depth in a pinhole camera is known in closed form."""

from __future__ import annotations

import numpy as np

from hsr_core.geometry.camera import unproject
from hsr_core.geometry.raster import Topology
from hsr_core.geometry.view import BodyView, FrameView
from hsr_core.types import Camera, Frame

NORMAL, OFFSET = np.array([0.15, -0.1, 1.0]), 3.0
"""A slanted plane: NORMAL . X = OFFSET [m]."""
CENTER, RADIUS = np.array([0.2, -0.1, 2.4]), 0.5


def rays(camera: Camera) -> np.ndarray:
    """Directions at z = 1, (H, W, 3)."""
    height, width = camera.image_hw
    uv = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    return unproject(uv, np.ones((height, width)), camera.K)


def plane_depth(camera: Camera) -> np.ndarray:
    return OFFSET / (rays(camera) @ NORMAL)


def sphere_depth(camera: Camera, center=CENTER, radius: float = RADIUS) -> np.ndarray:
    """z-depth of a sphere, 0 where the ray misses it."""
    d = rays(camera)
    a, b, c = (d * d).sum(-1), d @ center, center @ center - radius**2
    inside = b * b - a * c
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0.0)


def scene_depth(camera: Camera) -> np.ndarray:
    """The sphere before the plane."""
    ball = sphere_depth(camera)
    return np.where(ball > 0, ball, plane_depth(camera))


def camera(width=320, height=240, fx=300.0, fy=310.0, cx=151.3, cy=118.2, frame_id="color") -> Camera:
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), (height, width), frame_id=frame_id)


def ball(cam: Camera, center=CENTER, radius: float = RADIUS, track_id: int = 1, **more) -> BodyView:
    """A sphere that stands for a person."""
    import trimesh

    mesh = trimesh.creation.icosphere(4, radius)
    vertices = (mesh.vertices + center).astype(np.float32)
    return BodyView(track_id, vertices, Topology(mesh.faces.astype(np.int32)), cam, **more)


def view(cam: Camera, *bodies: BodyView, stamp_ns: int = 0, image: np.ndarray | None = None, depth_m=None) -> FrameView:
    image = np.full((*cam.image_hw, 3), 90, np.uint8) if image is None else image
    return FrameView(Frame(image, stamp_ns, "rgb", cam.frame_id, cam, depth_m), cam, bodies)
