"""No depth: the refinement runs without its depth terms."""

from __future__ import annotations

from ..geometry.view import FrameView
from .base import DepthSettings


class NoDepth:
    """Gives nothing, on purpose."""

    name = "none"
    status = "depth is off"

    def depth_for(self, view: FrameView) -> None:
        return None

    def reset(self) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Nothing to release."""


def create(settings: DepthSettings, **_: object) -> NoDepth:
    """Factory for the registry."""
    return NoDepth()
