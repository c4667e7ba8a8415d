"""Place a person in metres with a registered depth image, and measure their height on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .body.joints import J
from .geometry.camera import project
from .types import Array, Camera, HumanParams

TORSO = tuple(J[name] for name in ("pelvis", "spine1", "spine2", "spine3"))
"""Joints on the axis of the trunk: the part of a person that depth cameras see best and clothes change least."""
_AZIMUTHS = 72
_SLICE_M = 0.03
"""Half thickness of the horizontal slice of the trunk around a joint."""
_TRUNK_RADIUS_M = 0.28
"""Vertices farther out than this at the height of the trunk are arms."""
WINDOW_M = 0.05
"""Half side of the patch of depth around a joint, on the person."""
MIN_PIXELS = 20
_MIN_SIGMA_M = 0.02


@dataclass(frozen=True)
class DepthPlace:
    """A distance measured on a person.

    Attributes:
        ratio: Measured z-depth over the regressed one, for the person's trunk.
        sigma_m: One standard deviation of the measured distance [m].
    """

    ratio: float
    sigma_m: float


class TrunkSurface:
    """How far the skin is from the trunk's joints, by direction: a depth camera sees skin, a skeleton is inside.

    Args:
        body: Body model; its `rest` gives the shape.
        params: Of the person; only the shape counts.
    """

    def __init__(self, body: Any, params: HumanParams) -> None:
        vertices, joints = body.rest(params)
        self._radius = np.stack([_radii(vertices - joints[j]) for j in TORSO])

    def depth_to_skin(self, rays: Array, rotmats: Array) -> Array:
        """Return how far behind the skin the trunk's joints are along their viewing rays, (4,) [m].

        Args:
            rays: Unit vectors from the camera to the joints, (4, 3).
            rotmats: Global rotations of the joints, (4, 3, 3).
        """
        towards = -np.einsum("jba,jb->ja", rotmats, rays)  # to the camera, in SMPL's joint axes (y along the trunk)
        azimuth = np.arctan2(towards[:, 0], towards[:, 2]) * _AZIMUTHS / (2 * np.pi)
        level = np.hypot(towards[:, 0], towards[:, 2])
        radius = self._radius[np.arange(len(TORSO)), np.round(azimuth).astype(int) % _AZIMUTHS]
        return radius / np.maximum(level, 0.5)  # a slanted ray runs longer through an upright cylinder


def measure_depth(
    depth_m: Array, camera: Camera, joints: Array, joint_rotmats: Array, surface: TrunkSurface
) -> DepthPlace | None:
    """Compare the depth image with a regressed skeleton at the trunk; None where too little of it has depth.

    The median over joints and pixels is taken, so that an arm before the trunk or a hole does not count.

    Args:
        depth_m: z-depth registered to the camera's image, (h, w) [m], of any resolution.
        camera: Of the colour image.
        joints: (55, 3) [m], camera frame.
        joint_rotmats: (55, 3, 3) global.
        surface: Of this person.
    """
    places = joints[list(TORSO)].astype(np.float64)
    distance = np.linalg.norm(places, axis=1, keepdims=True)
    if not (places[:, 2] > 0.1).all():
        return None
    rays = places / distance
    behind = surface.depth_to_skin(rays, joint_rotmats[list(TORSO)]) * rays[:, 2]
    ratios = [
        (patch + behind[k]) / places[k, 2]
        for k, patch in enumerate(_patches(depth_m, camera, places))
        if len(patch) >= MIN_PIXELS
    ]
    if len(ratios) < 2:
        return None
    ratio = float(np.median([np.median(r) for r in ratios]))
    spread = 1.4826 * float(np.median(np.abs(np.concatenate(ratios) - ratio)))
    if not 0.2 < ratio < 5:
        return None
    return DepthPlace(ratio, max(_MIN_SIGMA_M, spread * float(places[0, 2])))


def _patches(depth_m: Array, camera: Camera, places: Array) -> Sequence[Array]:
    """Return the valid depths around each joint's pixel."""
    height, width = depth_m.shape
    zoom = np.array([width / camera.image_hw[1], height / camera.image_hw[0]])
    centres = (project(places, camera) + 0.5) * zoom
    reach = np.maximum(2, WINDOW_M * camera.K[0, 0] * zoom[0] / places[:, 2])
    out = []
    for (u, v), r in zip(centres, reach, strict=True):
        x0, x1, y0, y1 = (round(float(x)) for x in (u - r, u + r, v - r, v + r))
        patch = depth_m[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        out.append(patch[np.isfinite(patch) & (patch > 0)])
    return out


def _radii(offsets: Array) -> Array:
    """Return the trunk's radius around a joint by azimuth (0 = front, z; quarter = left, x), (72,) [m]."""
    flat = np.hypot(offsets[:, 0], offsets[:, 2])
    near = (np.abs(offsets[:, 1]) < _SLICE_M) & (flat < _TRUNK_RADIUS_M)
    slice_, flat = offsets[near], flat[near]
    azimuth = np.arctan2(slice_[:, 0], slice_[:, 2])
    centres = np.arange(_AZIMUTHS) * (2 * np.pi / _AZIMUTHS)
    apart = np.abs(np.angle(np.exp(1j * (centres[:, None] - azimuth[None]))))
    within = np.where(apart < np.radians(12), flat[None], -np.inf).max(axis=1)
    known = np.isfinite(within)
    if not known.any():
        raise ValueError("the body has no vertices around its trunk")
    return np.interp(np.arange(_AZIMUTHS), np.flatnonzero(known), within[known], period=_AZIMUTHS)
