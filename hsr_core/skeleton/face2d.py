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
from .points2d import POINTS, HeadPoints, normalised, normalised_box

ON_HEAD = {0: "RIGHT_EAR", 16: "LEFT_EAR", 30: "NOSE", 68: "RIGHT_EYE", 69: "LEFT_EYE"}
"""Landmarks that move with the head, by the names of `points2d.POINTS`; the other ones are moved by the face."""
PICTURE_PX = 128
"""Side of a face's picture: REP-155's default."""

_HEAD, _EYES = J["head"], [J["right_eye_smplhf"], J["left_eye_smplhf"]]
_ON_SKIN = np.r_[CONTOUR, LANDMARKS]
_EYEBALL_M = 0.012
_PROFILE_RAD = np.radians(20)
"""A line through the eyes that is further from level in the head is that of a head seen from the side."""


class FaceLandmarks2d:
    """The landmarks of people's faces, from what there is.

    What the regressor saw; else points on the skin, where the body model names them; else the five of `ON_HEAD`.

    Args:
        body: The body model.
    """

    def __init__(self, body: Any) -> None:
        self._body, self._key_points = body, None
        if getattr(body, "key_point_files", None) is not None:
            with suppress(BadFile):  # a file without the tables
                self._key_points = KeyPoints(body)

    def __call__(self, person: HumanEstimate, skeleton: Array, camera: Camera) -> Array:
        """Return x, y in parts of the image's width and height, and a score, (70, 3) in dlib's order.

        What is unknown or not in the image has score 0.

        Args:
            skeleton: (18, 3) of `points2d.skeleton2d`.
        """
        if person.regression.face_landmarks is not None:
            return normalised(np.array(person.regression.face_landmarks, np.float64), camera)
        if self._key_points is not None:
            return normalised(self._on_skin(person, camera), camera)
        out = np.zeros((N_FACE_LANDMARKS, 3))
        for row, name in ON_HEAD.items():
            out[row] = skeleton[POINTS.index(name)]
        return out

    def _on_skin(self, person: HumanEstimate, camera: Camera) -> Array:
        posed = self._body.pose_one(person.params)
        pupils = posed.joints[_EYES] + _EYEBALL_M * posed.joint_rotmats[_EYES, :, 2]
        uv = project(np.concatenate([self._key_points(posed)[_ON_SKIN], pupils]), camera)
        return np.column_stack([uv, np.full(len(uv), person.regression.part_score[3])])


def face_box(joints: Array, head_rotmat: Array, head: HeadPoints, camera: Camera) -> Array | None:
    """Return xmin, ymin, xmax, ymax of the face in parts of the image, (4,); None when it is not in the image."""
    uv = project(head.outline @ head_rotmat.T + joints[_HEAD], camera)
    if not np.isfinite(uv).all():
        return None
    return normalised_box(np.concatenate([uv.min(axis=0), uv.max(axis=0) + 1.0]), camera)


def face_roll(person: HumanEstimate) -> float:
    """Return the angle [rad] of the line through the eyes, from the person's right one, clockwise as seen.

    Of a head seen from the side it is that of the line across the head's height: the eyes are one behind the other.
    """
    up = person.joint_rotmats[_HEAD][:, 1]
    upright = float(np.arctan2(up[0], -up[1]))
    across = person.keypoints2d[_EYES[1], :2] - person.keypoints2d[_EYES[0], :2]
    tilt = (np.arctan2(across[1], across[0]) - upright + np.pi) % (2 * np.pi) - np.pi
    return upright + float(tilt) if abs(tilt) < _PROFILE_RAD else upright


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
