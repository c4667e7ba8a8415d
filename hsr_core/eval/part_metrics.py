"""Errors of hands, face and the whole of an expressive body. Positions in metres.

As in `metrics`, NaN in the reference is not annotated, and NaN is returned where nothing can be scored. The PVE of the
face is `metrics.pve_mm` on the face's vertices with the neck (or head) joint as origin.
"""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError, ShapeError
from ..types import Array
from .metrics import align, distances_mm, mpjpe_mm, pve_mm


def hand_errors_mm(
    predicted: Array,
    reference: Array,
    wrists: Array,
    reference_wrists: Array,
    valid: Array | None = None,
    *,
    drop_pa_above_mm: float = float("inf"),
) -> dict[str, Array]:
    """Return `hand_pve_mm` (shifted wrist to wrist) and `hand_pa_pve_mm` (a similarity per hand), one per frame.

    The mean over vertices of each hand, then over the hands that are valid and annotated; NaN without any, or when one
    of them has no finite prediction.

    Args:
        predicted, reference: MANO's 778 vertices of the left and of the right hand. Shape (..., 2, V, 3), [m].
        wrists, reference_wrists: Shape (..., 2, 3), [m].
        valid: Hands to score. Shape (..., 2) bool; None = all.
        drop_pa_above_mm: Take hands with a larger PA error for wrongly annotated, as some evaluations of expressive
            bodies do with 100. It drops bad predictions too, so it belongs in the record's `frame_filter`.
    """
    if np.ndim(reference) < 3 or np.shape(reference)[-3] != 2:
        raise ShapeError(f"hands must be (..., 2, V, 3), left and right, not {np.shape(reference)}")
    known = np.isfinite(np.asarray(reference)).all(-1).any(-1)
    scored = known if valid is None else known & np.asarray(valid, bool)
    errors = {
        "hand_pve_mm": pve_mm(predicted, reference, wrists, reference_wrists),
        "hand_pa_pve_mm": mpjpe_mm(align(predicted, reference).apply(np.asarray(predicted, np.float64)), reference),
    }
    scored &= ~(errors["hand_pa_pve_mm"] > drop_pa_above_mm)
    return {name: _mean_over_hands(values, scored) for name, values in errors.items()}


def _mean_over_hands(values: Array, scored: np.ndarray) -> Array:
    count = scored.sum(-1)
    total = np.where(scored, values, 0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]


def mle_m(predicted: Array, reference: Array, alignment: str) -> Array:
    """Return the mean distance of face landmarks after the head's alignment [m].

    Args:
        predicted, reference: The 68 or 51 landmarks; which, is part of the record. Shape (..., L, 3), [m].
        alignment: `none`, `rigid` (rotation and translation) or `similarity`, fitted to these landmarks. For points
            that are already in the head's frame `none`.

    Raises:
        ConfigError: No such alignment.
    """
    if alignment not in ("none", "rigid", "similarity"):
        raise ConfigError(f"alignment of landmarks is none, rigid or similarity, not {alignment!r}")
    if alignment != "none":
        fit = align(predicted, reference, scale=alignment == "similarity")
        predicted = fit.apply(np.asarray(predicted, np.float64))
    return mpjpe_mm(predicted, reference) / 1e3


def lve_m2(predicted: Array, reference: Array) -> Array:
    """Return the largest squared distance over the lip vertices of each frame [m^2]; a clip's figure is the mean.

    Args:
        predicted, reference: Lip vertices in the head's frame. Shape (..., V, 3), [m].

    Source:
        Richard et al. 2021 (MeshTalk); squared as torchmetrics and the talking-head papers have it, hence 1e-5.
    """
    distances = distances_mm(predicted, reference) / 1e3
    known = np.isfinite(np.asarray(reference)).all(-1)
    largest = np.where(known, distances, 0).max(-1)
    return np.where(known.any(-1), largest**2, np.nan)[()]


def whole_body(body: float, left_hand: float, right_hand: float, face: float) -> float:
    """Return AGORA's and EHF's score of an expressive body: body + (left hand + right hand + face) / 3."""
    return body + (left_hand + right_hand + face) / 3


def f1_score(matched: int, predicted: int, annotated: int) -> float:
    """Return the harmonic mean of precision and recall; NaN when there is nobody on either side."""
    return 2 * matched / (predicted + annotated) if predicted + annotated else float("nan")


def normalised_by_f1(error_mm: float, f1: float, *, two_decimals: bool = True) -> float:
    """Return NMVE of an MVE, NMJE of an MPJPE: divided by the F1 of detection, NaN when that is 0.

    Args:
        two_decimals: Round F1 first, as AGORA's tables have it.
    """
    f1 = round(f1, 2) if two_decimals else f1
    return error_mm / f1 if f1 else float("nan")
