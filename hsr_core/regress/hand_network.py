"""Hand landmarks: where a hand must be from the body's landmarks, then MediaPipe's hand network on that crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array, Frame
from .crop import Roi, crop_rgb, to_image, wrap_angle
from .litert import LiteRtNetwork, model_path
from .pose_network import L, PoseLandmarks

_SIDE = 224
_RECROP_SIDE = 256
_PALM = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])
"""Wrist and the lower finger joints: their box, unlike the fingertips', is steady while the hand closes."""


@dataclass(frozen=True, eq=False)
class HandLandmarks:
    """21 points of one hand: wrist, then thumb, index, middle, ring, little finger from base to tip.

    Attributes:
        uv: (21, 2) [px], full image.
        world: (21, 3) [m], about the hand's middle, in optical axes turned with the image.
        score: Confidence that the crop holds a hand.
        next_roi: Where to look in the next frame.
    """

    uv: Array
    world: Array
    score: float
    next_roi: Roi


class HandNetwork:
    """Crop, run, decode one hand."""

    def __init__(self) -> None:
        self._network = LiteRtNetwork(model_path("hand_landmark/hand_landmark_full.tflite"))
        self._recrop = LiteRtNetwork(model_path("holistic_landmark/hand_recrop.tflite"))

    def find(self, frame: Frame, pose: PoseLandmarks, side: str) -> Roi | None:
        """Return the hand's square from the body's landmarks, tightened by the re-crop network; None if too small."""
        rough = roi_from_pose(pose, side)
        if not rough.usable(frame.image_hw):
            return None
        crop_rgb(frame, rough.transform(_RECROP_SIDE), self._recrop.input)
        points = self._recrop.run()[0].reshape(2, 2)
        middle, reach = to_image(rough, points - 0.5, _RECROP_SIDE)
        dx, dy = reach - middle
        angle = wrap_angle(-np.pi / 2 - np.arctan2(-dy, dx))
        roi = Roi.about(middle, 2 * np.hypot(dx, dy), angle).shifted(0, -0.1)
        return roi if roi.usable(frame.image_hw) else None

    def run(self, frame: Frame, roi: Roi) -> HandLandmarks:
        """Return the landmarks of the hand in `roi`."""
        crop_rgb(frame, roi.transform(_SIDE), self._network.input)
        points, score, _, world = self._network.run()
        uv = to_image(roi, points.reshape(21, 3)[:, :2] - 0.5, _SIDE)
        cos, sin = np.cos(roi.angle_rad), np.sin(roi.angle_rad)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return HandLandmarks(uv, world.reshape(21, 3) @ turn.T, float(score[0]), roi_from_landmarks(uv))


def roi_from_pose(pose: PoseLandmarks, side: str) -> Roi:
    """Return the square around a hand from the body's wrist, index and little-finger points."""
    wrist, index, pinky = (pose.uv[L[f"{side}_{name}"]] for name in ("wrist", "index", "pinky"))
    middle = (2 * index + pinky) / 3
    dx, dy = middle - wrist
    angle = wrap_angle(np.pi / 2 - np.arctan2(-dy, dx))
    return Roi.about(middle, 2 * np.hypot(dx, dy), angle).shifted(0, -0.1, 2.7)


def roi_from_landmarks(uv: Array) -> Roi:
    """Return the square for the next frame from this frame's hand, fingers pointing up in it."""
    wrist, knuckles = uv[0], (uv[5] + uv[13]) / 2
    dx, dy = (knuckles + uv[9]) / 2 - wrist
    angle = wrap_angle(np.pi / 2 - np.arctan2(-dy, dx))
    return Roi.around(uv[_PALM], angle).shifted(0, -0.1, 2.0)
