"""Masks of the body-landmark network that the open regressor uses: no download, no GPU."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..body.joints import J
from ..geometry.camera import project
from ..geometry.view import BodyView, FrameView
from ..regress.crop import Roi
from ..types import Array
from .base import LANDMARKS, MaskSettings, StatelessProvider

MIN_SCORE = 0.5
"""Under this the network does not see a person in the crop."""
_MARGIN = 1.25
"""Side of the crop over the body's extent around the hips, as the network was trained."""
_GUIDED_PX, _GUIDED_EPS = 4, 1e-3
"""Guided filter: radius, and the variance of colours in [0, 1] that counts as an edge."""


class LandmarkMask(StatelessProvider):
    """Crops the image around the body, upright as the body is, and draws the outline to the image's edges.

    Args:
        network: `hsr_core.regress.pose_network.PoseNetwork` or its like.
    """

    name = "landmarks"
    traits = LANDMARKS

    def __init__(self, network: Any) -> None:
        self._network = network

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        roi = person_roi(body)
        if roi is None or not roi.usable(view.camera.image_hw):
            self.status = "the body is outside the image"
            return None
        seen = self._network.run(view.frame, roi)
        if seen.score < MIN_SCORE:
            self.status = f"the landmark network does not see a person there (score {seen.score:.2f})"
            return None
        self.status = ""
        return full_frame(seen.mask, roi.transform(seen.mask.shape[0]), view)


def person_roi(body: BodyView) -> Roi | None:
    """Return the square around a body, turned so that the trunk is upright; None when it has no place in the image."""
    x0, y0, x1, y1 = body.box_xyxy
    if not np.isfinite(body.box_xyxy).all():
        return None
    uv = None if body.joints is None else project(body.joints, body.camera)
    if uv is None or not np.isfinite(uv[[J["pelvis"], J["neck"]]]).all():
        return Roi(((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0) * _MARGIN)
    hips, up = uv[J["pelvis"]], uv[J["neck"]] - uv[J["pelvis"]]
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
    # Along the trunk the box is tight; a corner of it is farther than any part of the body.
    reach = max(np.nanmax(np.linalg.norm(uv - hips, axis=1)), np.abs(corners - hips).max())
    return Roi.about(hips, 2 * reach * _MARGIN, np.arctan2(up[0], -up[1]))


def full_frame(mask: Array, A_crop_img: Array, view: FrameView) -> Array:
    """Return a crop's mask in the image, float32 (H, W), 0 outside the crop.

    A guided filter moves its outline (where the probability is one half) to the nearest edge of the image.

    Args:
        mask: (h, w) probability over the crop, as `Regression.mask`.
        A_crop_img: (2, 3), as `Regression.mask_A_crop_img`.
        view: The image.
    """
    height, width = view.camera.image_hw
    out = np.zeros((height, width), np.float32)
    side = np.array(mask.shape[::-1]) - 0.5
    corners = np.array([[-0.5, -0.5], [side[0], -0.5], [-0.5, side[1]], side])
    inverse = np.linalg.inv(A_crop_img[:, :2])
    uv = (corners - A_crop_img[:, 2]) @ inverse.T
    x0, y0 = np.clip(np.floor(uv.min(0)).astype(int), 0, [width, height])
    x1, y1 = np.clip(np.ceil(uv.max(0)).astype(int) + 1, 0, [width, height])
    if x1 <= x0 or y1 <= y0:
        return out
    shifted = A_crop_img.astype(np.float64).copy()
    shifted[:, 2] += shifted[:, :2] @ [x0, y0]
    part = cv2.warpAffine(
        np.ascontiguousarray(mask, np.float32),
        shifted,
        (int(x1 - x0), int(y1 - y0)),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    guide = view.rgb[y0:y1, x0:x1].astype(np.float32) / 255
    scale = float(np.sqrt(abs(np.linalg.det(inverse))))  # image pixels per pixel of the mask
    radius = round(_GUIDED_PX * max(1.0, scale))
    sharp = cv2.ximgproc.guidedFilter(guide, part, radius, _GUIDED_EPS)
    out[y0:y1, x0:x1] = np.clip(sharp, 0, 1)
    return out


def create(settings: MaskSettings, **_: object) -> LandmarkMask:
    """Factory for the registry.

    Raises:
        MissingPackage, MissingFile: mediapipe or LiteRT is not installed; the message has the command.
    """
    from ..regress.pose_network import PoseNetwork

    return LandmarkMask(PoseNetwork())
