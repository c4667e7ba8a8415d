"""How honest the flags are: whether an estimate that calls itself good is good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ShapeError
from ..types import Array

BAD_MM = 150.0
"""abs-MPJPE from which an estimate should have been flagged."""

_NAN = float("nan")


@dataclass(frozen=True)
class FlagCounts:
    """How often a `degraded` flag was right; adds up.

    Attributes:
        hits: Flagged and bad. false: Flagged and good. missed: Not flagged and bad. quiet: Neither.
    """

    hits: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0

    @classmethod
    def of(cls, flagged: Array, error_mm: Array, bad_mm: float = BAD_MM) -> FlagCounts:
        """Return the counts of frames, (N,) bool and (N,) [mm]; errors that are not finite are left out."""
        errors, flags = np.asarray(error_mm, np.float64), np.asarray(flagged, bool)
        if errors.shape != flags.shape:
            raise ShapeError(f"flags and errors must have one shape, not {flags.shape} and {errors.shape}")
        known, bad = np.isfinite(errors), errors > bad_mm
        pairs = ((flags, bad), (flags, ~bad), (~flags, bad), (~flags, ~bad))
        return cls(*(int((known & a & b).sum()) for a, b in pairs))

    def __add__(self, other: FlagCounts) -> FlagCounts:
        return FlagCounts(
            self.hits + other.hits, self.false + other.false, self.missed + other.missed, self.quiet + other.quiet
        )

    @property
    def precision(self) -> float:
        """Share of flagged frames that are bad; NaN when none was flagged."""
        return self.hits / (self.hits + self.false) if self.hits + self.false else _NAN

    @property
    def recall(self) -> float:
        """Share of bad frames that were flagged; NaN when none was bad."""
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else _NAN


def sparsification(error: Array, score: Array) -> tuple[Array, Array]:
    """Return the mean error of what is left after removing the k lowest scores, k = 0 to N - 1, and that of the oracle.

    Both relative to the mean of all. Frames of one score are removed in no particular order: each stands for their
    mean. The oracle removes the largest errors first.

    Args:
        error, score: Shape (N,). Pairs that are not finite are left out.

    Returns:
        Two curves (N,), both starting at 1; empty without errors.

    Source:
        Ilg et al. 2018, sec. 4.1.
    """
    error, score = np.asarray(error, np.float64), np.asarray(score, np.float64)
    known = np.isfinite(error) & np.isfinite(score)
    error, score = error[known], score[known]
    if not error.sum() > 0:
        return np.empty(0), np.empty(0)
    _, group = np.unique(score, return_inverse=True)
    shared = (np.bincount(group, error) / np.bincount(group))[group]
    curves = []
    for order, values in ((np.argsort(score, kind="stable"), shared), (np.argsort(-error, kind="stable"), error)):
        left = np.cumsum(values[order][::-1])[::-1] / np.arange(len(values), 0, -1)
        curves.append(left / error.mean())
    return curves[0], curves[1]


def sparsification_auc(error: Array, score: Array) -> float:
    """Return the area between the two curves of `sparsification`, over shares removed 0 to 1; 0 = ranks as the oracle.

    NaN without errors.
    """
    curve, oracle = sparsification(error, score)
    return float(np.mean(curve - oracle)) if len(curve) else _NAN
