"""Who is where in the image, for the refinement. See docs/depth_and_masks.md."""

from .base import MaskFrame, MaskProvider, MaskSettings
from .select import MaskSelector, open_masks

__all__ = ["MaskFrame", "MaskProvider", "MaskSelector", "MaskSettings", "open_masks"]
