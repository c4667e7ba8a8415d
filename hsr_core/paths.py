"""Where files that this library makes for itself are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the per-user cache folder: HSR_CACHE, else hsr under XDG_CACHE_HOME, else ~/.cache/hsr."""
    if os.environ.get("HSR_CACHE"):
        return Path(os.environ["HSR_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hsr"
