"""Face landmarks: MediaPipe's face mesh (468 points) and iris networks on a crop given by the body's landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array, Frame
from .crop import Roi, crop_rgb, to_image
from .litert import LiteRtNetwork, model_path
from .pose_network import L, PoseLandmarks

_SIDE = 192
_IRIS_SIDE = 64
RIGHT_EYE_CORNERS = (33, 133)
"""Outer, inner corner of the person's right eye in the face mesh."""
LEFT_EYE_CORNERS = (263, 362)
_UPPER_LID = 12
_LOWER_LID = 4
"""Middle of the upper and the lower lid in the iris network's 71 eye-contour points."""


@dataclass(frozen=True, eq=False)
class EyeLandmarks:
    """One eye.

    Attributes:
        iris: (2,) [px] middle of the iris, full image.
        opening: Distance of the lids over the distance of the corners.
    """

    iris: Array
    opening: float


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """One face.

    Attributes:
        points: (468, 3) [px]; x, y in the full image, z of the same scale, smaller = nearer.
        left_eye, right_eye: The person's own left and right.
        score: Confidence that the crop holds a face.
        next_roi: Where to look in the next frame.
    """

    points: Array
    left_eye: EyeLandmarks
    right_eye: EyeLandmarks
    score: float
    next_roi: Roi


class FaceNetwork:
    """Crop, run, decode one face."""

    def __init__(self) -> None:
        self._mesh = LiteRtNetwork(model_path("face_landmark/face_landmark.tflite"))
        self._iris = LiteRtNetwork(model_path("iris_landmark/iris_landmark.tflite"))

    def run(self, frame: Frame, roi: Roi) -> FaceLandmarks:
        """Return the landmarks of the face in `roi`."""
        points, score = self.mesh(frame, roi)
        left = self._eye(frame, points, LEFT_EYE_CORNERS)
        right = self._eye(frame, points, RIGHT_EYE_CORNERS, mirror=True)
        return FaceLandmarks(points, left, right, score, roi_from_landmarks(points))

    def mesh(self, frame: Frame, roi: Roi) -> tuple[Array, float]:
        """Return the 468 points as in `FaceLandmarks.points`, and the score."""
        crop_rgb(frame, roi.transform(_SIDE), self._mesh.input)
        raw, logit = self._mesh.run()
        crop = raw.reshape(468, 3)
        points = np.empty((468, 3))
        points[:, :2] = to_image(roi, crop[:, :2] - 0.5, _SIDE)
        points[:, 2] = crop[:, 2] * (roi.size_px / _SIDE)
        return points, float(1 / (1 + np.exp(-np.clip(logit.ravel()[0], -60, 60))))

    def _eye(self, frame: Frame, points: Array, corners: tuple[int, int], *, mirror: bool = False) -> EyeLandmarks:
        """Run the iris network; it knows left eyes only, so the right one is mirrored."""
        a, b = points[corners[0], :2], points[corners[1], :2]
        outer_to_inner = b - a
        across = -outer_to_inner if not mirror else outer_to_inner
        angle = float(np.arctan2(across[1], across[0]))
        width = float(np.hypot(*outer_to_inner))
        roi = Roi.about((a + b) / 2, 2.3 * width, angle)
        A = roi.transform(_IRIS_SIDE)
        if mirror:
            A = np.array([[-1, 0, _IRIS_SIDE - 1.0], [0, 1, 0]]) @ np.vstack([A, [0, 0, 1]])
        crop_rgb(frame, A, self._iris.input)
        contour, iris = self._iris.run()
        eye = contour.reshape(71, 3)[:, :2]
        center = iris.reshape(5, 3)[0, :2] - 0.5
        if mirror:
            center = np.array([_IRIS_SIDE - 1 - center[0], center[1]])
        # The first 16 contour points are the lids: 0..8 the lower one from corner to corner, 9..15 the upper one.
        opening = np.hypot(*(eye[_UPPER_LID] - eye[_LOWER_LID])) / max(np.hypot(*(eye[8] - eye[0])), 1e-6)
        return EyeLandmarks(to_image(roi, center, _IRIS_SIDE), float(opening))


def roi_from_pose(pose: PoseLandmarks) -> Roi:
    """Return a square around the face from the body's nose, eyes, ears and mouth."""
    uv = pose.uv
    left, right = uv[L["left_eye"]], uv[L["right_eye"]]
    mouth = (uv[L["mouth_left"]] + uv[L["mouth_right"]]) / 2
    eyes = (left + right) / 2
    down = mouth - eyes
    # Across the eyes when seen from the front, down the face when seen from the side: whichever is longer.
    across = left - right
    if np.hypot(*across) > 0.7 * np.hypot(*down):
        angle = np.arctan2(across[1], across[0])
    else:
        angle = np.arctan2(-down[0], down[1])
    face = uv[[L["nose"], L["left_ear"], L["right_ear"], L["mouth_left"], L["mouth_right"]]]
    size = max(2.4 * np.hypot(*down), 1.4 * np.ptp(face, axis=0).max(), 1.7 * np.hypot(*across))
    return Roi.about(eyes + 0.45 * down, 1.5 * size, angle)


def roi_from_landmarks(points: Array) -> Roi:
    """Return the square for the next frame: 1.5 times the landmarks' box, eyes level."""
    dx, dy = points[263, :2] - points[33, :2]
    return Roi.around(points[:, :2], np.arctan2(dy, dx)).shifted(0, 0, 1.5)
