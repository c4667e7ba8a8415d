"""What a promptable segmenter is told about a person: a box and points, from the posed body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..body.joints import J
from ..geometry.camera import project
from ..geometry.view import BodyView
from ..types import Array

POSITIVE = ("pelvis", "spine3", "head", "left_knee", "right_knee")
CHEST = "spine3"
MAX_POINTS = 8
"""Of both kinds; more people than that are not told about."""
_BOX_GROWTH = 0.1


@dataclass(frozen=True, eq=False)
class Prompt:
    """See the module.

    Attributes:
        box_xyxy: (4,) [px], cut at the image.
        points: (N, 2) [px]; may be empty.
        labels: (N,) 1 = this person, 0 = not.
    """

    box_xyxy: Array
    points: Array
    labels: Array


def prompt_for(body: BodyView, others: Sequence[BodyView]) -> Prompt | None:
    """Return the prompt of one person among others; None when the body is outside the image."""
    height, width = body.camera.image_hw
    if not body.mask.any():
        return None
    low, high = body.box_xyxy[:2], body.box_xyxy[2:]
    margin = _BOX_GROWTH / 2 * (high - low)
    box = np.clip(np.concatenate([low - margin, high + margin]), 0, [width, height, width, height])
    inside = [uv for name in POSITIVE if (uv := _seen(body, name, others)) is not None]
    outside = [
        uv
        for other in others
        if (uv := _seen(other, CHEST, [body])) is not None and not body.mask[_row_column(uv)]
    ]  # fmt: skip
    points = [*inside, *outside][:MAX_POINTS]
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int32)[:MAX_POINTS]
    return Prompt(box.astype(np.float32), np.array(points, np.float32).reshape(-1, 2), labels)


def _seen(body: BodyView, joint: str, others: Sequence[BodyView]) -> Array | None:
    """Return a joint's pixel (2,) when it is inside the image and on this body's surface, nobody else before it."""
    if body.joints is None:
        return None
    uv = project(body.joints[J[joint]], body.camera)
    height, width = body.camera.image_hw
    if not (np.isfinite(uv).all() and (uv >= 0).all() and uv[0] <= width - 1 and uv[1] <= height - 1):
        return None
    at = _row_column(uv)
    if not body.mask[at]:
        return None
    hidden = any(other.mask[at] and other.depth_m[at] < body.depth_m[at] for other in others)
    return None if hidden else uv


def _row_column(uv: Array) -> tuple[int, int]:
    return round(float(uv[1])), round(float(uv[0]))
