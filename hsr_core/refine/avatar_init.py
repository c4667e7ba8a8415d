"""What an avatar starts from: vertices chosen evenly, tangent frames, sizes, and colours seen in images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ..geometry.raster import NEAR_M, Topology, rasterize
from ..types import Array
from .neighbours import PointIndex

RADIUS_M = (1e-3, 30e-3)
"""Least and greatest radius of a Gaussian at the start."""

DEPTH_TOLERANCE_M = 0.02
"""A vertex this far behind what is drawn at its pixel is still the surface: pixels are coarse and skin is slanted."""

GREY = 0.5
NEIGHBOUR_RADIUS_M = 0.10


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Return `count` indices, sorted, of points spread evenly: each next one is the farthest from those chosen.

    All indices when there are no more than `count` points. The first is point 0, so the choice is deterministic.

    Source:
        Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
    """
    if count >= len(points):
        return torch.arange(len(points))
    rows = np.ascontiguousarray(points.detach().cpu().numpy().T)
    chosen = np.zeros(count, np.int64)
    distance2 = np.full(rows.shape[1], np.inf, rows.dtype)
    for i in range(1, count):
        offset = rows - rows[:, chosen[i - 1], None]
        np.minimum(distance2, np.einsum("iv,iv->v", offset, offset), out=distance2)
        chosen[i] = distance2.argmax()
    return torch.as_tensor(np.sort(chosen))


def share_areas(vertices: Tensor, areas: Tensor, chosen: Tensor) -> Tensor:
    """Return for each chosen vertex the area of all vertices that are nearest to it (len(chosen),) [m^2]."""
    _, nearest = PointIndex(vertices[chosen]).nearest(vertices)
    return torch.zeros_like(areas[: len(chosen)]).index_add_(0, nearest, areas)


def radii_of(areas: Tensor) -> Tensor:
    """Return the radius of a disc of each area, within `RADIUS_M` (N,) [m]."""
    return (areas / torch.pi).sqrt().clamp(*RADIUS_M)


def tangent_frames(normals: Tensor, generator: torch.Generator) -> Tensor:
    """Return rotations (N, 3, 3) with columns (t1, t2, n): t1 random in the tangent plane."""
    random = torch.randn(normals.shape, generator=generator).to(normals)
    across = torch.linalg.cross(normals, random)
    t1 = across / across.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return torch.stack([t1, torch.linalg.cross(normals, t1), normals], dim=2)


@dataclass(frozen=True, eq=False)
class ColorView:
    """A body posed in one image.

    Attributes:
        vertices: (V, 3) [m], camera frame, float32.
        image: (H, W, 3) in 0..1. mask: (H, W), 1 = this person.
        K: (3, 3) [px], pixel centres at integers.
    """

    vertices: Array
    image: Array
    mask: Array
    K: Array


def vertex_colors(
    canonical: Array, faces: NDArray[np.integer], views: Iterable[ColorView]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return each vertex' mean colour over the views in which it is seen.

    A vertex that no view sees takes the mean of the seen vertices within 10 cm in canonical space, else grey.

    Args:
        canonical: (V, 3) [m]. faces: (F, 3), outward. views: A few good ones are enough.

    Returns:
        Colours (V, 3) in 0..1, and which vertices were seen (V,).
    """
    topology = Topology(np.asarray(faces))
    total, count = np.zeros((len(canonical), 3)), np.zeros(len(canonical))
    for view in views:
        at, colors = _seen(view, topology)
        total[at] += colors
        count[at] += 1
    seen = count > 0
    colors = np.full((len(canonical), 3), GREY, np.float32)
    colors[seen] = total[seen] / count[seen, None]
    if seen.any() and not seen.all():
        tree = cKDTree(canonical[seen])
        rows = tree.query_ball_point(canonical[~seen], NEIGHBOUR_RADIUS_M)
        known = colors[seen]
        colors[~seen] = [known[row].mean(axis=0) if row else (GREY,) * 3 for row in rows]
    return colors, seen


def _seen(view: ColorView, topology: Topology) -> tuple[NDArray[np.intp], Array]:
    """Return the vertices in sight in one view and their colours (n, 3)."""
    height, width = view.mask.shape
    z = view.vertices[:, 2]
    in_front = z > NEAR_M
    inv_depth = np.where(in_front, 1 / np.where(in_front, z, 1), np.nan).astype(np.float32)
    uv = ((view.vertices @ np.asarray(view.K, np.float32).T)[:, :2] * inv_depth[:, None]).astype(np.float32)
    drawn = rasterize(uv, inv_depth, topology, (height, width))
    front = np.zeros(height * width, np.float32)
    front[drawn.pixel] = drawn.inv_depth

    outward = -np.einsum("ij,ij->i", topology.vertex_normals(view.vertices), view.vertices)
    x, y = np.rint(np.nan_to_num(uv, nan=-1, posinf=-1, neginf=-1)).astype(np.int64).T
    at = np.flatnonzero(in_front & (outward > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height))
    x, y = x[at], y[at]
    surface = front[y * width + x]
    near = (surface > 0) & (z[at] * surface < 1 + DEPTH_TOLERANCE_M * surface) & (view.mask[y, x] > 0.5)
    return at[near], view.image[y[near], x[near]]
