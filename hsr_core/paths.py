"""Where files are kept, and how they are written whole: what this library makes, and networks that the user adds."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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


def is_same_file(path: Path, source: str) -> bool:
    """Return whether to write `path` would overwrite `source`, which need not be a file at all."""
    return path.exists() and os.path.exists(source) and path.samefile(source)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when all went well, and is removed otherwise."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
