"""Depth for the refinement: a depth camera, a network, or the body's own height. See docs/depth_and_masks.md."""

from .base import DepthFrame, DepthProvider, DepthSettings
from .select import DepthSelector, open_depth

__all__ = ["DepthFrame", "DepthProvider", "DepthSelector", "DepthSettings", "open_depth"]
