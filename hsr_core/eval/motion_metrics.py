"""Errors of motion: pelvis-aligned joints (`metrics.shifted`) in metres, one person over equal time steps.

Differences are taken over steps of the reference frame rate: mm/frame^2 without dividing by time. A difference that
touches an invalid frame, or a joint that is not finite, is left out; no further frame is trimmed at the edges. Jitter
says little alone: a slow filter has none. Report it beside lag and error-now.

Independent noise of sigma per axis gives an accel error of 3.909 sigma, a jitter of 7.137 sigma fps^3 / 10 and an error
of 1.596 sigma: sqrt(6), sqrt(20) and 1 times the mean length of a normal 3-vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from ..geometry.rotations import rotmat_to_rotvec
from ..types import Array

EMDB_JITTER_JOINTS = (1, 2, 3, 4, 5, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19)
"""SMPL's 24 joints without 0, 7, 8, 10, 11 and 20 to 23: EMDB's script, with the translation zeroed."""


def accel_error_mm(predicted: Array, reference: Array, valid: Array | None = None) -> Array:
    """Return the error of the second difference at each frame, mean over joints [mm/frame^2]; NaN where there is none.

    Args:
        predicted, reference: Shape (T, J, 3), [m].
        valid: Frames to use. Shape (T,) bool; None = all.

    Returns:
        Shape (T,): frame t from t - 1, t, t + 1. To m/s^2: `per_frame2_to_m_s2`.

    Source:
        Kanazawa et al. 2019 (HMMR), acceleration error.
    """
    predicted, reference = _pair(predicted, reference)
    return _differences(predicted - reference, 2, valid, first=1) * 1e3


def accel_mm(points: Array, valid: Array | None = None) -> Array:
    """Return the length of the second difference, as `accel_error_mm` without a reference [mm/frame^2]. Shape (T,)."""
    return _differences(points, 2, valid, first=1) * 1e3


def per_frame2_to_m_s2(mm_per_frame2: Array, fps: float) -> Array:
    """Return an acceleration in m/s^2: at 30 Hz 1 mm/frame^2 is 0.9 m/s^2."""
    return mm_per_frame2 * fps**2 / 1e3


def jitter(points: Array, fps: float, valid: Array | None = None) -> Array:
    """Return the length of the third difference over time, mean over joints [10 m/s^3].

    Which joints, and whether they are aligned, is part of the record: EMDB's script takes `EMDB_JITTER_JOINTS` with the
    translation zeroed and the root's rotation kept.

    Args:
        points: Shape (T, J, 3), [m].
        fps: Of the points.

    Returns:
        Shape (T,): frame t from t - 1 to t + 2; NaN where there is none.

    Source:
        Yi et al. 2022 (PIP), sec. 5.1.
    """
    return _differences(points, 3, valid, first=1) * fps**3 / 10


def angular_accel_rad_s2(rotmats: Array, fps: float, valid: Array | None = None) -> Array:
    """Return the angular acceleration at each frame, mean over joints [rad/s^2].

    The difference of two successive geodesic steps, each as a rotation vector in the fixed frame.

    Args:
        rotmats: Global rotations, joint to camera. Shape (T, J, 3, 3).

    Returns:
        Shape (T,): frame t from t - 1, t, t + 1; NaN where there is none.
    """
    R = np.asarray(rotmats, np.float64)
    steps = rotmat_to_rotvec(R[1:] @ np.swapaxes(R[:-1], -1, -2))
    change = np.linalg.norm(steps[1:] - steps[:-1], axis=-1) * fps**2
    known = np.isfinite(R).all((-1, -2))
    return _place(change, known, 2, valid, len(R), first=1)


def error_now_mm(
    published: Array,
    publish_s: Array,
    reference: Array,
    reference_s: Array,
    *,
    root: Sequence[int] | None,
    valid: Array | None = None,
    max_gap_s: float = 0.1,
) -> Array:
    """Return the MPJPE of what was published against where the person is at that moment, not at exposure [mm].

    The reference is interpolated linearly between two valid frames that are no further apart than `max_gap_s`; where
    there are none (after its end), and for non-finite predictions, NaN.

    Args:
        published: Joints as they were sent. Shape (N, J, 3), [m].
        publish_s: When, on the reference's clock. Shape (N,), [s].
        reference: Shape (T, J, 3), [m]. reference_s: Ascending. Shape (T,), [s].
        root: Joints whose mean is moved onto the reference's first; None = where it stands in the camera frame.
        valid: Reference frames to use. Shape (T,) bool.
    """
    times, moments = np.asarray(reference_s, np.float64), np.asarray(publish_s, np.float64)
    known = np.isfinite(np.asarray(reference)).all((-1, -2))
    kept = np.flatnonzero(known if valid is None else known & np.asarray(valid, bool))
    out = np.full(len(moments), np.nan)
    if len(kept) < 2:
        return out
    times, joints = times[kept], np.asarray(reference, np.float64)[kept]
    after = np.clip(np.searchsorted(times, moments), 1, len(times) - 1)
    gap = times[after] - times[after - 1]
    inside = (moments >= times[0]) & (moments <= times[-1]) & (gap <= max_gap_s)
    share = ((moments - times[after - 1]) / gap)[:, None, None]
    then = (1 - share) * joints[after - 1] + share * joints[after]
    published = np.asarray(published, np.float64)
    if root is not None:
        published, then = (x - x[:, list(root)].mean(1, keepdims=True) for x in (published, then))
    errors = 1e3 * np.linalg.norm(published - then, axis=-1).mean(-1)
    return np.where(inside & np.isfinite(errors), errors, np.nan)


def _differences(points: Array, order: int, valid: Array | None, first: int) -> Array:
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ShapeError(f"motion needs points (T, J, 3), not {points.shape}")
    lengths = np.linalg.norm(np.diff(points, n=order, axis=0), axis=-1)
    return _place(lengths, np.isfinite(points).all(-1), order, valid, len(points), first)


def _place(values: Array, known: np.ndarray, order: int, valid: Array | None, frames: int, first: int) -> Array:
    """Return the mean over joints of (T - order, J) where all frames are valid, at frame `first` and after. (T,)."""
    out = np.full(frames, np.nan)
    if frames <= order:
        return out
    known = known if valid is None else known & np.asarray(valid, bool)[:, None]
    used = np.logical_and.reduce([known[k : frames - order + k] for k in range(order + 1)])
    count = used.sum(1)
    total = np.where(used, values, 0).sum(1)
    out[first : first + len(values)] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def _pair(predicted: Array, reference: Array) -> tuple[Array, Array]:
    predicted, reference = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    if predicted.shape != reference.shape:
        raise ShapeError(f"motions must have one shape, not {predicted.shape} and {reference.shape}")
    return predicted, reference
