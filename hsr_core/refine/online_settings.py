"""Settings of the online refinement, and the profiles they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..config import setting
from ..depth.base import SCALE_MODES
from ..errors import ConfigError
from ..mask.base import MAPPING_MIN, POSE_MIN
from .avatar import AvatarSettings
from .density import DensitySettings
from .gaussian_adam import GaussianRates
from .losses import LossSettings
from .optimise import PoseRates


@dataclass(frozen=True)
class WindowSettings:
    """Which frames are refined together."""

    seconds: float = setting(2.0, "Length of a window [s]", low=0.1, high=30)
    stride_s: float = setting(1.0, "From the end of one window to that of the next [s]", low=0.05, high=30)
    max_frames: int = setting(24, "Images of a window that are kept, and frames in a refinement", low=1, high=256)
    optimised: int = setting(8, "Frames of a window whose poses are optimised", low=1, high=64)
    interpolate_s: float = setting(0.5, "Frames between optimised ones this near are published", low=0, high=5)


@dataclass(frozen=True)
class GateSettings:
    """What a person's frames must have before anything is learnt from them."""

    min_frames: int = setting(8, "Images of a window before an avatar is begun", low=1, high=256)
    min_iou: float = setting(0.6, "Overlap of the body's outline and the mask", low=0, high=1)
    min_height_px: float = setting(120, "Height of the person [px]", low=8, high=4096)
    max_outside: float = setting(0.25, "Part of the body outside the image, at most", low=0, high=1)
    min_mask_quality: float = setting(POSE_MIN, "Of the mask, to refine poses", low=0, high=1)
    min_mapping_quality: float = setting(MAPPING_MIN, "Of the mask, to change the avatar", low=0, high=1)


@dataclass(frozen=True)
class KeyframeSettings:
    """Which frames an avatar remembers."""

    max: int = setting(24, "Key frames kept", low=1, high=256)
    spacing: int = setting(3, "Frames between two", low=1, high=1000)
    sharpness: float = setting(0.5, "Least sharpness, of the running median", low=0, high=10)
    azimuth_deg: float = setting(15, "A view from this far aside of all others is taken [deg]", low=1, high=180)
    pose_deg: float = setting(20, "A pose this different from all others is taken [deg]", low=1, high=180)
    new_share: float = setting(0.05, "A view is taken that shows this part of the skin first", low=0, high=1)
    max_age_s: float = setting(10, "A view is taken when the newest is older than this [s]", low=0.1, high=3600)


@dataclass(frozen=True)
class BootstrapSettings:
    """How an avatar begins."""

    iterations: int = setting(600, "Least steps", low=1, high=100_000)
    color_iterations: int = setting(100, "First of them, for colours and opacities alone", low=0, high=100_000)
    keyframes: int = setting(4, "Least key frames", low=1, high=256)
    patience_s: float = setting(5.0, "Somebody who stands still gives fewer; go on without after [s]", low=0, high=600)
    psnr_db: float = setting(18.0, "Least PSNR inside the mask [dB]", low=0, high=60)
    give_up: int = setting(2000, "Steps after which it is begun anew", low=1, high=1_000_000)


@dataclass(frozen=True)
class OnlineSettings:
    """Of the online refinement. The groups are settings of their own."""

    budget_ms: float = setting(1000, "Time for a window [ms]", low=10, high=600_000)
    pose_iterations: int = setting(30, "Steps for the poses of new frames, each", low=0, high=10_000)
    joint_iterations: int = setting(60, "Steps for poses and avatar in a window, at most", low=0, high=10_000)
    batch: int = setting(4, "Frames in a step, half of them key frames", low=1, high=64)
    crop_height_px: int = setting(384, "The person is shrunk to this height [px]", low=32, high=4096)
    held_out: float = setting(0.1, "Part of the picture that is kept for judging", low=0, high=0.5)
    pose: bool = setting(True, "Refine poses and places")
    depth: bool = setting(True, "Use depth where frames have it")
    depth_scale: str = setting("auto", "How the scale of frames' depth is treated", choices=SCALE_MODES)
    front_only: bool = setting(True, "Compare depth with the Gaussians that face the camera alone")
    exposure: bool = setting(True, "Learn a gain and a bias of each frame: for a camera that sets its exposure")
    map_rate: float = setting(5e-5, "Learning rate of the centres after the beginning [m]", low=0, high=1)
    decay_s: float = setting(1.0, "Corrections fade in this time where nothing is refined [s]", low=0.01, high=60)
    lost_s: float = setting(2.0, "Without frames for so long, a person is parked [s]", low=0.1, high=600)
    keep_s: float = setting(60.0, "A parked avatar is kept so long [s]", low=0, high=86_400)
    rejections: int = setting(10, "After so many rejected windows in a row the avatar is begun anew", low=1, high=1000)
    device: str = setting("cpu", "Of the optimisation: cpu, cuda, cuda:1, ...")
    backend: str = setting("auto", "Renderer", choices=("auto", "gsplat", "cpu", "torch"))
    seed: int = setting(0, "Of the order of frames and of the backgrounds", low=0, high=2**31 - 1)
    window: WindowSettings = field(default_factory=WindowSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    keyframes: KeyframeSettings = field(default_factory=KeyframeSettings)
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    avatar: AvatarSettings = field(default_factory=AvatarSettings)
    density: DensitySettings = field(default_factory=lambda: DensitySettings(grow_fraction=0.05))
    losses: LossSettings = field(default_factory=LossSettings)
    rates: GaussianRates = field(default_factory=GaussianRates)
    pose_rates: PoseRates = field(default_factory=PoseRates)


_GPU = OnlineSettings(device="cuda")
_SMALL = replace(
    _GPU, crop_height_px=256, batch=2, pose_iterations=20, joint_iterations=30,
    bootstrap=BootstrapSettings(iterations=400), density=DensitySettings(grow_fraction=0.05, cap=10_000),
)  # fmt: skip
_CPU_TEST = replace(
    OnlineSettings(), budget_ms=10_000, crop_height_px=160, batch=1, pose_iterations=10, joint_iterations=20,
    front_only=False, gate=GateSettings(min_height_px=60), bootstrap=BootstrapSettings(iterations=300, psnr_db=14),
    avatar=AvatarSettings(start=1500), density=DensitySettings(grow_fraction=0.05, cap=3000),
)  # fmt: skip
PROFILES: Mapping[str, OnlineSettings] = {"online_gpu": _GPU, "online_gpu_small": _SMALL, "cpu_test": _CPU_TEST}


def online_settings(profile: str) -> OnlineSettings:
    """Return the settings of a profile.

    Raises:
        ConfigError: There is none of that name; the message lists them.
    """
    if profile not in PROFILES:
        raise ConfigError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    return PROFILES[profile]
