"""Who of the predicted is who of the reference: boxes, greedily."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..types import Array


def tight_box(keypoints: Array, known: Array | None = None) -> Array:
    """Return the box (4,) x0 y0 x1 y1 of points (K, 2) [px], of the `known` ones; NaN without any."""
    points = np.asarray(keypoints, np.float64)[..., :2]
    known = np.isfinite(points).all(-1) & (True if known is None else np.asarray(known, bool))
    if not known.any():
        return np.full(4, np.nan)
    return np.concatenate([points[known].min(0), points[known].max(0)])


def iou_matrix(boxes: Array, others: Array) -> Array:
    """Return intersection over union of every pair, 0 for empty boxes. (N, 4), (M, 4) -> (N, M)."""
    a, b = np.asarray(boxes, np.float64).reshape(-1, 1, 4), np.asarray(others, np.float64).reshape(1, -1, 4)
    inside = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(-1)
    areas = [np.maximum(box[..., 2:] - box[..., :2], 0).prod(-1) for box in (a, b)]
    union = areas[0] + areas[1] - inside
    return np.nan_to_num(np.divide(inside, union, out=np.zeros_like(inside), where=union > 0))


def greedy_match(similarity: Array, at_least: float) -> list[tuple[int, int]]:
    """Return pairs (row, column): the most similar pair first, each row and column once.

    Ties go to the lower row, then the lower column, so that a match depends on nothing but its input.

    Args:
        similarity: Shape (N, M).
        at_least: Pairs below are no match.
    """
    left = np.array(similarity, np.float64)
    if left.ndim != 2:
        raise ShapeError(f"similarities must be (predicted, reference), not {left.shape}")
    pairs = []
    while left.size and left.max() >= at_least:
        row, column = np.unravel_index(np.argmax(left), left.shape)
        pairs.append((int(row), int(column)))
        left[row], left[:, column] = -np.inf, -np.inf
    return pairs


def match_boxes(predicted: Array, reference: Array, min_iou: float = 0.1) -> list[tuple[int, int]]:
    """Return pairs (predicted, reference) of boxes (N, 4) and (M, 4), greedily by IoU.

    AGORA's protocol takes 0.1 and the boxes of the 24 projected joints.
    """
    return greedy_match(iou_matrix(predicted, reference), min_iou)
