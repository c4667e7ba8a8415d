"""The 18 points of a person in an image, as ROS4HRI's Skeleton2D orders them.

The order is OpenPose's COCO order up to the legs; after them hri_msgs has the left eye and ear before the right ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..body.joints import J
from ..geometry.camera import project
from ..types import Array, Camera, HumanParams

POINTS: tuple[str, ...] = (
    "NOSE", "NECK", "RIGHT_SHOULDER", "RIGHT_ELBOW", "RIGHT_WRIST", "LEFT_SHOULDER", "LEFT_ELBOW", "LEFT_WRIST",
    "RIGHT_HIP", "RIGHT_KNEE", "RIGHT_ANKLE", "LEFT_HIP", "LEFT_KNEE", "LEFT_ANKLE",
    "LEFT_EYE", "RIGHT_EYE", "LEFT_EAR", "RIGHT_EAR",
)  # fmt: skip

_HEAD, _SHOULDERS = J["head"], [J["left_shoulder"], J["right_shoulder"]]
_ROW = {name: row for row, name in enumerate(POINTS)}
_JOINTS = {
    name: J[f"{name.lower()}_smplhf" if "EYE" in name else name.lower()]
    for name in POINTS
    if name not in ("NOSE", "NECK", "LEFT_EAR", "RIGHT_EAR")
}
_ROWS, _FROM = np.array([_ROW[name] for name in _JOINTS]), np.array(list(_JOINTS.values()))
_ON_HEAD = ("nose", "left_ear", "right_ear")
_ON_HEAD_ROWS = np.array([_ROW[name.upper()] for name in _ON_HEAD])
_MAX_OUTLINE = 64


@dataclass(frozen=True, eq=False)
class HeadPoints:
    """Points that are fixed on a person's head, relative to the head's joint, in its axes [m].

    Attributes:
        named: Nose, left ear, right ear, (3, 3).
        outline: Points around the face, (n, 3).
    """

    named: Array
    outline: Array


def head_points(body: Any, params: HumanParams) -> HeadPoints | None:
    """Return the head's points of a shape; None for a body without a face or without names on its skin.

    Args:
        body: Body model (`hsr_core.body.BodyModel`). params: Of the person; only shape and expression count.
    """
    ids = getattr(body, "surface_points", {})
    if not all(name in ids for name in _ON_HEAD):
        return None
    vertices, joints = body.rest(params)
    vertices = np.asarray(vertices, np.float64) - joints[_HEAD]
    named = vertices[[ids[name] for name in _ON_HEAD]]
    nose, left, right = named
    width = left[0] - right[0]
    # The front of the head, from under the chin to the forehead.
    front = (vertices[:, 2] > 0.5 * (left[2] + right[2])) & (np.abs(vertices[:, 0]) < 0.6 * width)
    front &= (vertices[:, 1] > nose[1] - 0.6 * width) & (vertices[:, 1] < nose[1] + 0.75 * width)
    outline = vertices[front]
    if not len(outline):
        return None
    return HeadPoints(named, outline[:: max(1, len(outline) // _MAX_OUTLINE)])


def skeleton2d(keypoints2d: Array, joints: Array, head_rotmat: Array, head: HeadPoints | None, camera: Camera) -> Array:
    """Return x, y in parts of the image's width and height, and a score, in the order of `POINTS`; (18, 3).

    Points outside the image or behind the camera have score 0. The neck is the middle of the shoulders. Nose and
    ears lie on the head of the body model and have the score of the head: whether hair or the head itself hides an
    ear is not known.

    Args:
        keypoints2d: (55, 3) u, v [px] and score. joints: (55, 3) [m], camera frame.
        head_rotmat: (3, 3), head joint to camera frame.
        head: None: nose and ears have score 0.
        camera: Of that image.
    """
    out = np.zeros((len(POINTS), 3))
    out[_ROWS] = keypoints2d[_FROM]
    shoulders = keypoints2d[_SHOULDERS]
    out[_ROW["NECK"]] = *(0.5 * (shoulders[0, :2] + shoulders[1, :2])), min(shoulders[0, 2], shoulders[1, 2])
    if head is not None:
        out[_ON_HEAD_ROWS, :2] = project(head.named @ head_rotmat.T + joints[_HEAD], camera)
        out[_ON_HEAD_ROWS, 2] = keypoints2d[_HEAD, 2]
    return normalised(out, camera)


def normalised_box(bbox_xyxy: Array, camera: Camera) -> Array | None:
    """Return a box in parts of the image, cut at its borders, (4,); None when nothing of it is inside.

    Args:
        bbox_xyxy: (4,) [px], half open.
    """
    height, width = camera.image_hw
    box = np.clip(np.asarray(bbox_xyxy, np.float64) / (width, height, width, height), 0.0, 1.0)
    return box if box[2] > box[0] and box[3] > box[1] else None


def normalised(points: Array, camera: Camera) -> Array:
    """Return points u, v [px] and score, (n, 3), in parts of the image, in place; score 0 for those outside it."""
    height, width = camera.image_hw
    xy = (points[:, :2] + 0.5) / (width, height)  # pixel centres are at integers
    with np.errstate(invalid="ignore"):
        inside = ((xy >= 0) & (xy <= 1)).all(axis=1)
    points[:, :2] = np.where(np.isfinite(xy), np.clip(xy, 0, 1), 0)
    points[~inside, 2] = 0
    return points
