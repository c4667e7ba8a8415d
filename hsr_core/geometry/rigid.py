"""Rigid motions of parameters: a person's pose in another frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..types import Array, HumanParams
from .rotations import rotmat_to_rotvec, rotvec_to_rotmat


def moved(params: HumanParams, T: Array, rest_pelvis: Array) -> HumanParams:
    """Return parameters in another frame: x_b = T_b_a x_a, (4, 4).

    Args:
        params: In frame a.
        T: Rigid motion, float64.
        rest_pelvis: The pelvis joint of this shape's rest mesh, (3,) [m]: rotation is about it.
    """
    R = T[:3, :3] @ rotvec_to_rotmat(np.asarray(params.global_orient, np.float64))
    pelvis = T[:3, :3] @ (rest_pelvis + params.transl.astype(np.float64)) + T[:3, 3]
    return replace(
        params,
        global_orient=rotmat_to_rotvec(R).astype(np.float32),
        transl=(pelvis - rest_pelvis).astype(np.float32),
    )


def inverse(T: Array) -> Array:
    """Return the inverse of a rigid motion (4, 4)."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def transformed(points: Array, T: Array) -> Array:
    """Return points (..., 3) in another frame: x_b = T_b_a x_a."""
    return points @ T[:3, :3].T + T[:3, 3]
