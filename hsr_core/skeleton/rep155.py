"""The 20 joints of REP-155's body (ROS4HRI): names, axes, and their angles for a pose, in closed form.

Frames are REP-103's (x forward, y left, z up). At zero all limbs hang along -z. The trunk can only lean (the waist),
so arms and head are taken relative to the trunk that the waist gives: a twist or side bend of the spine ends in the
shoulders, and the hands still point where they do. Angles are not clipped to anybody's limits.

Source:
    REP-155 and the kinematic model of ros4hri's human_description: names, axes and signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body.joints import SMPLX_TO_ROS_BODY, J
from ..types import Array

SIDES = (("l", "left", 1), ("r", "right", -1))
"""Letter, word, and the sign of y."""

JOINTS: tuple[str, ...] = (
    "waist", "r_head", "y_head", "p_head",
    "l_y_shoulder", "l_p_shoulder", "l_r_shoulder", "l_elbow",
    "r_y_shoulder", "r_p_shoulder", "r_r_shoulder", "r_elbow",
    "l_y_hip", "l_p_hip", "l_r_hip", "l_knee",
    "r_y_hip", "r_p_hip", "r_r_hip", "r_knee",
)  # fmt: skip
"""Names without the body's id, in the order of the angles."""


def _limb_axes(side: int, *, arm: bool) -> tuple[tuple[int, int, int], ...]:
    if arm:
        return (0, 0, -side), (side, 0, 0), (0, 0, side), (0, -1, 0)
    return (0, 0, -1), (side, 0, 0), (0, -1, 0), (0, -1, 0)


AXES: tuple[tuple[int, int, int], ...] = (
    (0, 1, 0), (1, 0, 0), (0, 0, 1), (0, -1, 0),
    *_limb_axes(1, arm=True), *_limb_axes(-1, arm=True), *_limb_axes(1, arm=False), *_limb_axes(-1, arm=False),
)  # fmt: skip
"""Axis of each joint in its own frame."""

HOLD_RAD = np.radians(5.0)
"""An upper arm nearer to hanging keeps its last y angle; a limb straighter than this has no hinge of its own."""

# Rows: left arm, right arm, left leg, right leg.
_UPPER = np.array([J["left_shoulder"], J["right_shoulder"], J["left_hip"], J["right_hip"]])
_MIDDLE = np.array([J["left_elbow"], J["right_elbow"], J["left_knee"], J["right_knee"]])
_LOWER = np.array([J["left_wrist"], J["right_wrist"], J["left_ankle"], J["right_ankle"]])
_POINTS = np.concatenate([_UPPER, _MIDDLE, _LOWER])
_SIDE = np.array([1.0, -1.0])
_BEND = np.array([1.0, 1.0, -1.0, -1.0])  # elbows bend to the front, knees to the back
_HEAD = J["head"]
_SMPLX_TO_ROS = np.array(SMPLX_TO_ROS_BODY)
_STRAIGHT, _MOST_OVERSTRETCHED = np.sin(HOLD_RAD), np.sin(np.radians(15.0))


@dataclass(frozen=True, eq=False)
class BodyFrame:
    """Where a body is: REP-155's `body_<id>`, at mid-hips.

    Attributes:
        origin: (3,) [m], camera frame.
        rotmat: (3, 3) R_cam_body; the body's axes are x forward, y left, z up.
    """

    origin: Array
    rotmat: Array


def body_frame(joints: Array, joint_rotmats: Array) -> BodyFrame:
    """Return the body's frame of a pose.

    Args:
        joints: (55, 3) [m], camera frame.
        joint_rotmats: (55, 3, 3), joint to camera frame.
    """
    origin = 0.5 * (np.asarray(joints[_UPPER[2]], np.float64) + joints[_UPPER[3]])
    return BodyFrame(origin, np.asarray(joint_rotmats[0], np.float64) @ _SMPLX_TO_ROS.T)


def lean_rotmat(waist: float) -> Array:
    """Return R_body_torso (3, 3) of the waist's angle [rad]."""
    cos, sin = np.cos(waist), np.sin(waist)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


class Rep155Angles:
    """The 20 angles of one person, frame after frame; remembers the shoulders' y where it cannot be seen."""

    def __init__(self) -> None:
        self._last_y: Array | None = None

    def __call__(self, joints: Array, joint_rotmats: Array) -> Array:
        """Return the angles (20,) [rad] in the order of `JOINTS`, each within -pi..pi.

        The directions of upper arms, forearms, thighs and shins, and the head's rotation, are the pose's own. Two
        exceptions keep the angles calm where a direction hardly says anything about them: an upper arm within 5
        degrees of hanging keeps its last y, and a limb bent by less than 5 degrees turns towards the hinge of the
        pose's own rotation. Directions are then off by less than those 5 degrees. An elbow or a knee that is bent the
        wrong way by less than 15 degrees is overstretched: its angle has the other sign.

        Args:
            joints: (55, 3) [m], in any one frame.
            joint_rotmats: (55, 3, 3), joint to that frame.
        """
        frame = body_frame(joints, joint_rotmats)
        points = ((joints[_POINTS] - frame.origin) @ frame.rotmat).reshape(3, 4, 3)
        chest = points[0, 0] + points[0, 1]
        waist = np.arctan2(chest[0], chest[2])
        R_body_torso = lean_rotmat(waist)

        bones = points[1:] - points[:-1]
        bones /= np.sqrt(np.einsum("blc,blc->bl", bones, bones))[..., None]
        forward = np.asarray(joint_rotmats[_UPPER], np.float64)[..., 2] @ frame.rotmat  # the front at rest, SMPL's z
        bones[:, :2] = bones[:, :2] @ R_body_torso
        forward[:2] = forward[:2] @ R_body_torso
        limbs, bends = _limb_rotations(bones[0], bones[1], forward)

        out = np.empty(20)
        out[0] = waist
        R_torso_head = R_body_torso.T @ frame.rotmat.T @ joint_rotmats[_HEAD] @ _SMPLX_TO_ROS.T
        out[1:4] = _head_angles(R_torso_head)
        table = out[4:].reshape(4, 4)
        table[:2, :3] = self._shoulder_angles(limbs[:2])
        table[2:, :3] = _hip_angles(limbs[2:])
        table[:, 3] = bends
        return out

    def _shoulder_angles(self, R: Array) -> Array:
        """y, p, r of R = Rz(-s y) Rx(s p) Rz(s r), with p >= 0; (2, 3, 3) -> (2, 3)."""
        p = np.arctan2(np.hypot(R[:, 0, 2], R[:, 1, 2]), R[:, 2, 2])
        y = -_SIDE * np.arctan2(_SIDE * R[:, 0, 2], -_SIDE * R[:, 1, 2])
        r = _SIDE * np.arctan2(_SIDE * R[:, 2, 0], _SIDE * R[:, 2, 1])
        if self._last_y is not None:
            for arm in np.flatnonzero(p < HOLD_RAD):
                y[arm] = self._last_y[arm]
                p[arm], r[arm] = _rest_of_shoulder(R[arm], y[arm], _SIDE[arm])
        self._last_y = y
        return np.stack([y, p, r], axis=1)


def _rest_of_shoulder(R: Array, y: float, side: float) -> tuple[float, float]:
    """Return the p and r that come nearest to R = Rz(-s y) Rx(s p) Rz(s r) for a given y and a small p."""
    cos, sin = np.cos(side * y), np.sin(side * y)
    x = cos * R[0] - sin * R[1]  # rows of Rz(s y) R
    y_row = sin * R[0] + cos * R[1]
    return side * np.arctan2(-y_row[2], R[2, 2]), side * np.arctan2(-x[1], x[0])


def _limb_rotations(upper: Array, lower: Array, forward: Array) -> tuple[Array, Array]:
    """Return the rotations of the upper segments, -z along the bone and the hinge across, and the hinge's angles.

    Args:
        upper, lower: Unit directions of the two segments, (4, 3).
        forward: Where the pose's own rotation has the segments' front, (4, 3).
    """
    along = np.einsum("lc,lc->l", lower, upper)
    across = lower - along[:, None] * upper
    size = np.sqrt(np.einsum("lc,lc->l", across, across))
    forward = forward - np.einsum("lc,lc->l", forward, upper)[:, None] * upper
    x = _BEND[:, None] * across
    overstretched = (np.einsum("lc,lc->l", x, forward) < 0) & (size < _MOST_OVERSTRETCHED) & (along > 0)
    x[overstretched] *= -1
    x += np.maximum(_STRAIGHT - size, 0.0)[:, None] * forward
    x /= np.sqrt(np.einsum("lc,lc->l", x, x))[:, None]
    z = -upper
    R = np.stack([x, np.cross(z, x), z], axis=2)
    return R, np.arctan2(np.einsum("lc,lc->l", lower, x), along)


def _hip_angles(R: Array) -> Array:
    """y, p, r of R = Rz(-y) Rx(s p) Ry(-r); (2, 3, 3) -> (2, 3)."""
    y = np.arctan2(R[:, 0, 1], R[:, 1, 1])
    p = _SIDE * np.arcsin(np.clip(R[:, 2, 1], -1.0, 1.0))
    return np.stack([y, p, np.arctan2(R[:, 2, 0], R[:, 2, 2])], axis=1)


def _head_angles(R: Array) -> tuple[float, float, float]:
    """r, y, p of R = Rx(r) Rz(y) Ry(-p)."""
    y = -np.arcsin(np.clip(R[0, 1], -1.0, 1.0))
    return np.arctan2(R[2, 1], R[1, 1]), y, -np.arctan2(R[0, 2], R[0, 0])
