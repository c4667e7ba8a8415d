"""Finger rotations from 21 hand landmarks: each bone is turned to its observed direction, base to tip, within limits.

Only directions are used, so the size of the hand does not matter. What a limit keeps a joint from doing is left to the
joints after it.
"""

from __future__ import annotations

import numpy as np

from ..body.joints import J
from ..geometry.rotations import rotvec_to_rotmat
from ..types import Array

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
_FIRST_POINT = {"thumb": 1, "index": 5, "middle": 9, "ring": 13, "pinky": 17}
_HINGES = slice(0, 4)
"""Of all fingers but the thumb, the second and third joint turn about z alone."""
_CHAIN = np.array([[_FIRST_POINT[f] + i for i in range(4)] for f in _FINGERS])
"""(5, 4) landmark of each finger's three joints and its tip."""

# Limits of a left finger joint's rotation vector [rad]. Rest: fingers along +x, palm down (-y), so closing is about -z.
_BEND = ((-0.15, -0.35, -1.75), (0.15, 0.35, 0.35))
_HINGE = ((-0.05, -0.06, -1.9), (0.05, 0.06, 0.1))
_TIP_HINGE = ((-0.05, -0.06, -1.3), (0.05, 0.06, 0.1))
_THUMB = (
    ((-0.9, -0.9, -0.9), (0.9, 0.9, 0.9)),
    ((-0.6, -0.9, -0.6), (0.6, 0.9, 0.6)),
    ((-0.3, -1.2, -0.5), (0.3, 0.5, 0.5)),
)


def _limits(side: str) -> tuple[Array, Array]:
    """Return (5, 3 joints, 3) lower and upper limits."""
    left = np.array([[_BEND, _HINGE, _TIP_HINGE]] * 4 + [list(_THUMB)])
    low, high = left[:, :, 0], left[:, :, 1]
    if side == "left":
        return low, high
    flip = np.array([1, -1, -1])
    return np.minimum(low * flip, high * flip), np.maximum(low * flip, high * flip)


class HandFitter:
    """Fits one hand; `set_body` when the shape changes."""

    def __init__(self, side: str) -> None:
        self.side = side
        self._low, self._high = _limits(side)
        self._joints = np.array([[J[f"{side}_{f}{i}"] for i in (1, 2, 3)] for f in _FINGERS])

    def set_body(self, rest_joints: Array, surface: dict[str, Array]) -> None:
        """Take rest joints (55, 3) and the rest positions of the finger tips [m]."""
        rest = np.asarray(rest_joints, np.float64)
        tips = np.stack([np.asarray(surface[f"{self.side}_{f}_tip"], np.float64) for f in _FINGERS])
        chain = np.concatenate([rest[self._joints], tips[:, None]], 1)
        self._bones = _unit(np.diff(chain, axis=1))

    def fingers(self, world: Array, wrist_rotation: Array) -> Array:
        """Return (15, 3) rotation vectors of the finger joints, in the order of the body model.

        Args:
            world: (21, 3) landmarks; only directions matter.
            wrist_rotation: (3, 3) global rotation of the wrist joint.
        """
        seen = _unit(np.diff(world[_CHAIN], axis=1))
        frame = np.broadcast_to(wrist_rotation, (5, 3, 3))
        out = np.empty((5, 3, 3))
        for i in range(3):
            target = np.einsum("fba,fb->fa", frame, seen[:, i])
            turn = _swing(self._bones[:, i], target)
            if i > 0:
                turn[_HINGES] = _hinge(self._bones[_HINGES, i], target[_HINGES])
            out[:, i] = np.clip(turn, self._low[:, i], self._high[:, i])
            frame = frame @ rotvec_to_rotmat(out[:, i])
        return out.reshape(15, 3)


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _hinge(a: Array, b: Array) -> Array:
    """Return the rotation vectors about z that bring unit vectors a nearest to b. Shape (N, 3)."""
    out = np.zeros_like(a)
    angle = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1])
    out[:, 2] = angle
    return out


def _swing(a: Array, b: Array) -> Array:
    """Return rotation vectors of the smallest rotations that take unit vectors a to b. Shape (N, 3)."""
    axis = np.cross(a, b)
    sin = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sin, np.sum(a * b, axis=1, keepdims=True))
    return axis * (angle / np.maximum(sin, 1e-9))
