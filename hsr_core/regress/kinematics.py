"""The 55-joint skeleton in numpy: forward kinematics and its exact derivatives, for the landmark fits.

The increment of joint k is a rotation vector d_k in its parent's frame, R_k <- exp(d_k) R_k.
"""

from __future__ import annotations

import numpy as np

from ..body.joints import N_JOINTS, PARENTS
from ..geometry.rotations import hat
from ..types import Array

_PARENT = np.array(PARENTS)


def _levels() -> list[Array]:
    """Joints by depth, so that a whole level is computed at once."""
    depth = np.zeros(N_JOINTS, int)
    for joint in range(1, N_JOINTS):
        depth[joint] = depth[PARENTS[joint]] + 1
    return [np.flatnonzero(depth == level) for level in range(1, depth.max() + 1)]


LEVELS = _levels()


def ancestors() -> Array:
    """Return (55, 55) bool: [j, k] is true when joint k is j or above it."""
    out = np.eye(N_JOINTS, dtype=bool)
    for joint in range(1, N_JOINTS):
        out[joint] |= out[PARENTS[joint]]
    return out


ANCESTORS = ancestors()


def forward(local: Array, rest: Array, transl: Array) -> tuple[Array, Array]:
    """Return global rotations and joint positions.

    Args:
        local: (55, 3, 3); entry 0 is the root's rotation to the camera frame.
        rest: (55, 3) rest joints [m].
        transl: (3,) [m], added after the rotation about the rest pelvis.

    Returns:
        Global rotations (55, 3, 3) and positions (55, 3) [m].
    """
    rotations = np.empty_like(local)
    points = np.empty_like(rest)
    rotations[0] = local[0]
    points[0] = rest[0] + transl
    for level in LEVELS:
        parent = _PARENT[level]
        rotations[level] = rotations[parent] @ local[level]
        bones = rest[level] - rest[parent]
        points[level] = points[parent] + np.einsum("jab,jb->ja", rotations[parent], bones)
    return rotations, points


def forward_offsets(rotations: Array, rest_basis: Array) -> Array:
    """Return how the joints move when the rest joints do, the rotations held: the same chain, linear in the bones.

    Args:
        rotations: (55, 3, 3) global.
        rest_basis: (n, 55, 3) changes of the rest joints.

    Returns:
        (n, 55, 3) changes of the posed joints.
    """
    moved = np.empty_like(rest_basis)
    moved[:, 0] = rest_basis[:, 0]
    for level in LEVELS:
        parent = _PARENT[level]
        bones = rest_basis[:, level] - rest_basis[:, parent]
        moved[:, level] = moved[:, parent] + np.einsum("jab,njb->nja", rotations[parent], bones)
    return moved


def point_jacobian(points: Array, carriers: Array, rotations: Array, joints: Array, solved: Array) -> Array:
    """Return the derivative of points on the skeleton by the increments of the solved joints.

    Args:
        points: (N, 3) [m], camera frame.
        carriers: (N,) the joint each point moves with (the point turns with that joint).
        rotations: (55, 3, 3) global.
        joints: (55, 3) positions.
        solved: (S,) joints with increments.

    Returns:
        (N, 3, S, 3): d point / d d_s, [m/rad].
    """
    parent_rotation = np.where(
        (solved == 0)[:, None, None], np.eye(3), rotations[_PARENT[solved]]
    )  # increments of the root are in the camera frame
    arm = points[:, None] - joints[solved][None]
    # d/dd (exp(d) arm) = w x arm with w = R_parent d, so the columns are R_parent's columns crossed with the arm.
    jacobian = -hat(arm) @ parent_rotation[None]
    jacobian *= ANCESTORS[carriers][:, solved][..., None, None]
    return jacobian.transpose(0, 2, 1, 3)


def log_jacobian(rotvec: Array) -> Array:
    """Return d log(exp(d) R) / d d at d = 0, the inverse left Jacobian of SO(3). Shape (..., 3) -> (..., 3, 3)."""
    angle2 = np.einsum("...i,...i->...", rotvec, rotvec)
    small = angle2 < 1e-6
    angle = np.sqrt(np.where(small, 1.0, angle2))
    half = angle / 2
    c = np.where(small, 1 / 12, (1 - half / np.tan(half)) / np.where(small, 1.0, angle2))
    skew = hat(rotvec)
    return np.eye(3) - 0.5 * skew + c[..., None, None] * (skew @ skew)
