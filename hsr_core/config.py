"""All settings: small frozen groups with defaults, ranges and descriptions.

The one place where a default lives. ROS parameters, the parameter file and the command line are
made from these groups and compared with them by a test. A setting's flat name is `group.name`
(top-level settings have no group), which is also its ROS parameter name.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError
from .near_names import did_you_mean

S = TypeVar("S")
"""A frozen group of settings, whose fields are settings or groups of them."""


def setting(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Declare one setting: its default, what it means, what is allowed, whether it may change while active."""
    meta = {"description": description, "low": low, "high": high, "choices": choices, "live": live}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class BodyModelSettings:
    path: str = setting("", "Folder with SMPL-X and FLAME files; empty: HSR_BODY_MODELS, then the open body")
    publish_faces: bool = setting(True, "Publish the open body's triangles on body_model (never a licensed topology)")


@dataclass(frozen=True)
class InputSettings:
    transport: str = setting(
        "auto",
        "Image transport; auto: raw where it is published, else compressed",
        choices=("auto", "raw", "compressed"),
    )
    reliability: str = setting(
        "auto", "QoS reliability of the image subscription", choices=("auto", "reliable", "best_effort")
    )
    max_age_s: float = setting(0.5, "Older images are dropped and counted; 0 = never [s]", low=0, high=10, live=True)
    encoding_override: str = setting("", "Treat images as this encoding, for drivers that lie")
    frame_id: str = setting("", "Replace the images' frame_id, for drivers that name the body-axes frame")
    rectified: str = setting(
        "auto",
        "Images have no lens distortion, and P of the camera info describes them; auto: rect is in the topic's name",
        choices=("auto", "never", "always"),
    )


@dataclass(frozen=True)
class CameraSettings:
    assumed_hfov_deg: float = setting(
        60.0, "Horizontal field of view assumed without camera info [deg]", low=20, high=150, live=True
    )
    rectify: bool = setting(True, "Undistort key points by the camera's distortion", live=True)


@dataclass(frozen=True)
class DepthTopicSettings:
    mode: str = setting(
        "auto",
        "Depth camera beside the image; auto: when the depth topic has a publisher",
        choices=("off", "topic", "auto"),
    )
    transport: str = setting(
        "auto",
        "Depth transport; auto: raw where it is published, else compressedDepth",
        choices=("auto", "raw", "compressed"),
    )
    unit_scale: float = setting(0.0, "Metres per depth unit; 0: by the encoding (16UC1 mm, 32FC1 m)", low=0, high=1)
    max_offset_s: float = setting(
        0.015, "Largest distance of the stamps of image and depth [s]", low=0, high=0.1, live=True
    )
    max_wait_s: float = setting(
        0.02,
        "Longest wait for a depth image that is about to come; a stream that has stopped is not waited for [s]",
        low=0,
        high=0.1,
        live=True,
    )
    register: bool = setting(False, "Re-project depth of another camera with its static tf; false: refuse it")


@dataclass(frozen=True)
class PeopleSettings:
    max: int = setting(4, "Most people per frame; each who is there costs time (docs/landmarks.md)", low=1, high=16)
    min_score: float = setting(0.4, "Least confidence of a person", low=0, high=1, live=True)
    min_height_px: int = setting(64, "Least height of a person in the image [px]", low=16, high=2000, live=True)


@dataclass(frozen=True)
class PartsSettings:
    hands: bool = setting(True, "Estimate the fingers; false: at rest, and less work", live=True)
    face: bool = setting(True, "Estimate face and eyes; false: at rest, and less work", live=True)


GRAPHS = ("parameters", "people")
"""What of PEAR can be one network: see `PearSettings.graph`."""


@dataclass(frozen=True)
class PearSettings:
    weights: str = setting("", "PEAR checkpoint (.pt); empty: HSR_PEAR_WEIGHTS")
    heads: int = setting(0, "Attention heads of its backbone; 0 = by its width", low=0, high=64)
    allow_extra: bool = setting(False, "Take a checkpoint with keys that are not known")
    boxes: str = setting(
        "detect",
        "Where the person is; whole_frame: one, in the middle",
        choices=("detect", "whole_frame"),
    )
    graph: str = setting(
        "parameters",
        "What runs as one network: the crop's parameters, or everything from the frame to vertices (for a GPU)",
        choices=GRAPHS,
    )
    ray_rotation: bool = setting(True, "Turn the person by the viewing ray of the crop", live=True)
    stature: bool = setting(True, "The network's own stature (SMPL-X bodies); false: subject.height_m")


@dataclass(frozen=True)
class TrackSettings:
    keep_s: float = setting(1.2, "How long an unseen person is kept before LOST [s]", low=0, high=5, live=True)
    first_id: int = setting(
        1, "Number of the first person; another million for each camera keeps ids apart", low=1, high=10_000_000
    )


@dataclass(frozen=True)
class PrimarySettings:
    mode: str = setting(
        "largest",
        "Who is the primary person unless somebody was selected; locked: nobody",
        choices=("largest", "nearest", "centre", "locked"),
        live=True,
    )


@dataclass(frozen=True)
class SubjectSettings:
    height_m: float = setting(
        1.70, "Height of the person, used when nothing metric is known [m]", low=0.5, high=2.5, live=True
    )


@dataclass(frozen=True)
class SmoothingSettings:
    enabled: bool = setting(True, "Causal rotation-aware One-Euro filter", live=True)
    min_cutoff_hz: float = setting(1.5, "Cut-off at rest [Hz]", low=0.1, high=30, live=True)
    beta: float = setting(4.0, "Cut-off added per m/s (points) or rad/s (rotations) [Hz]", low=0, high=50, live=True)


@dataclass(frozen=True)
class MeshSettings:
    enabled: bool = setting(True, "Skin the mesh; false: joints only", live=True)
    every_n: int = setting(1, "Publish the mesh of every n-th frame", low=1, high=30, live=True)


@dataclass(frozen=True)
class MarkerSettings:
    max_rate_hz: float = setting(30.0, "Most mesh markers per second; 0 = no limit [Hz]", low=0, high=120, live=True)
    color_mode: str = setting(
        "uniform",
        "uniform: RViz lights it; shaded: one baked colour per triangle",
        choices=("uniform", "shaded"),
        live=True,
    )
    lifetime_s: float = setting(0.5, "Marker lifetime; 0 = for ever [s]", low=0, high=10, live=True)


@dataclass(frozen=True)
class CompactSettings:
    encoding: str = setting("uint16", "Encoding of mesh_compact", choices=("float32", "uint16"))


@dataclass(frozen=True)
class TfSettings:
    mode: str = setting(
        "root",
        "Frames per person; root: body_<id> and head_<id>; rep155: and its 20 joints; full: and all 55 joints",
        choices=("none", "root", "rep155", "full"),
    )
    timeout_s: float = setting(
        0.03, "How long to wait for the camera's pose in the world [s]", low=0, high=0.5, live=True
    )


@dataclass(frozen=True)
class Rep155Settings:
    enabled: bool = setting(True, "Publish ROS4HRI topics under /humans where hri_msgs is installed")
    root: str = setting("/humans", "Where these topics are; several cameras need one each, such as /rear/humans")
    faces: bool = setting(False, "Publish faces too, and their frames; false where a face detector does")
    persons: bool = setting(False, "Publish everybody as an anonymous person too; false where a person manager does")
    cropped: bool = setting(True, "Publish each person's picture, and their face's, while somebody listens")
    id_pool: bool = setting(
        False, "Use ids under /humans and on TF again, and topics; they are then no longer those of people"
    )


@dataclass(frozen=True)
class OverlaySettings:
    max_rate_hz: float = setting(10.0, "Most overlay images per second [Hz]", low=0, high=60, live=True)
    scale: float = setting(0.5, "Size of the overlay relative to the image", low=0.1, high=1, live=True)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set, with defaults that need no file."""

    regressor: str = setting("auto", "Regressor name; auto: pear when its weights are set, else landmarks")
    device: str = setting("auto", "Where networks that can use a GPU run", choices=("auto", "cuda", "cpu"))
    engine: str = setting(
        "auto",
        "What runs such a network; auto says what it chose",
        choices=("auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "torch"),
    )
    precision: str = setting(
        "auto", "auto: fp16 on a GPU, fp32 on the CPU", choices=("auto", "fp32", "tf32", "fp16", "bf16", "int8")
    )
    data_dir: str = setting("~/.local/share/hsr", "Where snapshots go")
    world_frame: str = setting(
        "", "Fixed frame that TF ties the camera to, such as odom; empty: the camera's frame only"
    )
    body_model: BodyModelSettings = field(default_factory=BodyModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    depth: DepthTopicSettings = field(default_factory=DepthTopicSettings)
    people: PeopleSettings = field(default_factory=PeopleSettings)
    parts: PartsSettings = field(default_factory=PartsSettings)
    pear: PearSettings = field(default_factory=PearSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    primary: PrimarySettings = field(default_factory=PrimarySettings)
    subject: SubjectSettings = field(default_factory=SubjectSettings)
    smoothing: SmoothingSettings = field(default_factory=SmoothingSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)
    marker: MarkerSettings = field(default_factory=MarkerSettings)
    compact: CompactSettings = field(default_factory=CompactSettings)
    tf: TfSettings = field(default_factory=TfSettings)
    rep155: Rep155Settings = field(default_factory=Rep155Settings)
    overlay: OverlaySettings = field(default_factory=OverlaySettings)

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """Return a copy with flat names (`people.max`) replaced; see `with_values`."""
        return with_values(self, values)


def with_values(settings: S, values: Mapping[str, Any]) -> S:
    """Return a copy of settings with flat names (`people.max`) replaced.

    Raises:
        ConfigError: Unknown name, wrong type, or value out of range; the message says what is allowed.
    """
    known = {spec.name: spec for spec in describe(settings)}
    grouped: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = did_you_mean(name, known, show=repr) or f"; known: {', '.join(known)}"
            raise ConfigError(f"unknown setting {name!r}{near}")
        value = known[name].check(value)
        group, _, leaf = name.rpartition(".")
        (grouped.setdefault(group, {}) if group else top)[leaf] = value
    for group, leaves in grouped.items():
        top[group] = dataclasses.replace(getattr(settings, group), **leaves)
    return dataclasses.replace(settings, **top)


@dataclass(frozen=True)
class SettingSpec:
    """One setting as data: flat name, default, description and limits."""

    name: str
    default: Any
    description: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool

    def check(self, value: Any) -> Any:
        """Return `value` in the setting's type, or raise ConfigError saying what is allowed."""
        kind = type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"{self.name} must be {kind.__name__}, not {type(value).__name__} ({value!r})")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}")
        if kind in (int, float):
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            if not low <= value <= high:
                raise ConfigError(f"{self.name} must lie in {low:g}..{high:g}, not {value!r}")
        return value


def describe(settings: Any = None) -> Iterator[SettingSpec]:
    """Yield every setting with its current value as `default`, in declaration order. None: those of `Settings`."""
    settings = settings or Settings()
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            for leaf in fields(value):
                yield SettingSpec(f"{entry.name}.{leaf.name}", getattr(value, leaf.name), **leaf.metadata)
        else:
            yield SettingSpec(entry.name, value, **entry.metadata)


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read settings from YAML: nested groups, or flat dotted names.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds a wrong setting.
    """
    import yaml

    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(tree).__name__}")
    return Settings().with_values(flatten(tree))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{group: {name: value}}` as `{group.name: value}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
