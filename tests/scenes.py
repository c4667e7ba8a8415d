"""Cameras, meshes and people for the drawing and the raster tests."""

from __future__ import annotations

import numpy as np

from hsr_core.body.joints import N_JOINTS
from hsr_core.geometry.camera import project
from hsr_core.types import (
    Camera,
    EstimateSource,
    Frame,
    FrameResult,
    HumanEstimate,
    HumanParams,
    MetricSource,
    Part,
    Regression,
    TrackState,
)


def camera(width: int = 160, height: int = 120, f: float = 150.0, dist: tuple[float, ...] = (0.0,) * 5) -> Camera:
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    return Camera(K, (height, width), np.array(dist))


def sphere(center: tuple[float, float, float], radius: float, subdivisions: int = 4):
    """Vertices and outward faces of an icosphere."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return (mesh.vertices + center).astype(np.float32), mesh.faces.astype(np.int32)


def person(joints: np.ndarray, cam: Camera, track_id: int = 1, bbox: tuple[float, ...] = (10, 10, 60, 100)):
    """An estimate with these joints, all seen."""
    regression = Regression(
        HumanParams(), np.array(bbox, np.float32), 0.9, np.ones(N_JOINTS, np.float32), np.ones(4, np.float32),
        Part.BODY, MetricSource.ASSUMED_HEIGHT, 0.2,
    )  # fmt: skip
    keypoints = np.concatenate([project(joints, cam), np.ones((N_JOINTS, 1))], axis=1).astype(np.float32)
    return HumanEstimate(
        track_id, TrackState.TRACKED, True, regression, HumanParams(), joints.astype(np.float32),
        np.tile(np.eye(3, dtype=np.float32), (N_JOINTS, 1, 1)), keypoints,
    )  # fmt: skip


def result(cam: Camera, *people: HumanEstimate) -> FrameResult:
    return FrameResult(1, 0, "cam", cam, people, {}, EstimateSource.SMOOTHED)


def frame(cam: Camera, grey: int = 128, channels: int = 3, order: str = "bgr") -> Frame:
    shape = (*cam.image_hw, channels) if channels > 1 else cam.image_hw
    return Frame(np.full(shape, grey, np.uint8), 0, order, camera=cam)
