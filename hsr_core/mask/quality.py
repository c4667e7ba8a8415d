"""Whether a mask shows the person it is said to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.regions import Mask, bounds, iou, outline
from ..geometry.view import BodyView
from ..types import Array
from .base import SURE, Traits

MIN_PIXELS = 64
"""A smaller mask is empty."""
FULL_SHARE, FULL_BOX_SHARE = 0.6, 0.4
"""A mask over more than the first share of the image, of a body whose box covers less than the second, has run away."""
MIN_IOU, MIN_IOU_FRAMES = 0.6, 3
MAX_JUMP = 0.4
"""Largest relative change of area from frame to frame, the body's own change taken out."""
_ADOPT_AFTER = 3
"""An area that stays after a jump is believed."""


@dataclass(frozen=True)
class Judgement:
    """What is thought of a mask.

    Attributes:
        quality: [0, 1]; 0 when rejected.
        overlap: IoU with the body's outline, clothes included.
        touches_border: The mask reaches the image's border.
        reason: Why it is rejected; "" when it is not.
    """

    quality: float
    overlap: float = 0.0
    touches_border: bool = False
    reason: str = ""


def judge(prob: Array, body: BodyView, others: Sequence[BodyView], traits: Traits, cloth_m: float) -> Judgement:
    """Compare a mask with the posed body.

    Args:
        prob: (H, W) [0, 1].
        body: The person it is said to show.
        others: Other people of the image.
        traits: Of its origin.
        cloth_m: How far clothes stand off [m].

    Returns:
        Quality = IoU with the body's outline x (1 - share of the mask's outline on the image's border) x trust.
    """
    if prob.shape != body.camera.image_hw:
        return Judgement(0.0, reason=f"the mask is {prob.shape}, the image {body.camera.image_hw}")
    sure = prob > SURE  # NaN is not sure
    area = int(np.count_nonzero(sure))
    if area < MIN_PIXELS:
        return Judgement(0.0, reason="the mask is empty")
    expected = body.silhouette(cloth_m)
    if not expected.any():
        return Judgement(0.0, reason="the body is outside the image")
    share, box_share = area / sure.size, _box_share(body)
    if share > FULL_SHARE and box_share < FULL_BOX_SHARE:
        return Judgement(0.0, reason=f"the mask covers {share:.0%} of the image, the body's box {box_share:.0%}")
    overlap = iou(sure, expected)
    for other in others:
        theirs = iou(sure, other.mask)
        if theirs > max(overlap, 0.1):
            return Judgement(0.0, overlap, reason=f"it is the mask of another person (track {other.track_id})")
    if not _inside(_centroid(sure), body.box_xyxy):
        return Judgement(0.0, overlap, reason="the mask lies beside the body")
    rim = outline(sure)
    on_border = sum(int(np.count_nonzero(edge)) for edge in (rim[0], rim[-1], rim[1:-1, 0], rim[1:-1, -1]))
    border_share = on_border / max(int(np.count_nonzero(rim)), 1)
    quality = float(np.clip(overlap * (1 - border_share) * traits.trust, 0, 1))
    return Judgement(quality, overlap, on_border > 0)


class MaskWatch:
    """What only shows along time, of one person: area jumps, and masks that keep disagreeing with the body."""

    def __init__(self) -> None:
        self._area: float | None = None
        self._jumps = 0
        self._poor = 0

    def check(self, sure: Mask, body: BodyView, overlap: float) -> tuple[str, bool]:
        """Return (why this mask is rejected or "", whether the provider should be prompted anew)."""
        area = np.count_nonzero(sure) / max(int(np.count_nonzero(body.mask)), 1)
        jumped = self._area is not None and not 1 - MAX_JUMP <= area / self._area <= 1 + MAX_JUMP
        self._jumps = self._jumps + 1 if jumped else 0
        if jumped and self._jumps < _ADOPT_AFTER:
            return f"the mask's area changed by {area / self._area - 1:+.0%} from one image to the next", True
        self._area, self._jumps = area, 0
        self._poor = self._poor + 1 if overlap < MIN_IOU else 0
        return "", self._poor >= MIN_IOU_FRAMES


def _box_share(body: BodyView) -> float:
    height, width = body.camera.image_hw
    x0, y0, x1, y1 = np.clip(body.box_xyxy, 0, [width, height, width, height])
    return float((x1 - x0) * (y1 - y0) / (height * width))


def _centroid(mask: Mask) -> Array:
    x0, y0, x1, y1 = bounds(mask)
    part = mask[y0:y1, x0:x1]
    rows, columns = part.sum(axis=1), part.sum(axis=0)
    return np.array(
        [x0 + columns @ np.arange(len(columns)) / columns.sum(), y0 + rows @ np.arange(len(rows)) / rows.sum()]
    )


def _inside(point: Array, box: Array) -> bool:
    return bool((point >= box[:2]).all() and (point <= box[2:]).all())
