"""A person's face in the image: its 70 landmarks, its box, and pictures of one size."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..body.joints import J
from ..body.key_points import CONTOUR, LANDMARKS, KeyPoints
from ..errors import BadFile
from ..geometry.camera import crop_transform, project
from ..types import N_FACE_LANDMARKS, Array, Camera, HumanEstimate
from .points2d import POINTS, HeadPoints, normalised_box

ON_HEAD = {0: "RIGHT_EAR", 16: "LEFT_EAR", 30: "NOSE", 68: "RIGHT_EYE", 69: "LEFT_EYE"}
"""Landmarks that move with the head, by the names of `points2d.POINTS`; the other ones are moved by the face."""
PICTURE_PX = 128
"""Side of a face's picture: REP-155's default."""

_HEAD, _EYES = J["head"], [J["right_eye_smplhf"], J["left_eye_smplhf"]]
_ON_SKIN = np.r_[CONTOUR, LANDMARKS]
_BROWS, _BRIDGE, _UNDER_NOSE, _PUPILS = slice(17, 27), 27, 33, slice(68, 70)
_EYEBALL_M = 0.012
_PROFILE_RAD = np.radians(20)
"""A line through the eyes that is further from level in the head is that of a head seen from the side."""


class FaceLandmarks2d:
    """The landmarks of people's faces in their image: what the regressor saw, else points on the skin.

    Args:
        body: The body model; only of one that names landmarks on its skin there are the latter.
    """

    def __init__(self, body: Any) -> None:
        self._body, self._key_points = body, None
        if getattr(body, "key_point_files", None) is not None:
            with suppress(BadFile):  # a file without the tables
                self._key_points = KeyPoints(body)

    def __call__(self, person: HumanEstimate, camera: Camera) -> Array | None:
        """Return u, v [px] and score, (70, 3) in dlib's order; None: nothing tells them."""
        measured = person.regression.face_landmarks
        if measured is not None or self._key_points is None:
            return measured
        posed = self._body.pose_one(person.params)
        pupils = posed.joints[_EYES] + _EYEBALL_M * posed.joint_rotmats[_EYES, :, 2]
        uv = project(np.concatenate([self._key_points(posed)[_ON_SKIN], pupils]), camera)
        return np.column_stack([uv, np.full(len(uv), person.regression.part_score[3])])


def five_landmarks(skeleton: Array) -> Array:
    """Return the landmarks that a skeleton tells, (70, 3) as those of `points2d.skeleton2d`; others have score 0."""
    out = np.zeros((N_FACE_LANDMARKS, 3))
    for row, name in ON_HEAD.items():
        out[row] = skeleton[POINTS.index(name)]
    return out


def face_box(landmarks: Array, camera: Camera) -> Array | None:
    """Return the box of a face up to the middle of its forehead; as of `head_box`.

    Args:
        landmarks: (70, 3) u, v [px] and score.
    """
    uv = landmarks[:, :2]
    forehead = uv[_BROWS] + uv[_BRIDGE] - uv[_UNDER_NOSE]  # as far over the brows as the nose is long
    return _box(np.concatenate([uv, forehead]), camera)


def head_box(joints: Array, head_rotmat: Array, head: HeadPoints, camera: Camera) -> Array | None:
    """Return xmin, ymin, xmax, ymax of a body's face in parts of the image, (4,); None when it is not in the image."""
    return _box(project(head.outline @ head_rotmat.T + joints[_HEAD], camera), camera)


def face_roll(person: HumanEstimate, landmarks: Array | None) -> float:
    """Return the angle [rad] of the line through the eyes, from the person's right one, clockwise as seen.

    Of a head seen from the side it is that of the line across the head's height: the eyes are one behind the other.

    Args:
        landmarks: (70, 3) u, v [px] and score; None: the eyes are where the body has them.
    """
    right, left = person.keypoints2d[_EYES, :2] if landmarks is None else landmarks[_PUPILS, :2]
    up = person.joint_rotmats[_HEAD][:, 1]
    upright = float(np.arctan2(up[0], -up[1]))
    tilt = (np.arctan2(left[1] - right[1], left[0] - right[0]) - upright + np.pi) % (2 * np.pi) - np.pi
    return upright + float(tilt) if abs(tilt) < _PROFILE_RAD else upright


def _box(uv: Array, camera: Camera) -> Array | None:
    if not np.isfinite(uv).all():
        return None
    return normalised_box(np.concatenate([uv.min(axis=0), uv.max(axis=0) + 1.0]), camera)


def face_picture(image: NDArray[np.uint8], box: Array, roll_rad: float = 0.0) -> NDArray[np.uint8]:
    """Return a square picture around a face, 128 pixels wide, black where the image ends.

    Args:
        image: (H, W), or (H, W, C).
        box: (4,), in parts of the image. roll_rad: What is level in the picture; 0: the image's rows.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box * (width, height, width, height)
    A = crop_transform([0.5 * (x0 + x1), 0.5 * (y0 + y1)], max(x1 - x0, y1 - y0), roll_rad, PICTURE_PX)
    return cv2.warpAffine(image, A, (PICTURE_PX, PICTURE_PX), flags=cv2.INTER_LINEAR)
