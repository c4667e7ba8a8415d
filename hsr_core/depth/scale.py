"""The scale of depth frames, and the first placing of a body by them. Pure functions on arrays.

Learned depth has a scale error that all pixels of a frame share and that changes from frame to frame. The depth of the
body's surface relative to the mesh's, times the root's own distance, is the depth source's opinion of the root's
distance: the body's error cancels. Along time that opinion is smoothed; what sticks out is the source's jitter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ShapeError
from ..types import Array, MetricSource
from .base import SCALE_MODES

MIN_PIXELS = 200
"""Fewer pixels of depth on the body tell nothing."""
MAX_LOG_RATIO = 0.3
"""A frame whose depth disagrees more than this with the body is broken (exp(0.3) = 1.35)."""
CLOTH_M = 0.02
"""Distance between skin and cloth (the refinement's delta): depth sees the cloth."""
HALF_WINDOW = 3
_CAUCHY_M = 0.03
_PASSES = 5
_TRACK_FRAMES = 300
_TRACK_LIMITS = (0.85, 1.15)


@dataclass(frozen=True, eq=False)
class FrameScales:
    """What to do with the depth of every frame.

    Attributes:
        factor: (T,) multiply the frame's depth by it.
        usable: (T,) bool; False = broken or no depth: leave the frame's depth out.
        root_z: (T,) the source's smoothed opinion of the root's distance [m]; NaN where nobody knows.
    """

    factor: Array
    usable: NDArray[np.bool_]
    root_z: Array


def log_ratio(depth_m: Array, mesh_depth_m: Array, region: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the median of log(depth / mesh depth) and the number of pixels it comes from.

    Args:
        depth_m: (H, W) [m], 0 or not finite = invalid.
        mesh_depth_m: z-buffer of the body, first surface (H, W) [m], 0 outside.
        region: Core of the person's mask (H, W).

    Returns:
        NaN and 0 where the two do not overlap.
    """
    if not depth_m.shape == mesh_depth_m.shape == region.shape:
        raise ShapeError(
            f"depth {depth_m.shape}, mesh {mesh_depth_m.shape} and region {region.shape} must have one shape"
        )
    both = region & (mesh_depth_m > 0) & (depth_m > 0) & np.isfinite(depth_m)
    count = int(np.count_nonzero(both))
    return (float(np.median(np.log(depth_m[both] / mesh_depth_m[both]))), count) if count else (float("nan"), 0)


def robust_line(t_s: Array, z: Array, half_window: int = HALF_WINDOW) -> Array:
    """Return z smoothed by a local line through the nearest 2 k + 1 known values, robust to outliers, (T,).

    At the ends the window is shifted, not cut, so that the newest frame, if it is the outlier, is still outvoted. Each
    line starts from the median of pairwise slopes (Theil-Sen) and is reweighted five times (Cauchy, 3 cm).

    Args:
        t_s: (T,) increasing times [s].
        z: (T,) [m], NaN = unknown; stays NaN.
        half_window: k.
    """
    t_s, z = np.asarray(t_s, np.float64), np.asarray(z, np.float64)
    if t_s.shape != z.shape or t_s.ndim != 1:
        raise ShapeError(f"times {t_s.shape} and distances {z.shape} must have the same length")
    out = np.full(len(z), np.nan)
    known = np.flatnonzero(np.isfinite(z))
    size = min(2 * half_window + 1, len(known))
    for rank, i in enumerate(known):
        first = min(max(rank - half_window, 0), len(known) - size)
        use = known[first : first + size]
        out[i] = _line_at(t_s[use] - t_s[i], z[use])
    return out


def _line_at(t: Array, z: Array) -> float:
    """Return the value at t = 0 of a robust line through the points."""
    if len(t) < 3:
        return float(np.median(z))
    i, j = np.triu_indices(len(t), 1)
    apart = t[j] - t[i]
    moved = np.abs(apart) > 1e-9
    slope = float(np.median((z[j] - z[i])[moved] / apart[moved])) if moved.any() else 0.0
    level = float(np.median(z - slope * t))
    for _ in range(_PASSES):
        w = 1 / (1 + ((z - level - slope * t) / _CAUCHY_M) ** 2)
        total, mean_t, mean_z = w.sum(), (w * t).sum() / w.sum(), (w * z).sum() / w.sum()
        spread = (w * (t - mean_t) ** 2).sum()
        # All the weight on one instant: the slope stays as it was.
        slope = float((w * (t - mean_t) * (z - mean_z)).sum() / spread) if spread > 1e-12 * total else slope
        level = float(mean_z - slope * mean_t)
    return level


def frame_scales(
    mode: str,
    source: MetricSource,
    root_z: Array,
    ratios: Array,
    t_s: Array,
    *,
    counts: Array | None = None,
    bias: float = 1.0,
) -> FrameScales:
    """Return the factor for each frame's depth.

    Args:
        mode: raw, window, track, relative, or auto (raw for a depth camera, window for a network).
        source: Where the depth comes from.
        root_z: (T,) distance of the body's root along the optical axis [m].
        ratios: (T,) from `log_ratio`; NaN = no depth.
        t_s: (T,) increasing times [s].
        counts: (T,) pixels behind each ratio; None = enough.
        bias: The persistent factor of mode track, from `TrackBias`.

    Raises:
        ConfigError: Unknown mode.
    """
    if mode not in SCALE_MODES:
        raise ConfigError(f"depth.scale_mode must be one of {', '.join(SCALE_MODES)}, not {mode!r}")
    if mode == "auto":
        mode = "window" if source == MetricSource.MONO_DEPTH else "raw"
    implied, usable = _implied(root_z, ratios, counts)
    smooth = robust_line(t_s, implied)
    factor = np.ones(len(implied))
    if mode in ("window", "track"):
        factor = np.where(usable, smooth / np.where(usable, implied, 1), 1.0)
        factor *= bias if mode == "track" else 1.0
    elif mode == "relative":
        factor = np.where(usable, np.exp(-np.where(usable, ratios, 0.0)), 1.0)
    return FrameScales(factor, usable, smooth)


class TrackBias:
    """Persistent bias of a learned depth source: running median of height-based over depth-implied distance."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_TRACK_FRAMES)

    def add(self, height_z: float, depth_z: float) -> None:
        """Take one frame: the root's distance by the person's height and by the smoothed depth [m]."""
        if height_z > 0 and depth_z > 0 and np.isfinite(height_z / depth_z):
            self._ratios.append(height_z / depth_z)

    @property
    def value(self) -> float:
        """The factor, within 0.85..1.15; 1 before the first frame."""
        return float(np.clip(np.median(self._ratios), *_TRACK_LIMITS)) if self._ratios else 1.0


@dataclass(frozen=True, eq=False)
class Placed:
    """Translations after the first placing by depth.

    Attributes:
        transl: (T, 3) [m].
        moved: (T,) bool; False = left as it was: too little depth, or it disagrees too much.
    """

    transl: Array
    moved: NDArray[np.bool_]


def place_by_depth(
    transl: Array,
    ratios: Array,
    counts: Array,
    t_s: Array,
    *,
    root: Array | None = None,
    cloth_m: float = CLOTH_M,
) -> Placed:
    """Move bodies along their viewing rays to the distance that depth shows, along time a robust line.

    Args:
        transl: (T, 3) [m] of each frame's body, camera frame.
        ratios, counts: From `log_ratio` with the body at `transl`.
        t_s: (T,) increasing times [s].
        root: (T, 3) [m] place of the root joint, which lies beside `transl` in SMPL-X; None = `transl`.
        cloth_m: Half of it is added: the visible surface is cloth, the mesh is skin.

    Source:
        Closed-form initialisation of the translation, stage 0 of docs/refinement.md.
    """
    transl = np.asarray(transl, np.float64)
    if transl.ndim != 2 or transl.shape[1] != 3 or len(transl) != len(ratios):
        raise ShapeError(f"transl {transl.shape} and ratios {np.shape(ratios)} must be (T, 3) and (T,)")
    root = transl if root is None else np.asarray(root, np.float64)
    root_z = root[:, 2]
    implied, usable = _implied(root_z, ratios, counts)
    target = robust_line(t_s, implied + cloth_m / 2)
    factor = np.where(usable, target / np.where(root_z > 0, root_z, 1), 1.0)
    return Placed(transl + root * (factor - 1)[:, None], usable)


def _implied(root_z: Array, ratios: Array, counts: Array | None) -> tuple[Array, NDArray[np.bool_]]:
    """Return the root's distance by depth (T,) [m], NaN where it tells nothing, and where it does."""
    root_z, ratios = np.asarray(root_z, np.float64), np.asarray(ratios, np.float64)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(ratios) & (np.abs(ratios) <= MAX_LOG_RATIO) & (root_z > 0)
    if counts is not None:
        usable = usable & (np.asarray(counts) >= MIN_PIXELS)
    return np.where(usable, root_z * np.exp(np.where(usable, ratios, 0.0)), np.nan), usable
