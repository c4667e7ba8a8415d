"""One person's pose as 165 scalar joint angles, for tools that know only revolute joints.

Each of the 55 ball joints becomes three revolute joints in a row. The order of their axes depends on the joint, so
that the middle angle stays far from 90 degrees in ordinary poses; near 90 degrees the first angle is held, since only
the sum or difference of the outer two is then observable.
"""

from __future__ import annotations

import numpy as np

from ..body.joints import JOINT_NAMES, N_JOINTS, PARENTS
from ..types import Array

HOLD_RAD = np.radians(80.0)
"""Middle angle beyond which the first angle is held."""


def _axis_order(name: str) -> str:
    if "shoulder" in name or "collar" in name or "eye" in name:
        return "yxz"
    if any(part in name for part in ("hip", "knee", "ankle", "foot")):
        return "xyz"
    if any(part in name for part in ("elbow", "spine", "neck", "head", "jaw", "pelvis")):
        return "yzx"
    return "zyx"  # wrists and fingers


AXIS_ORDERS: tuple[str, ...] = tuple(_axis_order(name) for name in JOINT_NAMES)
JOINT_STATE_NAMES: list[str] = [
    f"{name}_{axis}" for name, order in zip(JOINT_NAMES, AXIS_ORDERS, strict=True) for axis in order
]

_AXES = np.array([["xyz".index(axis) for axis in order] for order in AXIS_ORDERS])
_I, _J, _K = _AXES.T
_ALL = np.arange(N_JOINTS)
_SIGN = np.where((_J - _I) % 3 == 1, 1.0, -1.0)  # +1 for xyz and its rotations, -1 for the mirrored orders
_PARENT = np.array(PARENTS)


def joint_angles(local_rotmats: Array, held: Array | None = None) -> Array:
    """Return the three intrinsic angles of each joint, in the joint's axis order.

    Where the middle angle is beyond 80 degrees and `held` is given, the first angle is taken from it and the other
    two are the best for that choice.

    Args:
        local_rotmats: Rotation of each joint relative to its parent, (55, 3, 3).
        held: First angles of the last frame, (55,) [rad].

    Returns:
        (55, 3) [rad]; the first and third within -pi..pi of zero, or of `held` for the first.

    Source:
        Tait-Bryan angles of R = R_i(a) R_j(b) R_k(c): R[i,k] = s sin b, tan a = -s R[j,k] / R[k,k],
        tan c = -s R[i,j] / R[i,i], with s the parity of (i, j, k).
    """
    R = np.asarray(local_rotmats, np.float64)
    b = np.arcsin(np.clip(_SIGN * R[_ALL, _I, _K], -1.0, 1.0))
    a = np.arctan2(-_SIGN * R[_ALL, _J, _K], R[_ALL, _K, _K])
    if held is not None:
        a = np.where(np.abs(b) > HOLD_RAD, held, a)
    # With the first rotation taken out, R_j(b) R_k(c) remains; its entries give b and c also beyond 90 degrees.
    cos, sin = np.cos(a), np.sin(a)
    row_j = cos[:, None] * R[_ALL, _J] + (_SIGN * sin)[:, None] * R[_ALL, _K]
    row_k = cos[:, None] * R[_ALL, _K] - (_SIGN * sin)[:, None] * R[_ALL, _J]
    b = np.arctan2(_SIGN * R[_ALL, _I, _K], row_k[_ALL, _K])
    c = np.arctan2(_SIGN * row_j[_ALL, _I], row_j[_ALL, _J])
    return np.stack([a, b, c], axis=1)


def local_rotmats(joint_rotmats: Array) -> Array:
    """Return rotations relative to the parents; the pelvis' own is left out (identity). Shape (55, 3, 3)."""
    R = np.asarray(joint_rotmats, np.float64)
    local = np.swapaxes(R[_PARENT], -1, -2) @ R
    local[0] = np.eye(3)  # its pose is the root transform
    return local
