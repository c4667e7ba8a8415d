"""Rotations in numpy, batched over leading dimensions, exact near 0 and pi.

Matrices act on column vectors. Rotation vectors are in radians. Quaternions name their order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def hat(v: Array) -> Array:
    """Return the cross-product matrices of vectors: hat(v) @ x = v x x. Shape (..., 3) -> (..., 3, 3)."""
    v = np.asarray(v)
    out = np.zeros((*v.shape[:-1], 3, 3), v.dtype)
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    return out


def rotvec_to_rotmat(rotvec: Array) -> Array:
    """Return rotation matrices (Rodrigues). Shape (..., 3) [rad] -> (..., 3, 3)."""
    rotvec = np.asarray(rotvec)
    angle2 = np.einsum("...i,...i->...", rotvec, rotvec)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle2 < 1e-8
    safe = np.where(small, 1.0, angle)
    # Taylor series where sin(a)/a and (1-cos(a))/a^2 lose digits.
    a = np.where(small, 1 - angle2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle2 / 24, (1 - np.cos(safe)) / (safe * safe))
    skew = hat(rotvec)
    return np.eye(3, dtype=rotvec.dtype) + a.astype(rotvec.dtype) * skew + b.astype(rotvec.dtype) * (skew @ skew)


def rotmat_to_quat_wxyz(rotmat: Array) -> Array:
    """Return unit quaternions, w >= 0. Shape (..., 3, 3) -> (..., 4).

    Source:
        Shepperd's method: of four formulas the one with the largest pivot, so no division is ill conditioned.
    """
    R = np.asarray(rotmat)
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    # Row i of `table` is 4 q_i (w, x, y, z).
    table = np.empty((*R.shape[:-2], 4, 4), R.dtype)
    table[..., 0, 0] = 1 + m00 + m11 + m22
    table[..., 1, 1] = 1 + m00 - m11 - m22
    table[..., 2, 2] = 1 - m00 + m11 - m22
    table[..., 3, 3] = 1 - m00 - m11 + m22
    table[..., 0, 1] = table[..., 1, 0] = R[..., 2, 1] - R[..., 1, 2]
    table[..., 0, 2] = table[..., 2, 0] = R[..., 0, 2] - R[..., 2, 0]
    table[..., 0, 3] = table[..., 3, 0] = R[..., 1, 0] - R[..., 0, 1]
    table[..., 1, 2] = table[..., 2, 1] = R[..., 0, 1] + R[..., 1, 0]
    table[..., 1, 3] = table[..., 3, 1] = R[..., 0, 2] + R[..., 2, 0]
    table[..., 2, 3] = table[..., 3, 2] = R[..., 1, 2] + R[..., 2, 1]
    best = np.argmax(np.einsum("...ii->...i", table), axis=-1)
    q = np.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def rotmat_to_rotvec(rotmat: Array) -> Array:
    """Return rotation vectors with angle in [0, pi]. Shape (..., 3, 3) -> (..., 3) [rad]."""
    q = rotmat_to_quat_wxyz(rotmat)
    sin_half = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sin_half, q[..., :1])
    scale = np.where(sin_half > 1e-6, angle / np.where(sin_half > 1e-6, sin_half, 1), 2.0)
    return q[..., 1:] * scale


def wxyz_to_xyzw(quat_wxyz: Array) -> Array:
    """Reorder quaternions for ROS. Shape (..., 4)."""
    return np.asarray(quat_wxyz)[..., [1, 2, 3, 0]]


def rotation_between(a: Array, b: Array) -> Array:
    """Return the smallest rotation that takes direction `a` to direction `b`. Shape (3,), (3,) -> (3, 3).

    Opposite directions give a half turn about some axis across them.
    """
    a = a / np.linalg.norm(a)
    b = b / np.linalg.norm(b)
    cos = float(a @ b)
    if cos < -1 + 1e-9:
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        return rotvec_to_rotmat(np.pi * axis / np.linalg.norm(axis))
    skew = hat(np.cross(a, b))
    return np.eye(3) + skew + skew @ skew / (1 + cos)
