"""Place a person in metres with a registered depth image, and measure their height on the way.

Depth is read at a few sites of the body: the trunk, the head, the thighs. What each says about the person's distance is
compared, and the sites that agree with each other, and with what is known already, are believed: a table, a robot's
arm or another person before some of them, holes, and a depth image that ends beside the person then do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .body.joints import J
from .geometry.camera import project
from .types import Array, Camera, HumanParams, Regression

TORSO = tuple(J[name] for name in ("pelvis", "spine1", "spine2", "spine3"))
"""Joints on the axis of the trunk: the part of a person that depth cameras see best and clothes change least."""
_AZIMUTHS = 72
_BESIDE = 2
"""Directions of 5 degrees to either side whose largest radius counts."""
_SLICE_M = 0.03
"""Half thickness of the slice of the body around a site."""
WINDOW_M = 0.05
"""Half side of the patch of depth around a site, on the person."""
_PATCH_SIDE = 16
"""Pixels of a patch that are looked at, a side: more tell no more."""
MIN_PIXELS = 20
MIN_SITES = 2
_MIN_MASK = 0.5
LIMB_M = 0.08
"""A limb whose axis passes the viewing ray of a site at less than this hides it."""
_HIDDEN_WEIGHT = 0.1
SAME_PLACE_M = 0.12
"""Sites whose distances differ by less are of one person: errors of the pose, clothes, folds."""
_SURFACE_SIGMA_M = 0.015
"""Of the body's own thickness and of clothes: shared by all sites."""
_SIGMA_REL = 0.005
_MIN_SIGMA_M = 0.02
RATIOS = (0.35, 2.2)
"""Measured over regressed distance; outside it is no person of another height, but another thing or unit."""
PRIOR, LEARNT_PRIOR = 0.15, 0.05
"""Standard deviation of the log ratio before and after the person's height has been measured."""


class _Site(NamedTuple):
    """A place on the axis of a part of the body.

    Attributes:
        joint: The part turns with it.
        towards: Joint at the other end of the part; None: the axis is vertical at rest, the site at the joint.
        share: Where between the two.
        radius_m: Vertices farther from the axis belong to other parts.
    """

    joint: int
    towards: int | None
    share: float
    radius_m: float


_SITES = (
    *(_Site(joint, None, 0.0, 0.28) for joint in TORSO),
    _Site(J["head"], J["left_eye_smplhf"], 1.0, 0.16),
    _Site(J["left_hip"], J["left_knee"], 0.45, 0.13),
    _Site(J["right_hip"], J["right_knee"], 0.45, 0.13),
)
_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.6])
"""What a site counts: heads nod and have hair, thighs swing."""


_LIMBS = tuple(
    (J[f"{side}_{a}"], J[f"{side}_{b}"])
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle3"), ("hip", "knee"), ("knee", "ankle"))
)
_LIMB_FROM, _LIMB_TO = np.array(_LIMBS).T
_ALONG = np.array([0.3, 0.65, 1.0])
"""Where on a limb it is looked whether it hides something."""
_CAN_HIDE = np.array([[a != site.joint for a, _ in _LIMBS] for site in _SITES])


@dataclass(frozen=True)
class DepthPlace:
    """A distance measured on a person.

    Attributes:
        ratio: Measured z-depth over the regressed one.
        sigma_m: One standard deviation of the measured distance [m].
        sites: How many places on the body agree.
    """

    ratio: float
    sigma_m: float
    sites: int


class TrunkSurface:
    """How far the skin is from the sites, by direction: a depth camera sees skin, a skeleton is inside.

    Args:
        body: Body model; its `rest` gives the shape.
        params: Of the person; only the shape counts.
    """

    def __init__(self, body: Any, params: HumanParams) -> None:
        vertices, joints = body.rest(params)
        joints = joints.astype(np.float64)
        self._joints = np.array([site.joint for site in _SITES])
        self._offsets = np.stack([_offset(site, joints) for site in _SITES])
        self._frames = np.stack([_frame(site, joints) for site in _SITES])
        self._radius = np.stack(
            [
                _radii((vertices - joints[site.joint] - offset) @ frame.T, site.radius_m)
                for site, offset, frame in zip(_SITES, self._offsets, self._frames, strict=True)
            ]
        )

    def places(self, joints: Array, rotmats: Array) -> Array:
        """Return the sites of a posed body, (7, 3) [m].

        Args:
            joints: (55, 3) [m].
            rotmats: Global rotations of the joints, (55, 3, 3).
        """
        return joints[self._joints] + np.einsum("kij,kj->ki", rotmats[self._joints], self._offsets)

    def depth_to_skin(self, rays: Array, rotmats: Array) -> Array:
        """Return how far behind the skin the sites are along their viewing rays, (7,) [m].

        Args:
            rays: Unit vectors from the camera to the sites, (7, 3).
            rotmats: Global rotations of the joints, (55, 3, 3).
        """
        # To the camera, in the axes of the part: y along it.
        towards = -np.einsum("kij,kbj,kb->ki", self._frames, rotmats[self._joints], rays)
        azimuth = np.arctan2(towards[:, 0], towards[:, 2]) * _AZIMUTHS / (2 * np.pi)
        level = np.hypot(towards[:, 0], towards[:, 2])
        radius = self._radius[np.arange(len(_SITES)), np.round(azimuth).astype(int) % _AZIMUTHS]
        return radius / np.maximum(level, 0.5)  # a slanted ray runs longer through a cylinder


def measure_depth(
    depth_m: Array,
    camera: Camera,
    joints: Array,
    joint_rotmats: Array,
    surface: TrunkSurface,
    *,
    person: Regression | None = None,
    prior: float = PRIOR,
) -> DepthPlace | None:
    """Compare the depth image with a regressed body; None where too little of it has depth, or none that fits.

    Args:
        depth_m: z-depth registered to the camera's image, (h, w) [m], of any resolution.
        camera: Of the colour image.
        joints: (55, 3) [m], camera frame.
        joint_rotmats: (55, 3, 3) global.
        surface: Of this person.
        person: Its mask, where it has one, says which pixels show the person.
        prior: Standard deviation of the log ratio, before looking.
    """
    places = surface.places(joints.astype(np.float64), joint_rotmats.astype(np.float64))
    if not (places[:, 2] > 0.1).all():
        return None
    rays = places / np.linalg.norm(places, axis=1, keepdims=True)
    behind = surface.depth_to_skin(rays, joint_rotmats.astype(np.float64)) * rays[:, 2]
    patches = _Patches(depth_m, camera, person)
    believed = np.where(_hidden(places, rays, joints), _HIDDEN_WEIGHT, 1.0) * _WEIGHTS
    logs, weights = [], []
    for place, uv, inward, weight in zip(places, project(places, camera), behind, believed, strict=True):
        patch = patches.around(uv, place[2])
        if len(patch) >= MIN_PIXELS:
            logs.append(np.log((np.median(patch) + inward) / place[2]))
            weights.append(weight)
    return _agreement(np.array(logs), np.array(weights), float(places[0, 2]), prior)


def _hidden(places: Array, rays: Array, joints: Array) -> Array:
    """Return which sites the person's own limbs hide, (7,) bool."""
    start, end = joints[_LIMB_FROM], joints[_LIMB_TO]
    points = start[:, None] + _ALONG[:, None] * (end - start)[:, None]  # (limb, 3 places, 3)
    along = np.einsum("lpi,ki->klp", points, rays)
    aside = np.linalg.norm(points[None] - along[..., None] * rays[:, None, None], axis=-1)
    nearer = along < np.linalg.norm(places, axis=1)[:, None, None]
    return (((aside < LIMB_M) & nearer).any(axis=2) & _CAN_HIDE).any(axis=1)


def _agreement(logs: Array, weights: Array, distance_m: float, prior: float) -> DepthPlace | None:
    """Return what the largest group of sites says that is of one opinion, weighed against the prior."""
    if len(logs) < MIN_SITES:
        return None
    near = np.abs(logs[:, None] - logs[None]) < SAME_PLACE_M / distance_m
    means = (near * weights) @ logs / (near @ weights)
    scores = near @ weights - 0.5 * (means / prior) ** 2
    scores[near.sum(1) < MIN_SITES] = -np.inf
    best = int(np.argmax(scores))
    if not np.isfinite(scores[best]):
        return None
    group = near[best]
    ratio = float(np.exp(means[best]))
    if not RATIOS[0] < ratio < RATIOS[1]:
        return None
    count = int(group.sum())
    spread_m = float(np.sqrt(np.average((logs[group] - means[best]) ** 2, weights=weights[group]))) * distance_m
    sigma_m = np.sqrt(spread_m**2 / max(count - 1, 1) + (_SIGMA_REL * distance_m) ** 2 + _SURFACE_SIGMA_M**2)
    return DepthPlace(ratio, float(max(_MIN_SIGMA_M, sigma_m)), count)


class _Patches:
    """The depths around a pixel of the colour image, of the person's pixels only where a mask tells them."""

    def __init__(self, depth_m: Array, camera: Camera, person: Regression | None) -> None:
        self._depth_m = depth_m
        self._zoom = np.array([depth_m.shape[1] / camera.image_hw[1], depth_m.shape[0] / camera.image_hw[0]])
        self._fx = camera.K[0, 0]
        masked = person is not None and person.mask is not None and person.mask_A_crop_img is not None
        self._mask, self._A = (person.mask, person.mask_A_crop_img) if masked else (None, None)

    def around(self, uv: Array, z_m: float) -> Array:
        """Return the valid depths (n,) [m] within `WINDOW_M` of what is seen at a pixel."""
        if not np.isfinite(uv).all():
            return np.empty(0, np.float32)
        height, width = self._depth_m.shape
        reach = np.maximum(2, WINDOW_M * self._fx * self._zoom / z_m)
        centre = (uv + 0.5) * self._zoom
        low = np.clip(np.round(centre - reach), 0, (width, height)).astype(int)
        high = np.clip(np.round(centre + reach), 0, (width, height)).astype(int)
        step = max(1, int(2 * reach.max() / _PATCH_SIDE))
        columns, rows = np.arange(low[0], high[0], step), np.arange(low[1], high[1], step)
        patch = self._depth_m[low[1] : high[1] : step, low[0] : high[0] : step]
        with np.errstate(invalid="ignore"):
            valid = (patch > 0) & (patch < np.inf)
        if self._mask is not None and valid.any():
            valid &= self._is_person(columns, rows)
        return patch[valid]

    def _is_person(self, columns: Array, rows: Array) -> Array:
        u = (columns + 0.5) / self._zoom[0] - 0.5
        v = ((rows + 0.5) / self._zoom[1] - 0.5)[:, None]
        A, (height, width) = self._A, self._mask.shape
        x = np.round(A[0, 0] * u + A[0, 1] * v + A[0, 2]).astype(int)
        y = np.round(A[1, 0] * u + A[1, 1] * v + A[1, 2]).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return inside & (self._mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] > _MIN_MASK)


def _offset(site: _Site, joints: Array) -> Array:
    """Return the site relative to its joint at rest, (3,) [m]."""
    if site.towards is None:
        return np.zeros(3)
    offset = (joints[site.towards] - joints[site.joint]) * site.share
    return np.array([0, offset[1], 0]) if site.joint == J["head"] else offset  # the head's axis, at the eyes' height


def _frame(site: _Site, joints: Array) -> Array:
    """Return the rotation (3, 3) from the rest pose's axes to the part's: y along it, z towards the front."""
    if site.towards is None or site.joint == J["head"]:
        return np.eye(3)
    y = joints[site.joint] - joints[site.towards]
    y /= np.linalg.norm(y)
    z = np.array([0, 0, 1.0]) - y[2] * y
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z])


def _radii(offsets: Array, largest_m: float) -> Array:
    """Return a part's radius by azimuth (0 = front, z; quarter = left, x), (72,) [m].

    The largest within 12.5 degrees: 1 cm too much for skin, half a centimetre too little for a shirt and trousers.
    """
    flat = np.hypot(offsets[:, 0], offsets[:, 2])
    near = (np.abs(offsets[:, 1]) < _SLICE_M) & (flat < largest_m)
    slice_, flat = offsets[near], flat[near]
    azimuth = np.round(np.arctan2(slice_[:, 0], slice_[:, 2]) * _AZIMUTHS / (2 * np.pi)).astype(int) % _AZIMUTHS
    largest = np.full(_AZIMUTHS, -np.inf)
    np.maximum.at(largest, azimuth, flat)
    within = np.max([np.roll(largest, shift) for shift in range(-_BESIDE, _BESIDE + 1)], axis=0)
    known = np.isfinite(within)
    if not known.any():
        raise ValueError("the body has no vertices around one of its parts")
    return np.interp(np.arange(_AZIMUTHS), np.flatnonzero(known), within[known], period=_AZIMUTHS)
