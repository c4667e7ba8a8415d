"""Where files are kept: what this library makes for itself, and networks that the user adds."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the per-user cache folder: HSR_CACHE, else hsr under XDG_CACHE_HOME, else ~/.cache/hsr."""
    if os.environ.get("HSR_CACHE"):
        return Path(os.environ["HSR_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hsr"


def model_dir() -> Path:
    """Return where the user puts networks: HSR_MODELS, else hsr/models under XDG_DATA_HOME, else ~/.local/share."""
    if os.environ.get("HSR_MODELS"):
        return Path(os.environ["HSR_MODELS"]).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "hsr" / "models"
