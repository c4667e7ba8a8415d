"""Distances between the capsules of a robot, and how they change with its joints.

Source:
    Closest points of two segments: Ericson, Real-Time Collision Detection (2005), sec. 5.1.9.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Array
from .mapping import Capsule

_TINY = 1e-12


class Capsules:
    """Capsules on a robot's frames and the pairs of them that may meet.

    Attributes:
        names: Frame of each capsule.
        frame_ids: Of the model, (c,).
        first, second: Capsules of each pair, (p,).
        reach: Sum of the two radii of each pair, (p,) [m].
    """

    def __init__(self, capsules: Sequence[Capsule], frame_ids: Sequence[int], pairs: Sequence[tuple[int, int]]) -> None:
        self.names = tuple(capsule.frame for capsule in capsules)
        self.frame_ids = tuple(frame_ids)
        self._ends = np.array([(capsule.a, capsule.b) for capsule in capsules], np.float64).reshape(-1, 2, 3)
        self._radius = np.array([capsule.radius for capsule in capsules], np.float64)
        index = np.array(pairs, np.intp).reshape(-1, 2)
        self.first, self.second = index[:, 0].copy(), index[:, 1].copy()
        self.reach = self._radius[self.first] + self._radius[self.second]
        self._R = np.empty((len(capsules), 3, 3))
        self._t = np.empty((len(capsules), 3))

    def __len__(self) -> int:
        return len(self.first)

    def place(self, placements: Sequence) -> Array:
        """Return the capsules' ends in the world, (c, 2, 3) [m], from the placements of all frames (`data.oMf`)."""
        for i, frame in enumerate(self.frame_ids):
            placement = placements[frame]
            self._R[i], self._t[i] = placement.rotation, placement.translation
        return np.einsum("cij,cej->cei", self._R, self._ends) + self._t[:, None]

    def distances(self, ends: Array) -> tuple[Array, Array, Array]:
        """Return clearance (p,) [m], negative = overlap, and the nearest points of the two axes, (p, 3) each [m]."""
        a, b = ends[self.first], ends[self.second]
        on_a, on_b = closest_points(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
        return np.linalg.norm(on_a - on_b, axis=1) - self.reach, on_a, on_b

    def name(self, pair: int) -> str:
        """Return a pair's two frames."""
        return f"{self.names[self.first[pair]]} and {self.names[self.second[pair]]}"


def closest_points(p1: Array, q1: Array, p2: Array, q2: Array) -> tuple[Array, Array]:
    """Return the nearest points of segments p1 q1 and p2 q2, (n, 3) each; a segment may be a point."""
    d1, d2, r = q1 - p1, q2 - p2, p1 - p2
    a, e, f = (np.einsum("ij,ij->i", x, y) for x, y in ((d1, d1), (d2, d2), (d2, r)))
    b, c = (np.einsum("ij,ij->i", x, y) for x, y in ((d1, d2), (d1, r)))
    safe_a, safe_e = np.maximum(a, _TINY), np.maximum(e, _TINY)
    spread = a * e - b * b
    s = np.where(spread > 1e-9 * safe_a * safe_e, (b * f - c * e) / np.maximum(spread, _TINY * _TINY), 0.0)
    s = np.where(a > _TINY, np.clip(s, 0, 1), 0.0)
    t = np.where(e > _TINY, (b * s + f) / safe_e, 0.0)
    clipped = np.clip(t, 0, 1)
    s = np.where((t != clipped) | (e <= _TINY), np.where(a > _TINY, np.clip((b * clipped - c) / safe_a, 0, 1), 0.0), s)
    return p1 + s[:, None] * d1, p2 + clipped[:, None] * d2


class Watched:
    """Which pairs are near enough for the QP: they enter at one distance and leave at a larger one."""

    def __init__(self, enter_m: float, leave_m: float, most: int) -> None:
        self.enter_m, self.leave_m, self.most = enter_m, leave_m, most
        self._in: NDArray[np.bool_] | None = None

    def update(self, clearance: Array) -> NDArray[np.intp]:
        """Return the watched pairs, nearest first, at most `most`."""
        if self._in is None or len(self._in) != len(clearance):
            self._in = np.zeros(len(clearance), bool)
        self._in = (clearance < self.enter_m) | (self._in & (clearance < self.leave_m))
        inside = np.flatnonzero(self._in)
        return inside[np.argsort(clearance[inside], kind="stable")][: self.most]
