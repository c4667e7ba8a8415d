"""A smoother without delay, for recordings: it sees what comes as well as what was.

Source:
    Savitzky and Golay, Smoothing and Differentiation of Data by Simplified Least Squares Procedures, 1964. At the ends
    of a stretch the polynomial of the outermost window is evaluated. Rotations: the same weights in the tangent space
    of the window's mean.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array

WINDOW, ORDER = 7, 2
MARGIN = WINDOW - 1
"""So many samples on each side decide a value: with them a stretch can be smoothed piece by piece."""


@cache
def _weights(window: int) -> Array:
    """Return (window, window): row i gives the fitted polynomial at sample i of a window."""
    t = np.arange(window) - (window - 1) / 2
    basis = np.stack([t**k for k in range(ORDER + 1)], axis=1)
    return basis @ np.linalg.pinv(basis)


def windows(count: int, *, before: int = 0, after: int = 0) -> tuple[NDArray[np.int64], Array]:
    """Return each sample's window and weights: indices (count, w) and (count, w). Short stretches have smaller windows.

    Args:
        count: Samples of the stretch. Windows do not leave it.
        before, after: Samples at its ends that are not asked for.
    """
    width = min(WINDOW, count - 1 + count % 2)
    at = np.arange(before, count - after)
    start = np.clip(at - width // 2, 0, count - width)
    return start[:, None] + np.arange(width), _weights(width)[at - start]


def smooth_vectors(values: Array, *, before: int = 0, after: int = 0) -> Array:
    """Smooth evenly spaced samples (n, ...) along the first axis; returns (n - before - after, ...)."""
    index, weights = windows(len(values), before=before, after=after)
    return np.einsum("nw,nw...->n...", weights, np.asarray(values, np.float64)[index])


def smooth_rotations(rotmats: Array, *, before: int = 0, after: int = 0) -> Array:
    """Smooth evenly spaced rotations (n, ..., 3, 3); returns (n - before - after, ..., 3, 3)."""
    index, weights = windows(len(rotmats), before=before, after=after)
    in_window = np.asarray(rotmats, np.float64)[index]  # (n, w, ..., 3, 3)
    mean = _nearest_rotation(in_window.sum(axis=1))
    tangent = rotmat_to_rotvec(np.swapaxes(mean, -1, -2)[:, None] @ in_window)
    return mean @ rotvec_to_rotmat(np.einsum("nw,nw...->n...", weights, tangent))


def _nearest_rotation(matrices: Array) -> Array:
    """Return the rotations (..., 3, 3) nearest to matrices: the chordal mean of those that were summed."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt
