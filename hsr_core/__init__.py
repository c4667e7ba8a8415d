"""HSR: expressive human perception for robots. The library; it never imports ROS."""

from .config import Settings
from .errors import HsrError
from .types import Camera, Frame, FrameResult, HumanEstimate, HumanParams, Regression

__version__ = "0.1.0"

__all__ = ["Camera", "Frame", "FrameResult", "HsrError", "HumanEstimate", "HumanParams", "Regression", "Settings"]
