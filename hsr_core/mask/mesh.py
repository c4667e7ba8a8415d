"""The posed body's own outline as a mask: always there, and no evidence of anything."""

from __future__ import annotations

import numpy as np

from ..geometry.view import BodyView, FrameView
from ..types import Array
from .base import OWN_OUTLINE, MaskSettings, StatelessProvider

_SLACK_M = 0.02
"""Added to the clothes: the pose is not exact."""


class MeshMask(StatelessProvider):
    """The silhouette, widened by clothes and a little more.

    Args:
        cloth_m: How far clothes stand off [m].
    """

    name = "mesh"
    traits = OWN_OUTLINE

    def __init__(self, cloth_m: float) -> None:
        self._margin_m = cloth_m + _SLACK_M

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        mask = body.silhouette(self._margin_m)
        self.status = "" if mask.any() else "the body is outside the image"
        return mask.astype(np.float32) if mask.any() else None


def create(settings: MaskSettings, **_: object) -> MeshMask:
    """Factory for the registry."""
    return MeshMask(settings.cloth_m)
