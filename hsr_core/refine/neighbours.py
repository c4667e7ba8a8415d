"""Nearest points without gradient: a k-d tree on the CPU, chunked distances on a GPU."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

CHUNK = 1 << 24
"""Distances held at once on a GPU."""


class PointIndex:
    """A fixed set of points to be searched again and again.

    Attributes:
        points: (P, 3), no gradient.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.detach()
        self._tree = cKDTree(self.points.numpy()) if self.points.device.type == "cpu" else None

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to the nearest point and its index, both (Q,), for queries (Q, 3) on the same device."""
        queries = queries.detach()
        if self._tree is not None:
            distance, index = self._tree.query(queries.numpy(), workers=-1)
            return torch.as_tensor(distance, dtype=queries.dtype), torch.as_tensor(index)
        rows = max(1, CHUNK // max(1, len(self.points)))
        # Through a matrix product distances of a few millimetres between points a metre from the origin lose all digits.
        found = [
            torch.cdist(part, self.points, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
            for part in queries.split(rows)
        ]
        return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])
