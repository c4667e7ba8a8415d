"""The refiner's parameters: names, defaults, ranges and descriptions."""

from __future__ import annotations

from dataclasses import dataclass, field

from hsr_core.config import setting
from hsr_core.depth import DepthSettings
from hsr_core.mask import MaskSettings


@dataclass(frozen=True)
class InputSettings:
    """The camera, as the perception node's group of the same name."""

    transport: str = setting(
        "auto",
        "Image transport; auto: raw where it is published, else compressed",
        choices=("auto", "raw", "compressed"),
    )
    reliability: str = setting(
        "auto",
        "QoS reliability of the subscriptions to images",
        choices=("auto", "reliable", "best_effort"),
    )
    encoding_override: str = setting("", "Treat images as this encoding, for drivers that lie")
    frame_id: str = setting("", "Replace the images' frame_id, as in the perception node")
    rectified: str = setting(
        "auto",
        "Images have no lens distortion, and P of the camera info describes them; auto: rect is in the topic's name",
        choices=("auto", "never", "always"),
    )
    max_side_px: int = setting(
        0, "Larger images are shrunk to this longer side; 0 = four times the person's height in the profile [px]",
        low=0, high=16384,
    )  # fmt: skip


@dataclass(frozen=True)
class BodyModelSettings:
    path: str = setting("", "Folder with SMPL-X and FLAME files, as in the perception node")


@dataclass(frozen=True)
class WindowSettings:
    seconds: float = setting(2.0, "Length of a window [s]", low=0.5, high=20)
    stride_s: float = setting(1.0, "Time from one window to the next, if there is time for it [s]", low=0.1, high=20)
    max_frames: int = setting(24, "Most images of a window, also kept while one is in work", low=2, high=256)
    max_age_s: float = setting(
        60.0, "A window that is done later than this after its newest image is dropped; 0 = never [s]",
        low=0, high=3600, live=True,
    )  # fmt: skip


@dataclass(frozen=True)
class GaussianSettings:
    max: int = setting(60_000, "Most Gaussians of an avatar", low=1000, high=1_000_000)


@dataclass(frozen=True)
class RenderSettings:
    max_rate_hz: float = setting(5.0, "Most rendered views per second; 0 = no limit [Hz]", low=0, high=60, live=True)


@dataclass(frozen=True)
class RefinerSettings:
    """Everything that can be set of the refiner."""

    profile: str = setting(
        "auto",
        "Sizes and numbers of steps; auto: online_gpu on a GPU, else cpu_test",
        choices=("auto", "online_gpu", "online_gpu_small", "cpu_test"),
    )
    device: str = setting("auto", "Where the refinement runs", choices=("auto", "cuda", "cpu"))
    engine: str = setting(
        "auto",
        "What runs networks for depth and masks",
        choices=("auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "torch"),
    )
    data_dir: str = setting("~/.local/share/hsr", "Avatars are saved in its folder avatars")
    budget_ms: float = setting(
        0.0, "Work on one window; 0 = as the profile says, 1000 on a GPU, 10000 without [ms]", low=0, high=100_000
    )
    binding: str = setting("camel", "How Gaussians are bound to the body", choices=("camel", "none", "lsw", "gom"))
    publish_gaussians_hz: float = setting(
        2.0, "Most Gaussian clouds per second; 0 = no limit [Hz]", low=0, high=30, live=True
    )
    spare_perception: bool = setting(
        True, "Leave the avatar as it is in windows while frames take the perception node over 20 % longer", live=True
    )
    nice: int = setting(10, "Priority of the process below others, as of the command nice", low=0, high=19)
    body_model: BodyModelSettings = field(default_factory=BodyModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    gaussians: GaussianSettings = field(default_factory=GaussianSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    depth: DepthSettings = field(default_factory=DepthSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)


DEFAULTS = RefinerSettings()
