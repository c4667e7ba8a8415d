"""What a depth provider delivers, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import setting
from ..errors import ShapeError
from ..geometry.view import FrameView
from ..types import Array, MetricSource

K_TOLERANCE = 0.005
"""Two sets of intrinsics of one grid agree when focal lengths and principal point do to this share."""
_WORST = 0.1
SCALE_MODES = ("auto", "raw", "window", "track", "relative")


@dataclass(frozen=True)
class DepthSettings:
    """Settings of depth, all of the refinement node (group `depth`)."""

    enabled: bool = setting(True, "Use depth in the refinement")
    provider: str = setting(
        "auto",
        "Where depth comes from; auto: the topic, else an accepted network, else the body's height",
        choices=("auto", "topic", "unidepth_v2", "unidepth_v2_onnx", "body_height", "none"),
    )
    unit_scale: float = setting(
        0.0, "Metres per unit of the depth image; 0 = by encoding (16UC1 mm, 32FC1 m)", low=0, high=1
    )
    max_offset_s: float = setting(0.015, "Most time between image and depth [s]", low=0, high=0.1)
    register: bool = setting(False, "Re-project depth of another camera with tf; false: refuse it")
    sensor: str = setting("stereo", "Noise of the depth camera", choices=("stereo", "tof"))
    scale_mode: str = setting(
        "auto", "How the frame's scale is treated; auto: raw for a camera, window for a network", choices=SCALE_MODES
    )
    every_n: int = setting(3, "Ask a network for depth of every n-th frame", low=1, high=30)
    accept_noncommercial: bool = setting(False, "Use networks whose licence forbids commercial use (UniDepth)")
    unidepth_size: str = setting("s", "UniDepthV2's backbone: ViT-S, B or L", choices=("s", "b", "l"))
    unidepth_level: int = setting(5, "UniDepthV2's working resolution: 0 small, 9 large", low=0, high=9)


@dataclass(frozen=True, eq=False)
class DepthFrame:
    """z-depth of one image.

    Attributes:
        depth_m: float32 (H, W) [m], along the optical axis, in the image's grid; 0 = invalid.
        K: Intrinsics it was made with, float64 (3, 3), pixel centres at integers.
        stamp_ns, frame_id: Of the colour image it belongs to.
        metric_source: DEPTH_CAMERA, MONO_DEPTH or ASSUMED_HEIGHT.
        sigma_rel: One standard deviation of the whole frame's scale, shared by all pixels.
        sigma_m, sigma_per_m: One standard deviation of a pixel at `z` is `sigma_m + sigma_per_m * z**2` [m], the scale
            apart.
        rank_unc: float32 (H, W), larger = less reliable; only its order within the frame means something. Or None.
        provider: Name of what made it.
    """

    depth_m: Array
    K: Array
    stamp_ns: int
    frame_id: str
    metric_source: MetricSource
    sigma_rel: float
    sigma_m: float
    sigma_per_m: float = 0.0
    rank_unc: Array | None = None
    provider: str = ""

    def __post_init__(self) -> None:
        if self.depth_m.ndim != 2 or self.depth_m.dtype != np.float32:
            raise ShapeError(f"depth must be float32 (H, W), not {self.depth_m.dtype} {self.depth_m.shape}")
        if self.rank_unc is not None and self.rank_unc.shape != self.depth_m.shape:
            raise ShapeError(f"rank_unc has shape {self.rank_unc.shape}, depth {self.depth_m.shape}")

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Where there is depth (H, W)."""
        return np.isfinite(self.depth_m) & (self.depth_m > 0)

    @property
    def weight(self) -> float:
        """Factor of the refinement's depth weight: a worse source counts less, 0.1..2."""
        return float(np.clip(0.02 / max(self.sigma_rel, 1e-3), 0.1, 2.0))

    @property
    def measured(self) -> bool:
        """False when the depth is the body's own and must not be compared with it (losses off)."""
        return self.metric_source in (MetricSource.DEPTH_CAMERA, MetricSource.MONO_DEPTH)

    def reliable(self, region: NDArray[np.bool_]) -> Array:
        """Return the depth (H, W) without the least reliable tenth of a region's; as it is where nothing orders it."""
        ranks = None if self.rank_unc is None else self.rank_unc[region & self.valid]
        if ranks is None or not len(ranks):
            return self.depth_m
        return np.where(region & (self.rank_unc > np.quantile(ranks, 1 - _WORST)), np.float32(0), self.depth_m)

    def coverage(self, region: NDArray[np.bool_]) -> float:
        """Return the share of a region (H, W) that has depth, 0 for an empty region."""
        size = np.count_nonzero(region)
        return np.count_nonzero(self.valid & region) / size if size else 0.0


class DepthProvider(Protocol):
    """Depth of one image. Called from one thread at a time.

    Attributes:
        name: Registry name.
        status: Why the last call gave nothing, or what is notable; one line for the diagnostics.
    """

    name: str
    status: str

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        """Return depth in the grid of `view`'s image, or None when there is none for it (`status` says why)."""
        ...

    def reset(self) -> None:
        """Forget what came before (scene cut, clock set back)."""
        ...

    def close(self) -> None:
        """Release networks. The object cannot be used afterwards."""
        ...


def same_intrinsics(a: Array, b: Array) -> bool:
    """True when two K of the same grid agree within `K_TOLERANCE` of the focal length."""
    return bool(np.abs(np.asarray(a) - b)[:2].max() <= K_TOLERANCE * b[0, 0])
