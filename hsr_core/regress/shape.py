"""Proportions of a person from the first frames: betas that explain the landmarks better than the average body.

At a fitted pose each frame adds its normal equations for the betas, with the pose taken out (Schur complement), so that
what a change of pose could explain as well counts for nothing. The stature is given, not estimated.
"""

from __future__ import annotations

import numpy as np

from ..types import Array

SOLVE_AT = (5, 10, 15)
"""Frames with the whole body in view after which the shape is solved; after the last it is held."""
_FRAME_WEIGHT = 0.1
"""Landmark errors of successive frames are nearly the same: ten frames count as one."""
_MAX_BETA = 2.5


class ShapeEstimator:
    """Accumulates evidence about one person's betas; `reset` for another person."""

    def __init__(self, n_betas: int) -> None:
        self._n = n_betas
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self.frames = 0
        self._normal = np.zeros((self._n, self._n))
        self._right = np.zeros(self._n)

    @property
    def done(self) -> bool:
        """True when the shape is held."""
        return self.frames >= SOLVE_AT[-1]

    def add(self, system: tuple[Array, Array], betas: Array) -> Array | None:
        """Add one frame; return new betas (n,) when it is time to use them, else None.

        Args:
            system: Normal matrix (n, n) and gradient (n,) of the frame's squared error at `betas`.
            betas: The betas of that frame's fit.
        """
        normal, gradient = system
        self._normal += _FRAME_WEIGHT * normal
        self._right += _FRAME_WEIGHT * (normal @ betas - gradient)
        self.frames += 1
        if self.frames not in SOLVE_AT:
            return None
        solved = np.linalg.solve(self._normal + np.eye(self._n), self._right)
        return np.clip(solved, -_MAX_BETA, _MAX_BETA)
