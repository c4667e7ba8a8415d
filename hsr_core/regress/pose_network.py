"""Body landmarks of one person: MediaPipe's pose-landmark network (BlazePose GHUM, full)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry.camera import invert_affine
from ..threads import network_threads
from ..types import Array, Frame
from .appearance import describe
from .crop import Roi, crop_rgb, to_image
from .litert import LiteRtNetwork, model_path
from .person_detector import body_roi

_SIDE = 256
_HEATMAP = 64
_KERNEL = 7
_MIN_HEAT = 0.5
_HIDE = 0.5
"""Mask probability over which a pixel belongs to another person."""

NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""The 33 landmarks, in the network's order."""
L = {name: i for i, name in enumerate(NAMES)}


@dataclass(frozen=True, eq=False)
class PoseLandmarks:
    """Body landmarks of one person.

    Attributes:
        uv: (33, 2) [px], full image.
        world: (33, 3) [m], relative to the mid-hips, in optical axes turned with the image (x right, y down, z away).
        visibility: (33,) [0, 1], seen and not hidden.
        presence: (33,) [0, 1], inside the crop.
        score: Confidence that the crop holds a person.
        roi: The crop.
        next_roi: Where to look in the next frame.
        mask: float32 (256, 256), probability of the person over the crop.
        appearance: Colour histograms (6, 16), see `appearance.describe`.
    """

    uv: Array
    world: Array
    visibility: Array
    presence: Array
    score: float
    roi: Roi
    next_roi: Roi
    mask: Array
    appearance: Array


class PoseNetwork:
    """Crop, run, decode."""

    def __init__(self) -> None:
        path = model_path("pose_landmark/pose_landmark_full.tflite")
        self._network = LiteRtNetwork(path, threads=network_threads())

    def run(self, frame: Frame, roi: Roi, others: Sequence[PoseLandmarks] = ()) -> PoseLandmarks:
        """Return the landmarks of the person in `roi`.

        Args:
            frame: The image.
            roi: Where the person is.
            others: People who are not meant: their pixels are black. Of two in a crop the network prefers the larger.
        """
        crop_rgb(frame, roi.transform(_SIDE), self._network.input)
        hidden = np.zeros((_SIDE, _SIDE), bool)
        for other in others:
            hidden |= _seen_in(other, roi) > _HIDE
        self._network.input[hidden] = 0
        raw, score, mask, heatmap, world = self._network.run()
        points = raw.reshape(39, 5)
        xy = refine_by_heatmap(points[:, :2] / _SIDE, heatmap)
        uv = to_image(roi, xy * _SIDE - 0.5, _SIDE)
        cos, sin = np.cos(roi.angle_rad), np.sin(roi.angle_rad)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        mask = _sigmoid(mask[..., 0])
        shoulders, hips = (
            _SIDE * xy[[L[f"left_{name}"], L[f"right_{name}"]], 1].mean() for name in ("shoulder", "hip")
        )
        return PoseLandmarks(
            uv=uv[:33],
            world=world.reshape(39, 3)[:33] @ turn.T,
            visibility=_sigmoid(points[:33, 3]),
            presence=_sigmoid(points[:33, 4]),
            score=float(score[0]),
            roi=roi,
            next_roi=body_roi(uv[33], uv[34]),
            mask=mask,
            appearance=describe(self._network.input, (mask > _HIDE) & ~hidden, shoulders, hips),
        )


def _seen_in(other: PoseLandmarks, roi: Roi) -> Array:
    """Return another person's mask in the crop of `roi`."""
    to_other = np.vstack([invert_affine(roi.transform(_SIDE)), [0, 0, 1]])
    A_other_crop = other.roi.transform(other.mask.shape[0]) @ to_other
    return cv2.warpAffine(other.mask, A_other_crop, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def refine_by_heatmap(xy: Array, heatmap: Array) -> Array:
    """Move points to the centre of mass of a 7 x 7 window of their heatmap, where it is sure of itself.

    Args:
        xy: (N, 2) in [0, 1] of the crop.
        heatmap: (64, 64, N) logits.

    Returns:
        (N, 2) in [0, 1].
    """
    side, radius = _HEATMAP, _KERNEL // 2
    cell = (xy * side).astype(int)
    offsets = np.arange(-radius, radius + 1)
    rows = cell[:, 1, None, None] + offsets[None, :, None]
    cols = cell[:, 0, None, None] + offsets[None, None, :]
    inside = (rows >= 0) & (rows < side) & (cols >= 0) & (cols < side)
    index = np.arange(len(xy))[:, None, None]
    heat = _sigmoid(heatmap[np.clip(rows, 0, side - 1), np.clip(cols, 0, side - 1), index]) * inside
    total = heat.sum((1, 2))
    moved = np.stack([(heat * cols).sum((1, 2)), (heat * rows).sum((1, 2))], 1)
    in_image = ((cell >= 0) & (cell < side)).all(1)
    sure = in_image & (heat.max((1, 2)) >= _MIN_HEAT) & (total > 0)
    return np.where(sure[:, None], moved / np.where(total > 0, total, 1)[:, None] / side, xy)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
