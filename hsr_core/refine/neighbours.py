"""Nearest points without gradient: a k-d tree on the CPU, chunked distances on a GPU."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

CHUNK = 1 << 24
"""Distances held at once on a GPU."""


FAR_M = 1e4
"""Where points that are not finite are put: nearest to nothing. That they exist is for the optimiser to notice."""


class PointIndex:
    """A fixed set of points to be searched again and again.

    Attributes:
        points: (P, 3), no gradient.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.detach().nan_to_num(FAR_M, FAR_M, FAR_M)
        self._tree = cKDTree(self.points.numpy()) if self.points.device.type == "cpu" else None

    def nearest(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return the distances to the nearest points and their indices, for queries (Q, 3) on the same device.

        Both have shape (Q,), or (Q, k) for k > 1, nearest first.
        """
        queries = queries.detach().nan_to_num(FAR_M, FAR_M, FAR_M)
        if self._tree is not None:
            distance, index = self._tree.query(queries.numpy(), k=k, workers=-1)
            return torch.as_tensor(distance, dtype=queries.dtype), torch.as_tensor(index)
        rows = max(1, CHUNK // max(1, len(self.points)))
        # Through a matrix product, millimetres between points a metre from the origin would lose their digits.
        exact = "donot_use_mm_for_euclid_dist"
        found = [
            torch.cdist(part, self.points, compute_mode=exact).topk(k, dim=1, largest=False)
            for part in queries.split(rows)
        ]
        distance = torch.cat([part.values for part in found])
        index = torch.cat([part.indices for part in found])
        return (distance[:, 0], index[:, 0]) if k == 1 else (distance, index)
