"""Errors of refined bodies and pictures. Positions in metres, errors in millimetres and decibels.

Joint errors are in `metrics`: the pelvis-aligned MPJPE over the 22 body joints is `root_mpjpe_mm(x, y, (0,))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..body.base import BodyModel
from ..errors import ShapeError
from ..types import Array, HumanParams
from .metrics import mpjpe_mm, pa_mpjpe_mm, root_mpjpe_mm

BODY_JOINTS = slice(0, 22)
"""Pelvis and the 21 body joints: hands and face are not refined."""


def v2v_root_mm(vertices: Array, reference: Array, pelvis: Array, reference_pelvis: Array) -> float:
    """Return the mean vertex distance after moving pelvis onto pelvis [mm]. Shapes (V, 3), (V, 3), (3,), (3,)."""
    return mpjpe_mm(vertices - pelvis, reference - reference_pelvis)


def v2v_cam_mm(vertices: Array, reference: Array) -> float:
    """Return the mean vertex distance in the camera frame, nothing aligned [mm]. Shapes (V, 3)."""
    return mpjpe_mm(vertices, reference)


def pa_v2v_mm(vertices: Array, reference: Array) -> float:
    """Return the mean vertex distance after the best similarity [mm]. Shapes (V, 3)."""
    return pa_mpjpe_mm(vertices, reference)


@dataclass(frozen=True)
class RootError:
    """Error of the pelvis in the camera frame over a clip [mm].

    Attributes:
        total: Mean distance.
        lateral: Mean distance across the optical axis.
        depth: Mean absolute error along it.
        depth_bias: Mean signed error along it, positive = too far.
    """

    total: float
    lateral: float
    depth: float
    depth_bias: float


def root_error_mm(pelvis: Array, reference: Array) -> RootError:
    """Return the errors of pelvis positions (T, 3) [m]."""
    if np.shape(pelvis) != np.shape(reference) or np.ndim(pelvis) != 2:
        raise ShapeError(f"pelvis positions must both be (T, 3), not {np.shape(pelvis)} and {np.shape(reference)}")
    d = 1e3 * (np.asarray(pelvis, np.float64) - reference)
    return RootError(
        total=float(np.linalg.norm(d, axis=1).mean()),
        lateral=float(np.linalg.norm(d[:, :2], axis=1).mean()),
        depth=float(np.abs(d[:, 2]).mean()),
        depth_bias=float(d[:, 2].mean()),
    )


def pose_errors(body: BodyModel, people: Sequence[HumanParams], truth: Sequence[HumanParams]) -> dict[str, float]:
    """Return the errors of body joints, vertices and root [mm], means over the frames of a clip."""
    found, true = ([body.pose_one(person) for person in group] for group in (people, truth))
    pairs = list(zip(found, true, strict=True))
    root = root_error_mm(np.stack([f.joints[0] for f in found]), np.stack([t.joints[0] for t in true]))
    figures = {
        "mpjpe_mm": np.mean([root_mpjpe_mm(f.joints[BODY_JOINTS], t.joints[BODY_JOINTS], (0,)) for f, t in pairs]),
        "pa_mpjpe_mm": np.mean([pa_mpjpe_mm(f.joints[BODY_JOINTS], t.joints[BODY_JOINTS]) for f, t in pairs]),
        "v2v_mm": np.mean([v2v_root_mm(f.vertices, t.vertices, f.joints[0], t.joints[0]) for f, t in pairs]),
        "root_error_mm": root.total,
        "root_depth_bias_mm": root.depth_bias,
    }
    return {name: round(float(value), 2) for name, value in figures.items()}


def root_jerk(pelvis: Array, dt_s: float) -> float:
    """Return the mean size of the third difference of positions (T, 3) over time [m/s^3]; T is at least 4."""
    return float(np.linalg.norm(np.diff(np.asarray(pelvis, np.float64), n=3, axis=0), axis=1).mean() / dt_s**3)


def on_white(image: Array, mask: Array) -> Array:
    """Return a target cut out by its mask on white, float64 (H, W, 3) in [0, 1]."""
    alpha = np.asarray(mask, np.float64)[..., None]
    return np.clip(image * alpha + (1 - alpha), 0, 1)


def prediction_on_white(color: Array, alpha: Array) -> Array:
    """Return a rendered picture as it is measured, float64 (H, W, 3): clamped, 8 bit, white where alpha is 0.

    Args:
        color: Rendered over white, (H, W, 3).
        alpha: Its opacity, (H, W).
    """
    quantised = np.rint(np.clip(np.asarray(color, np.float64), 0, 1) * 255) / 255
    quantised[np.asarray(alpha) == 0] = 1.0
    return quantised


def psnr_db(predicted: Array, target: Array) -> float:
    """Return the peak signal-to-noise ratio over all pixels and channels, data range 1 [dB]; equal pictures: inf.

    The figure of a clip is the mean over its frames, not that of the pooled error.
    """
    _check_pair(predicted, target)
    mse = float(np.square(np.asarray(predicted, np.float64) - target).mean())
    return float("inf") if mse == 0 else -10 * np.log10(mse)


def psnr_crop_db(predicted: Array, target: Array, mask: Array) -> float:
    """Return the PSNR within the box of the mask (above 0) [dB]; NaN when the mask is empty."""
    _check_pair(predicted, target)
    rows, columns = np.flatnonzero((mask > 0).any(1)), np.flatnonzero((mask > 0).any(0))
    if not len(rows):
        return float("nan")
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return psnr_db(predicted[box], target[box])


def ssim(predicted: Array, target: Array) -> float:
    """Return the structural similarity of two pictures (H, W, C) in [0, 1], data range 1.

    Gaussian window 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, population moments; mean over the channels and the pixels
    whose window lies inside the picture, as torchmetrics has it. Not a loss: see `refine.losses`.

    Source:
        Wang et al. 2004, eq. 13.
    """
    _check_pair(predicted, target)
    if min(predicted.shape[:2]) < 11:
        raise ShapeError(f"SSIM needs pictures of 11 x 11 pixels or more, not {predicted.shape[:2]}")
    x, y = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    cov = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(index.mean())


def _window(x: Array) -> Array:
    """Weighted means over all windows that lie inside, (H - 10, W - 10, C)."""
    blurred = cv2.GaussianBlur(x, (11, 11), 1.5)
    return blurred[5:-5, 5:-5]


def _check_pair(predicted: Array, target: Array) -> None:
    if np.ndim(predicted) != 3 or np.shape(predicted) != np.shape(target):
        raise ShapeError(f"pictures must have one shape (H, W, C), not {np.shape(predicted)} and {np.shape(target)}")
