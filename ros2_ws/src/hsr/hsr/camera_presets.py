"""Known cameras: what their drivers call things. The table is config/cameras.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from hsr_core.errors import ConfigError
from hsr_core.near_names import near_names

from .environment import share_dir

SENSORS = ("stereo", "tof", "none")


@dataclass(frozen=True)
class CameraTopics:
    """Full names; depth and depth_info are "" without a depth camera."""

    image: str
    camera_info: str
    depth: str = ""
    depth_info: str = ""


@dataclass(frozen=True)
class CameraPreset:
    """One driver. The fields are those of config/cameras.yaml, which explains them."""

    name: str
    description: str
    base: str
    image: str
    camera_info: str
    rectified: bool
    sensor: str
    driver: str
    depth: str = ""
    depth_info: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    def topics(self, base: str | None = None) -> CameraTopics:
        """Return the topics' full names.

        Args:
            base: Namespace of this camera's driver instead of its usual one, "" = none.
        """
        base = (self.base if base is None else base).rstrip("/")
        base = base if not base or base.startswith("/") else f"/{base}"
        names = (self.image, self.camera_info, self.depth, self.depth_info)
        return CameraTopics(*(f"{base}/{name}" if name else "" for name in names))

    def command(self) -> str:
        """Return what starts the driver as this stack needs it."""
        return " ".join([self.driver, *(f"{name}:={value}" for name, value in self.options.items())])


@lru_cache(maxsize=4)
def load_presets(path: Path | None = None) -> Mapping[str, CameraPreset]:
    """Return the known cameras by name.

    Args:
        path: Another table than the installed one.

    Raises:
        ConfigError: The table cannot be read, or an entry misses a field or has one too many.
    """
    import yaml

    path = path or share_dir() / "config" / "cameras.yaml"
    try:
        table = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the cameras in {path}: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path} must hold a mapping of cameras, not {type(table).__name__}")
    return {name: _preset(path, name, entry) for name, entry in table.items()}


def find_preset(name: str, path: Path | None = None) -> CameraPreset:
    """Return the preset of that name.

    Raises:
        ConfigError: There is none; the message names those that exist, the nearest first.
    """
    presets = load_presets(path)
    if name in presets:
        return presets[name]
    near = near_names(name, presets, 1, 0.4)
    names = [*near, *(other for other in presets if other not in near)]
    raise ConfigError(f"no camera {name!r}; known: {', '.join(names)}")


def _preset(path: Path, name: str, entry: Any) -> CameraPreset:
    known = {f.name for f in fields(CameraPreset)} - {"name"}
    if not isinstance(entry, dict) or not set(entry) <= known:
        wrong = sorted(set(entry) - known) if isinstance(entry, dict) else entry
        raise ConfigError(f"camera {name!r} in {path}: {wrong} not understood; known: {', '.join(sorted(known))}")
    try:
        preset = CameraPreset(name, **entry)
    except TypeError as error:
        raise ConfigError(f"camera {name!r} in {path}: {error}") from error
    if preset.sensor not in SENSORS or bool(preset.depth) != (preset.sensor != "none"):
        raise ConfigError(f"camera {name!r} in {path}: sensor {preset.sensor!r} does not fit depth {preset.depth!r}")
    return preset
