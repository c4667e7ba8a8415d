"""Errors of rendered pictures, in each of the variants that papers mix. Pictures are (H, W, C) in [0, 1].

full: the whole picture as it is. On a background: both sides composited first (`on_background`), which inflates both
figures by the share of the picture that is background. box: within the box of the mask. mask: masked pixels only, the
strictest. The figure of a clip is the mean over its pictures, not that of the pooled error.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import ShapeError
from ..types import Array

_WINDOW_PX = 11
_NAN = float("nan")


def on_background(image: Array, mask: Array, background: float = 1.0) -> Array:
    """Return a picture cut out by its mask on a constant, white by default. float64 (H, W, C)."""
    alpha = np.asarray(mask, np.float64)[..., None]
    return np.clip(image * alpha + background * (1 - alpha), 0, 1)


def prediction_on_white(color: Array, alpha: Array) -> Array:
    """Return a rendered picture as it is measured, float64 (H, W, 3): clamped, 8 bit, white where alpha is 0.

    Args:
        color: Rendered over white, (H, W, 3).
        alpha: Its opacity, (H, W).
    """
    quantised = np.rint(np.clip(np.asarray(color, np.float64), 0, 1) * 255) / 255
    quantised[np.asarray(alpha) == 0] = 1.0
    return quantised


def psnr_db(predicted: Array, target: Array, mask: Array | None = None) -> float:
    """Return the peak signal-to-noise ratio over pixels and channels, data range 1 [dB]; equal pictures: inf.

    Args:
        predicted, target: Shape (H, W, C).
        mask: (H, W); only pixels above 0.5 count. NaN when there are none.

    Raises:
        ShapeError: They are not of one size.
    """
    _check_pair(predicted, target, mask)
    errors = np.square(np.asarray(predicted, np.float64) - target)
    if mask is not None:
        errors = errors[np.asarray(mask) > 0.5]
    if not errors.size:
        return _NAN
    mse = float(errors.mean())
    return float("inf") if mse == 0 else -10 * np.log10(mse)


def mask_box(mask: Array) -> tuple[slice, slice] | None:
    """Return rows and columns of the box around the mask (above 0), None when it is empty."""
    inside = np.asarray(mask) > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def psnr_box_db(predicted: Array, target: Array, mask: Array) -> float:
    """Return the PSNR within the box of the mask [dB]; NaN when the mask is empty."""
    _check_pair(predicted, target, mask)
    box = mask_box(mask)
    return _NAN if box is None else psnr_db(predicted[box], target[box])


def ssim_map(predicted: Array, target: Array) -> Array:
    """Return the structural similarity of every window that lies inside, (H - 10, W - 10, C).

    Gaussian window 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, population moments, data range 1.

    Source:
        Wang et al. 2004, eq. 13.
    """
    _check_pair(predicted, target)
    if min(predicted.shape[:2]) < _WINDOW_PX:
        raise ShapeError(f"SSIM needs pictures of 11 x 11 pixels or more, not {predicted.shape[:2]}")
    x, y = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    cov = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def ssim(predicted: Array, target: Array, mask: Array | None = None) -> float:
    """Return the structural similarity of two pictures (H, W, C): mean over the channels and windows of `ssim_map`.

    As scikit-image has it. torchmetrics 1.9 also counts windows over a reflected border, which shifts the figure by up
    to some thousandths. Not a loss: see `refine.losses`.

    Args:
        mask: (H, W); only windows whose middle is above 0.5 count. NaN when there are none.
    """
    _check_pair(predicted, target, mask)
    index = ssim_map(predicted, target)
    if mask is not None:
        index = index[np.asarray(mask)[5:-5, 5:-5] > 0.5]
    return float(index.mean()) if index.size else _NAN


def ssim_box(predicted: Array, target: Array, mask: Array) -> float:
    """Return the SSIM within the box of the mask; NaN when the box is smaller than a window."""
    _check_pair(predicted, target, mask)
    box = mask_box(mask)
    if box is None or min(part.stop - part.start for part in box) < _WINDOW_PX:
        return _NAN
    return ssim(predicted[box], target[box])


def picture_errors(predicted: Array, target: Array, mask: Array) -> dict[str, float]:
    """Return PSNR and SSIM in the variants full, box and mask by their names in `protocol.METRICS`.

    For the full variant on a background give composited pictures, and say so in the record's `mask`.
    """
    return {
        "psnr_db": psnr_db(predicted, target),
        "psnr_box_db": psnr_box_db(predicted, target, mask),
        "psnr_mask_db": psnr_db(predicted, target, mask),
        "ssim": ssim(predicted, target),
        "ssim_box": ssim_box(predicted, target, mask),
        "ssim_mask": ssim(predicted, target, mask),
    }


def _window(x: Array) -> Array:
    """Weighted means over all windows that lie inside, (H - 10, W - 10, C)."""
    # OpenCV drops a single channel.
    blurred = cv2.GaussianBlur(x, (_WINDOW_PX, _WINDOW_PX), 1.5).reshape(x.shape)
    return blurred[5:-5, 5:-5]


def _check_pair(predicted: Array, target: Array, mask: Array | None = None) -> None:
    if np.ndim(predicted) != 3 or np.shape(predicted) != np.shape(target):
        raise ShapeError(f"pictures must have one shape (H, W, C), not {np.shape(predicted)} and {np.shape(target)}")
    if mask is not None and np.shape(mask) != np.shape(target)[:2]:
        raise ShapeError(f"the mask must have the pictures' shape {np.shape(target)[:2]}, not {np.shape(mask)}")
