"""Files that a service writes or reads by name: they lie in the data folder, whatever the name."""

from __future__ import annotations

from pathlib import Path

from hsr_core.errors import ConfigError

NAME_BYTES_MAX = 200
"""File systems take 255; what is written whole has a temporary name that is longer by some."""


def place_in(data_dir: str, folder: str, name: str) -> Path:
    """Return the path of `name` in a folder of the data folder. Nothing is made.

    The data folder and the folder in it may be links, which are the operator's; the name may not be one.

    Args:
        data_dir: The data folder of the settings; `~` is the home folder.
        folder: Of the caller's own.
        name: From a request.

    Raises:
        ConfigError: The name is not a plain file name, or leads out of the folder by a link.
    """
    if not name or name.startswith(".") or name != Path(name).name or "\\" in name or not name.isprintable():
        raise ConfigError(f"{name!r} must be a plain name without separators, not beginning with a dot")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise ConfigError(f"the name {name[:40]}... is longer than {NAME_BYTES_MAX} bytes")
    path = (Path(data_dir).expanduser() / folder).resolve() / name
    if path.is_symlink():
        raise ConfigError(f"{name!r} is a link in {folder}: refused, it may lead out of the folder")
    return path
