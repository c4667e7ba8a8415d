"""From a video to a robot's motion and a data set to learn it from.

from hsr_core.imitate import imitate
imitate("walk.mp4", "talos", "episode")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["ImitateOptions", "imitate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".run", __name__), name)
