"""Orientations of pelvis, chest, hands and feet from points, in the axes of the body model at rest.

Identity (in body axes) is the rest posture: x to the left, y up, z forward. A triple of points that lies nearly on a
line gives no orientation.
"""

from __future__ import annotations

import numpy as np

from ..body.joints import SMPLX_TO_ROS_BODY
from ..types import Array
from .human import HAND_POINTS, MIN_FLAT, Human, P

R_REST = np.array(SMPLX_TO_ROS_BODY, np.float64)
"""R_world_joint of a person at rest who faces x of a z-up world: every joint's."""

MIN_SINE = 0.1
"""Of the angle between the two directions that span a frame; below, the noise would turn it at will."""

_INDEX, _LITTLE = HAND_POINTS.index("index0"), HAND_POINTS.index("little0")
_REST_TOE = np.array([0.0, -0.45, 0.89])
"""From ankle to toe at rest: the toe joint lies lower than the ankle's."""

ROTATIONS = ("pelvis", "chest", "head", "left_wrist", "right_wrist", "left_ankle", "right_ankle")
"""Points that have an orientation."""


def orientation(person: Human, name: str) -> Array | None:
    """Return R_world_joint (3, 3) of one of `ROTATIONS`: the given one, or from points; None where there is none."""
    if person.rotations is not None:
        R = person.rotations[P[name]]
        return R if person.valid[P[name]] and np.isfinite(R).all() else None
    return _FROM_POINTS[name](person, name)


def heading(person: Human) -> Array | None:
    """Return R_world_heading (3, 3): z up, x where the pelvis faces, y to its left; None when it lies or is not seen.

    From the hips' line, which is also there without rotations.
    """
    if not person.sees("left_hip", "right_hip"):
        return None
    left = person.at("left_hip") - person.at("right_hip")
    flat = np.hypot(left[0], left[1])
    if not flat > max(MIN_FLAT * float(np.linalg.norm(left)), 1e-6):  # NaN, too
        return None
    c, s = left[0] / flat, left[1] / flat
    return np.array([[s, c, 0], [-c, s, 0], [0, 0, 1.0]])


def _frame(left: Array, up: Array) -> Array | None:
    """Return the rotation whose x is `left` and whose y is nearest `up`."""
    n_left, n_up = np.linalg.norm(left), np.linalg.norm(up)
    if n_left < 1e-6 or n_up < 1e-6:
        return None
    left = left / n_left
    forward = np.cross(left, up / n_up)
    sine = np.linalg.norm(forward)
    if not sine >= MIN_SINE:
        return None
    forward = forward / sine
    return np.stack([left, np.cross(forward, left), forward], axis=1)


def _pelvis(person: Human, name: str) -> Array | None:
    if not person.sees("left_hip", "right_hip", "pelvis", "chest"):
        return None
    return _frame(person.at("left_hip") - person.at("right_hip"), person.at("chest") - person.at("pelvis"))


def _chest(person: Human, name: str) -> Array | None:
    if not person.sees("left_shoulder", "right_shoulder", "pelvis", "neck"):
        return None
    return _frame(person.at("left_shoulder") - person.at("right_shoulder"), person.at("neck") - person.at("pelvis"))


def _head(person: Human, name: str) -> Array | None:
    return None  # two points tell no turn


def _wrist(person: Human, name: str) -> Array | None:
    """From wrist, index base and little-finger base; at rest the palm looks down and the thumb to the front."""
    side = name.partition("_")[0]
    hand = person.left_hand if side == "left" else person.right_hand
    if hand is None or not person.valid[P[name]]:
        return None
    index, little = hand[_INDEX], hand[_LITTLE]
    outward = (index + little) / 2 - hand[0]
    left = outward if side == "left" else -outward
    return _frame(left, np.cross(index - little, left))


def _ankle(person: Human, name: str) -> Array | None:
    """From ankle, toe and shank: across both, and forward along the toe as far as it leaves its place at rest."""
    side = name.partition("_")[0]
    if not person.sees(name, f"{side}_toe", f"{side}_knee"):
        return None
    toe, shank = person.at(f"{side}_toe") - person.at(name), person.at(f"{side}_knee") - person.at(name)
    across = np.cross(shank, toe)
    frame = _frame(across, np.cross(toe, across))
    return None if frame is None or not _bent(shank, toe) else frame @ _REST_FOOT.T


def _bent(a: Array, b: Array) -> bool:
    return bool(np.linalg.norm(np.cross(a, b)) >= MIN_SINE * np.linalg.norm(a) * np.linalg.norm(b))


_REST_FOOT = np.array(_frame(np.array([1.0, 0, 0]), np.cross(_REST_TOE, [1.0, 0, 0])))
_FROM_POINTS = {
    "pelvis": _pelvis, "chest": _chest, "head": _head, "left_wrist": _wrist, "right_wrist": _wrist,
    "left_ankle": _ankle, "right_ankle": _ankle,
}  # fmt: skip
