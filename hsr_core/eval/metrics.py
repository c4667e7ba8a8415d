"""Errors of joints and vertices. Positions in metres in camera axes, errors in millimetres and degrees.

Every function takes one frame (J, 3) or a batch (..., J, 3) and returns one value per frame, (...).

Who counts: a reference point with NaN is not annotated and left out of its frame's mean; a frame without any annotated
point, or with a prediction that is not finite at one that is, has the value NaN: no value, which `Figure` counts as
missing and never averages. `annotated` tells the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ShapeError
from ..types import Array

MPJAE_PARTS = (0, 1, 2, 4, 5, 16, 17, 18, 19)
"""SMPL parts of the 3DPW challenge's angle error: pelvis, hips, knees, shoulders, elbows."""

_COLLAPSED_M2 = 1e-18
"""Below this sum of squares all predicted points are one."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A similarity per frame, x -> scale R x + t.

    Attributes:
        scale: (...). R: (..., 3, 3), det +1. t: (..., 3) [m].
        degenerate: (...) bool; the prediction has no extent, so that only a translation was fitted. To be counted.
    """

    scale: Array
    R: Array
    t: Array
    degenerate: np.ndarray

    def apply(self, points: Array) -> Array:
        """Return the points moved. Shape (..., J, 3)."""
        return self.scale[..., None, None] * (points @ np.swapaxes(self.R, -1, -2)) + self.t[..., None, :]


def align(predicted: Array, reference: Array, *, scale: bool = True) -> Alignment:
    """Return the best similarity of each frame's prediction onto its reference; never a reflection.

    Points that are not finite in either are left out. Without extent in the prediction, or with one beyond all
    numbers, scale and rotation are undefined: then it is a translation, and marked.

    Args:
        predicted, reference: Shape (..., J, 3).
        scale: False for a rigid motion.

    Source:
        Umeyama 1991, eqs. 39 to 42. By numpy, for roma spends eight times as long on a single frame.
    """
    x, y = _pair(predicted, reference)
    used = np.isfinite(x).all(-1) & np.isfinite(y).all(-1)
    mean_x, x = _centred(x, used)
    mean_y, y = _centred(y, used)
    with np.errstate(over="ignore", invalid="ignore"):
        variance, covariance = np.square(x).sum((-1, -2)), np.swapaxes(y, -1, -2) @ x
    bounded = np.isfinite(variance) & np.isfinite(covariance).all((-1, -2))
    degenerate = ~bounded | (variance < _COLLAPSED_M2)
    fit = ~degenerate[..., None, None]
    U, D, Vt = np.linalg.svd(np.where(fit, covariance, np.eye(3)))
    mirrored = np.linalg.det(U @ Vt) < 0
    U[..., 2] = np.where(mirrored[..., None], -U[..., 2], U[..., 2])
    D[..., 2] = np.where(mirrored, -D[..., 2], D[..., 2])
    R = np.where(fit, U @ Vt, np.eye(3))
    s = np.where(degenerate, 1.0, D.sum(-1) / np.where(degenerate, 1.0, variance)) if scale else np.ones_like(variance)
    t = mean_y - s[..., None] * (R @ mean_x[..., None])[..., 0]
    return Alignment(scale=s, R=R, t=t, degenerate=degenerate)


def _centred(points: Array, used: np.ndarray) -> tuple[Array, Array]:
    """Return the mean (..., 3) of the used points, and all of them about it (..., J, 3), 0 where not used."""
    kept = used[..., None]
    mean = np.where(kept, points, 0).sum(-2) / np.maximum(kept.sum(-2), 1)
    return mean, np.where(kept, points - mean[..., None, :], 0)


def similarity(predicted: Array, reference: Array) -> Array:
    """Return `predicted` moved onto `reference` by the best similarity of each frame. Shapes (..., J, 3)."""
    return align(predicted, reference).apply(np.asarray(predicted, np.float64))


def annotated(reference: Array, root: Sequence[int] = ()) -> np.ndarray:
    """Return which frames have a reference to score: some point, and all `root` points. (..., J, 3) -> (...) bool."""
    known = np.isfinite(np.asarray(reference)).all(-1)
    return known.any(-1) & known[..., list(root)].all(-1)


def distances_mm(predicted: Array, reference: Array) -> Array:
    """Return the distance of each point, NaN where one of the two is not known. (..., J, 3) [m] -> (..., J) [mm]."""
    x, y = _pair(predicted, reference)
    with np.errstate(invalid="ignore", over="ignore"):
        return _finite(1e3 * np.linalg.norm(x - y, axis=-1))


def mpjpe_mm(predicted: Array, reference: Array) -> Array:
    """Return the mean distance of corresponding points as they are: abs-MPJPE of joints, V2V of vertices [mm]."""
    return _mean_over_points(distances_mm(predicted, reference), reference)


def pa_mpjpe_mm(predicted: Array, reference: Array) -> Array:
    """Return the mean distance after the best similarity of each frame: PA-MPJPE, PA-PVE [mm]."""
    return mpjpe_mm(similarity(predicted, reference), reference)


def shifted(points: Array, root: Sequence[int]) -> Array:
    """Return the points with the mean of the `root` points as the origin. Shape (..., J, 3)."""
    points = np.asarray(points, np.float64)
    return points - points[..., list(root), :].mean(-2, keepdims=True)


def root_mpjpe_mm(predicted: Array, reference: Array, root: Sequence[int]) -> Array:
    """Return the MPJPE: mean distance after moving both so that the mean of the `root` points is the origin [mm].

    Which points are the root is part of the protocol: see `joint_rules.Pelvis`.
    """
    return mpjpe_mm(shifted(predicted, root), shifted(reference, root))


def pve_mm(vertices: Array, reference: Array, origin: Array, reference_origin: Array) -> Array:
    """Return the mean vertex distance after moving origin onto origin: PVE with the pelvis of joints [mm].

    Also the PVE of a face with the neck's joint as origin.

    Args:
        vertices, reference: One topology. Shape (..., V, 3), [m].
        origin, reference_origin: Shape (..., 3), [m].
    """
    origins = (np.asarray(point, np.float64)[..., None, :] for point in (origin, reference_origin))
    return mpjpe_mm(*(points - point for points, point in zip((vertices, reference), origins, strict=True)))


def root_errors_mm(pelvis: Array, reference: Array) -> tuple[Array, Array]:
    """Return the distance of two roots and its signed part along the reference's viewing ray, positive = too far.

    Args:
        pelvis, reference: Camera frame. Shape (..., 3), [m].
    """
    pelvis, reference = _pair(pelvis, reference)
    offset = 1e3 * (pelvis - reference)
    range_m = np.linalg.norm(reference, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.einsum("...i,...i->...", offset, reference) / range_m
    return _finite(np.linalg.norm(offset, axis=-1)), _finite(along)


def pck3d(predicted: Array, reference: Array, root: Sequence[int], threshold_mm: float = 50) -> Array:
    """Return the share of annotated joints nearer than the threshold after the root's shift, [0, 1]."""
    return _pck3d(distances_mm(shifted(predicted, root), shifted(reference, root)), reference, threshold_mm)


def auc3d(predicted: Array, reference: Array, root: Sequence[int], limit_mm: float = 200) -> Array:
    """Return the area under PCK3D over thresholds 0 to `limit_mm`, as a share of it, [0, 1].

    Exact, not sampled: a joint with error e is within all thresholds above e, a share 1 - e / limit of them.
    """
    return _auc3d(distances_mm(shifted(predicted, root), shifted(reference, root)), reference, limit_mm)


def mpjae_deg(
    predicted: Array, reference: Array, *, parts: Sequence[int] = MPJAE_PARTS, R_align: Array | None = None
) -> Array:
    """Return the mean geodesic angle of global joint rotations [deg].

    Args:
        predicted, reference: Rotations joint to camera. Shape (..., J, 3, 3).
        parts: Which joints count.
        R_align: (..., 3, 3) of `align(joints, ...)`, applied to the prediction first: PA-MPJAE.

    Source:
        3DPW challenge (von Marcard et al. 2018). Angles from the chord, exact near zero.
    """
    x, y = (np.asarray(R, np.float64)[..., list(parts), :, :] for R in (predicted, reference))
    if x.shape != y.shape or x.shape[-2:] != (3, 3):
        raise ShapeError(f"rotations must both be (..., J, 3, 3), not {np.shape(predicted)} and {np.shape(reference)}")
    if R_align is not None:
        x = np.asarray(R_align)[..., None, :, :] @ x
    chord = np.linalg.norm(x - y, axis=(-1, -2))
    angles = np.degrees(2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1)))
    return _mean_over_points(np.where(np.isfinite(y).all((-1, -2)), angles, np.nan), y[..., 0])


def joint_errors(predicted: Array, reference: Array, root: Sequence[int]) -> dict[str, Array]:
    """Return all joint errors of each frame by their names in `protocol.METRICS`, and `degenerate` (bool).

    Args:
        predicted, reference: The same joints in the same order. Shape (..., J, 3), [m], camera frame.
        root: Indices whose mean is the pelvis.
    """
    predicted, reference = _pair(predicted, reference)
    alignment = align(predicted, reference)
    pelvis, true_pelvis = (points[..., list(root), :].mean(-2) for points in (predicted, reference))
    distance, along = root_errors_mm(pelvis, true_pelvis)
    aligned = distances_mm(predicted - pelvis[..., None, :], reference - true_pelvis[..., None, :])
    return {
        "mpjpe_mm": _mean_over_points(aligned, reference),
        "pa_mpjpe_mm": mpjpe_mm(alignment.apply(predicted), reference),
        "abs_mpjpe_mm": mpjpe_mm(predicted, reference),
        "root_error_mm": distance,
        "root_ray_error_mm": along,
        "pck3d_50": _pck3d(aligned, reference, 50),
        "auc3d": _auc3d(aligned, reference, 200),
        "degenerate": alignment.degenerate,
    }


def vertex_errors(vertices: Array, reference: Array, pelvis: Array, reference_pelvis: Array) -> dict[str, Array]:
    """Return the vertex errors of each frame by their names in `protocol.METRICS`. Shapes as of `pve_mm`."""
    return {
        "pve_mm": pve_mm(vertices, reference, pelvis, reference_pelvis),
        "pa_pve_mm": pa_mpjpe_mm(vertices, reference),
        "abs_pve_mm": mpjpe_mm(vertices, reference),
    }


def _pck3d(distances: Array, reference: Array, threshold_mm: float) -> Array:
    return _mean_over_points(np.where(np.isfinite(distances), distances < threshold_mm, np.nan), reference)


def _auc3d(distances: Array, reference: Array, limit_mm: float) -> Array:
    return _mean_over_points(np.maximum(1 - distances / limit_mm, 0), reference)


def _mean_over_points(values: Array, reference: Array) -> Array:
    """Return the mean of (..., J) over the annotated points of (..., J, 3); NaN without any or with a NaN at one."""
    used = np.isfinite(np.asarray(reference)).all(-1)
    count = used.sum(-1)
    total = np.where(used, values, 0).sum(-1)
    return _finite(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)[()]


def _pair(predicted: Array, reference: Array) -> tuple[Array, Array]:
    x, y = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    if x.shape != y.shape or x.ndim < 1 or x.shape[-1] != 3:
        raise ShapeError(f"points must both be (..., J, 3), not {x.shape} and {y.shape}")
    return x, y
