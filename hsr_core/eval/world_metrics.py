"""Errors in a world frame, where a trajectory has a shape. Positions in metres, one person, T frames in order.

A moving camera needs T_world_cam; whose odometry that is belongs in the record.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import ConfigError, ShapeError
from ..types import Array
from .metrics import align, mpjpe_mm

CHUNK = 100
"""Frames to a chunk: WHAM's and GVHMR's tables."""

SMPL_FEET = (3216, 3387, 6617, 6787)
"""SMPL vertices of the feet for `foot_sliding_mm`."""

TAILS = ("dropped", "kept")
"""What becomes of frames after the last whole chunk; published scripts differ."""


def w_mpjpe_mm(
    predicted: Array, reference: Array, valid: Array | None = None, *, chunk: int = CHUNK, tail: str = "dropped"
) -> Array:
    """Return the mean joint distance of each frame after a similarity fitted to its chunk's first two frames [mm].

    Chunks are runs of `chunk` consecutive valid frames, all joints; a chunk ends where validity does.

    Args:
        predicted, reference: World frame. Shape (T, J, 3), [m].
        valid: Shape (T,) bool; None = all. Frames that are not finite are not valid.
        tail: Of `TAILS`. A kept tail has two frames or more.

    Returns:
        Shape (T,); NaN for frames in no chunk.

    Source:
        Shin et al. 2024 (WHAM), sec. 4.
    """
    return _by_chunk(predicted, reference, valid, chunk, tail, fit=slice(0, 2))


def wa_mpjpe_mm(
    predicted: Array, reference: Array, valid: Array | None = None, *, chunk: int = CHUNK, tail: str = "dropped"
) -> Array:
    """Return as `w_mpjpe_mm`, with the similarity fitted to the whole chunk [mm]."""
    return _by_chunk(predicted, reference, valid, chunk, tail, fit=slice(None))


def _by_chunk(predicted: Array, reference: Array, valid: Array | None, chunk: int, tail: str, fit: slice) -> Array:
    predicted, reference, valid = _checked(predicted, reference, valid)
    out = np.full(len(reference), np.nan)
    for part in chunks(valid, chunk, tail):
        x, y = predicted[part], reference[part]
        fitted = align(x[fit].reshape(-1, 3), y[fit].reshape(-1, 3))
        out[part] = mpjpe_mm(fitted.apply(x), y)
    return out


def chunks(valid: Array, chunk: int = CHUNK, tail: str = "dropped") -> Iterator[slice]:
    """Yield the slices of `chunk` consecutive valid frames, and the shorter tails of runs when they are kept."""
    if tail not in TAILS or chunk < 2:
        raise ConfigError(f"a chunk has two frames or more and its tail is {' or '.join(TAILS)}: {chunk}, {tail!r}")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(valid, int), [0]])))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        for first in range(start, end, chunk):
            last = min(first + chunk, end)
            if last - first == chunk or (tail == "kept" and last - first >= 2):
                yield slice(first, last)


def rte_percent(roots: Array, reference: Array, valid: Array | None = None) -> Array:
    """Return the distance of the root trajectories at each frame over the reference's path length [%].

    After one rigid fit without scale over all valid frames. The path bridges gaps by straight lines. A reference that
    stays in place has no path to compare with: NaN everywhere.

    Args:
        roots, reference: World frame. Shape (T, 3), [m].
        valid: Shape (T,) bool; None = all.

    Returns:
        Shape (T,); NaN for frames that are not valid.

    Source:
        Shin et al. 2024 (WHAM), sec. 4.
    """
    x, y, valid = _checked(np.asarray(roots)[:, None], np.asarray(reference)[:, None], valid)
    out = np.full(len(y), np.nan)
    x, y = x[valid, 0], y[valid, 0]
    path_m = np.linalg.norm(np.diff(y, axis=0), axis=1).sum() if len(y) > 1 else 0.0
    if path_m > 0:
        out[valid] = 100 * np.linalg.norm(align(x, y, scale=False).apply(x) - y, axis=1) / path_m
    return out


def foot_sliding_mm(predicted: Array, reference: Array, valid: Array | None = None, contact_mm: float = 10) -> Array:
    """Return how far predicted foot vertices move in one frame while the reference's stand [mm].

    Contact: the reference's vertex moves less than `contact_mm` per frame, which depends on the frame rate.

    Args:
        predicted, reference: Foot vertices, `SMPL_FEET` of SMPL. World frame. Shape (T, F, 3), [m].
        valid: Shape (T,) bool; None = all.

    Returns:
        Shape (T - 1, F), from frame t to t + 1; NaN without contact.
    """
    x, y, valid = _checked(predicted, reference, valid)
    moved, true_moved = (1e3 * np.linalg.norm(np.diff(points, axis=0), axis=-1) for points in (x, y))
    both = (valid[1:] & valid[:-1])[:, None]
    with np.errstate(invalid="ignore"):
        return np.where(both & (true_moved < contact_mm), moved, np.nan)


def _checked(predicted: Array, reference: Array, valid: Array | None) -> tuple[Array, Array, np.ndarray]:
    x, y = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    if x.shape != y.shape or x.ndim != 3 or x.shape[-1] != 3:
        raise ShapeError(f"trajectories must both be (T, J, 3), not {x.shape} and {y.shape}")
    finite = np.isfinite(x).all((1, 2)) & np.isfinite(y).all((1, 2))
    return x, y, finite if valid is None else finite & np.asarray(valid, bool)
