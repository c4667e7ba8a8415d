"""Binary regions of an image: grow, shrink, compare. Work is done within the region's own box only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def bounds(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return the half-open box (x0, y0, x1, y1) of what is set, or None when nothing is."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def grow(mask: Mask, radius_px: float) -> Mask:
    """Return the mask dilated by a disc."""
    return _morph(cv2.dilate, mask, radius_px)


def shrink(mask: Mask, radius_px: float) -> Mask:
    """Return the mask eroded by a disc; the image's border does not count as an edge of the region."""
    return _morph(cv2.erode, mask, radius_px)


def iou(a: Mask, b: Mask) -> float:
    """Return intersection over union; 0 when both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def outline(mask: Mask) -> Mask:
    """Return the region's pixels that touch what is outside of it or the image's border."""
    inner = cv2.erode(
        mask.view(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    ).view(bool)
    return mask & ~inner


def _morph(operation, mask: Mask, radius_px: float) -> Mask:
    mask = np.ascontiguousarray(mask)
    radius = max(0, round(radius_px))
    box = bounds(mask)
    if box is None or radius == 0:
        return mask.copy()
    height, width = mask.shape
    # One pixel of what is outside, so that the region's own edge is seen as one.
    x0, y0 = max(box[0] - radius - 1, 0), max(box[1] - radius - 1, 0)
    x1, y1 = min(box[2] + radius + 1, width), min(box[3] + radius + 1, height)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    out = np.zeros_like(mask)
    out[y0:y1, x0:x1] = operation(mask[y0:y1, x0:x1].view(np.uint8), disc)
    return out
