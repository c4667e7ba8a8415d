"""Joint errors of one frame. Positions in metres, errors in millimetres."""

from __future__ import annotations

import numpy as np
import roma
import torch

from ..types import Array


def similarity(predicted: Array, reference: Array) -> Array:
    """Return `predicted` moved onto `reference` by the best scale, rotation (det +1) and translation.

    A collapsed prediction (all points equal) is only translated: its scale and rotation are undefined.

    Args:
        predicted: Shape (J, 3).
        reference: Shape (J, 3).

    Source:
        Umeyama 1991.
    """
    x = torch.from_numpy(np.ascontiguousarray(predicted, np.float64))
    y = torch.from_numpy(np.ascontiguousarray(reference, np.float64))
    if float((x - x.mean(0)).square().sum()) < 1e-18:
        return predicted - predicted.mean(0) + reference.mean(0)
    R, t, s = roma.rigid_points_registration(x, y, compute_scaling=True)
    return (s * x @ R.T + t).numpy()


def mpjpe_mm(predicted: Array, reference: Array) -> float:
    """Return the mean distance of corresponding points, (J, 3) [m], in mm."""
    return float(np.linalg.norm(predicted - reference, axis=-1).mean() * 1e3)


def pa_mpjpe_mm(predicted: Array, reference: Array) -> float:
    """Return the mean distance after the best similarity [mm]."""
    return mpjpe_mm(similarity(predicted, reference), reference)


def root_mpjpe_mm(predicted: Array, reference: Array, root: tuple[int, ...]) -> float:
    """Return the mean distance after moving both so that the mean of the `root` points is the origin [mm]."""
    return mpjpe_mm(predicted - predicted[list(root)].mean(0), reference - reference[list(root)].mean(0))
