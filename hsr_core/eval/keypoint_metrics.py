"""Errors of key points in the image [px]."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..types import Array
from .matching import tight_box

MIN_CONFIDENCE = 0.5
"""Reference key points that are not surer than this are not scored."""


def pck_hits(predicted: Array, reference: Array, share: float) -> Array:
    """Return 1 for a key point that is near enough, 0 for one that is not or is missing, NaN for one not annotated.

    Near is: less than `share` of the longer side of the tight box around the reference's sure key points. The figure
    averages over frames first, per key point, then over key points: `Figure.of(hits, protocol, components=True)`. A
    reference with one sure key point has no box and is not scored.

    Args:
        predicted: u, v of one person. Shape (K, 2) or (K, 3), [px].
        reference: u, v, confidence. Shape (K, 3), [px].
        share: 0.05 for PCK@0.05.
    """
    predicted, reference = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    if reference.shape[1:] != (3,) or predicted.shape[:1] != reference.shape[:1] or predicted.ndim != 2:
        raise ShapeError(f"key points must be (K, 2) and (K, 3), not {predicted.shape} and {reference.shape}")
    known = (reference[:, 2] > MIN_CONFIDENCE) & np.isfinite(reference).all(1)
    box = tight_box(reference, known)
    side = np.max(box[2:] - box[:2])
    errors = np.linalg.norm(predicted[:, :2] - reference[:, :2], axis=1)
    return np.where(known & (side > 0), errors < share * side, np.nan)  # a NaN error is not near


def pck(predicted: Array, reference: Array, share: float) -> float:
    """Return PCK@share of a clip: mean over the key points of each one's share of frames, [0, 1].

    Args:
        predicted, reference: Shapes (T, K, 2) and (T, K, 3), [px]; a frame with NaN predictions has none.
    """
    hits = np.stack([pck_hits(p, r, share) for p, r in zip(predicted, reference, strict=True)])
    counts = np.isfinite(hits).sum(0)
    if not counts.any():
        return float("nan")
    return float((np.nansum(hits, 0)[counts > 0] / counts[counts > 0]).mean())
