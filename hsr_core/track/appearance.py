"""How much two people look alike, by colour histograms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Array

SIGMA = 0.15
"""Distance of two looks at one person a second apart, with the light and the side that is seen."""
MOST = 0.6
"""Farther apart means nothing more: other clothes."""
MEMORY = 0.1
"""Share of a new look in what is remembered of a person."""


def appearance_distance(a: Sequence[Array | None], b: Sequence[Array | None]) -> Array:
    """Return the Hellinger distance of histograms, (N, M) in [0, 1]; NaN where two have no row in common.

    Args:
        a, b: (R, B) each, rows sum to 1, a row of zeros was not seen; None: nothing known.
    """
    shape = next((np.shape(known) for known in (*a, *b) if known is not None), None)
    if shape is None:
        return np.full((len(a), len(b)), np.nan)
    nothing = np.zeros(shape)
    roots_a, roots_b = (np.sqrt([nothing if one is None else one for one in many]) for many in (a, b))
    both = (roots_a.any(2)[:, None] & roots_b.any(2)[None]).sum(2)
    alike = roots_a.reshape(len(a), -1) @ roots_b.reshape(len(b), -1).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.clip(1 - alike / both, 0, 1))


def appearance_cost(distance: Array) -> Array:
    """Return the negative logarithm of the likelihood of an `appearance_distance` between two looks at one person.

    Where nothing is known it is that of SIGMA, an ordinary distance: it neither speaks for anybody nor against.
    """
    known = np.where(np.isnan(distance), SIGMA, np.minimum(distance, MOST))
    return known**2 / (2 * SIGMA**2)


def blend(remembered: Array | None, seen: Array | None) -> Array | None:
    """Return what is remembered of a person after another look; rows seen for the first time are taken over."""
    if remembered is None or seen is None:
        return seen if remembered is None else remembered
    share = np.where(remembered.any(1), MEMORY, 1.0) * seen.any(1)
    return remembered + share[:, None] * (seen - remembered)
