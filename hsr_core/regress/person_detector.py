"""Find people in a whole image with MediaPipe's pose-detection network (BlazePose, single shot)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..threads import network_threads
from ..types import Array, Frame
from .crop import Roi, crop_rgb, to_image, wrap_angle
from .litert import LiteRtNetwork, model_path

_SIDE = 224
_LAYERS = ((28, 2), (14, 2), (7, 6))
"""Grid size and anchors per cell: strides 8, 16 and three layers of stride 32 share their cells."""
_ROI_SCALE = 1.25
"""Margin around the circle through the person that the landmark network was trained with."""


@dataclass(frozen=True)
class PersonDetection:
    """One person: `roi` is what the landmark network wants, `height_px` a rough body size."""

    roi: Roi
    score: float


def anchors() -> Array:
    """Return the anchor centres in [0, 1], shape (2254, 2); every anchor is 1 x 1."""
    rows = []
    for cells, per_cell in _LAYERS:
        grid = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(grid, grid, indexing="ij")
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), per_cell, axis=0))
    return np.concatenate(rows).astype(np.float32)


class PersonDetector:
    """People in the whole frame or in a square of it."""

    def __init__(self) -> None:
        self._network = LiteRtNetwork(model_path("pose_detection/pose_detection.tflite"), threads=network_threads())
        self._anchors = anchors()

    def detect(self, frame: Frame, *, min_score: float = 0.5, region: Roi | None = None) -> list[PersonDetection]:
        """Return the people found, largest first.

        Args:
            frame: Any size; it is letterboxed.
            min_score: Least confidence.
            region: Square to search; the whole frame when None.
        """
        height, width = frame.image_hw
        region = region or Roi((width / 2, height / 2), float(max(height, width)))
        crop_rgb(frame, region.transform(_SIDE), self._network.input, low=-1.0)
        boxes, logits = self._network.run()
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -60, 60)))
        keep = np.flatnonzero(scores > min_score)
        points = boxes[keep, 4:8].reshape(-1, 2, 2) / _SIDE + self._anchors[keep, None]
        corners = boxes[keep, :4] / _SIDE
        corners[:, :2] += self._anchors[keep]
        found = []
        for group in _overlapping(corners, scores[keep]):
            weight = scores[keep][group]
            hips, reach = np.average(points[group], axis=0, weights=weight) * _SIDE - 0.5
            found.append(
                PersonDetection(body_roi(*to_image(region, np.stack([hips, reach]), _SIDE)), float(weight.max()))
            )
        found = [person for person in found if person.roi.usable(frame.image_hw)]
        return sorted(found, key=lambda person: -person.roi.size_px)


def body_roi(hips: Array, reach: Array) -> Roi:
    """Return the square around a person from the mid-hip point and the point that spans its circle [px]."""
    dx, dy = np.asarray(reach, np.float64) - hips
    angle = wrap_angle(np.pi / 2 - np.arctan2(-dy, dx))
    return Roi.about(hips, 2 * np.hypot(dx, dy) * _ROI_SCALE, angle)


def _overlapping(centre_boxes: Array, scores: Array, *, iou: float = 0.3) -> list[Array]:
    """Group boxes (x, y, w, h) that overlap the best remaining one: weighted non-maximum suppression."""
    half = centre_boxes[:, 2:] / 2
    low, high = centre_boxes[:, :2] - half, centre_boxes[:, :2] + half
    area = np.prod(centre_boxes[:, 2:], axis=1)
    left = np.argsort(-scores)
    groups = []
    while len(left):
        best = left[0]
        inside = np.minimum(high[left], high[best]) - np.maximum(low[left], low[best])
        shared = np.prod(np.maximum(inside, 0), axis=1)
        same = shared / np.maximum(area[left] + area[best] - shared, 1e-9) > iou
        same[0] = True
        groups.append(left[same])
        left = left[~same]
    return groups
