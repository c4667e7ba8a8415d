"""HSR: expressive human perception for robots. The library; it never imports ROS."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Settings
from .errors import HsrError
from .types import Camera, Frame, FrameResult, HumanEstimate, HumanParams, Regression

if TYPE_CHECKING:
    from .body import load_body
    from .sources import open_source
    from .stream import HumanStream

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Frame",
    "FrameResult",
    "HsrError",
    "HumanEstimate",
    "HumanParams",
    "HumanStream",
    "Regression",
    "Settings",
    "load_body",
    "open_source",
]

_LATER = {"HumanStream": ".stream", "load_body": ".body", "open_source": ".sources"}
"""Imported when they are used: torch and the video decoder take a second."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
