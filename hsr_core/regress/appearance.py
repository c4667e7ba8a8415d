"""What somebody wears, in a few numbers: colour histograms of the upper and the lower body."""

from __future__ import annotations

import numpy as np

from ..types import Array

BINS = 16
N_ROWS = 6
"""Luma and two chroma differences of the upper body, then of the lower."""
_STEP = 4
"""Every fourth pixel of the body network's crop tells the colours well enough."""
_LEAST_PX = 24
"""A part of which fewer of these pixels are seen counts as not seen."""
_YCC = np.array([[0.299, -0.169, 0.5], [0.587, -0.331, -0.419], [0.114, 0.5, -0.081]], np.float32)
"""RGB to luma and chroma (ITU-R BT.601)."""
_LOW, _RANGE = np.array([0, -0.25, -0.25], np.float32), np.array([1, 0.5, 0.5], np.float32)


def describe(crop: Array, shown: Array, shoulders_row: float, hips_row: float) -> Array:
    """Return the histograms of a person, float32 (6, 16): rows sum to 1, those of a part that is not seen are 0.

    Args:
        crop: RGB (S, S, 3) in [0, 1], the person upright.
        shown: bool (S, S), the person's own pixels.
        shoulders_row, hips_row: Where the upper body begins and ends; what is below is the lower body.
    """
    rows = np.arange(0, crop.shape[0], _STEP)
    shown = shown[::_STEP, ::_STEP]
    pixels = crop[::_STEP, ::_STEP]
    out = np.zeros((N_ROWS, BINS), np.float32)
    for part, (top, end) in enumerate(((shoulders_row, hips_row), (hips_row, crop.shape[0]))):
        chosen = pixels[shown & ((rows >= top) & (rows < end))[:, None]]
        if len(chosen) >= _LEAST_PX:
            out[3 * part : 3 * part + 3] = _histograms(chosen)
    return out


def _histograms(pixels: Array) -> Array:
    """Return (3, BINS) of RGB pixels (N, 3); each counts for the two nearest bins: edges between them do not matter."""
    at = np.clip((pixels @ _YCC - _LOW) / _RANGE, 0, 1) * (BINS - 1)
    low = np.minimum(at.astype(np.intp), BINS - 2)
    share = at - low
    channel = np.arange(3) * BINS
    index = (low + channel).ravel()
    counts = np.bincount(index, (1 - share).ravel(), 3 * BINS) + np.bincount(index + 1, share.ravel(), 3 * BINS)
    return counts.reshape(3, BINS) / len(pixels)
