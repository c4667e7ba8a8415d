"""A z-buffer for dense meshes in numpy: no GPU, no compiler, a few milliseconds for 27,000 small triangles.

Every triangle becomes rows, every row a span of pixels; both expansions are array operations, so the cost follows
the number of fragments and not the number of Python calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import ShapeError
from ..types import Array, Camera
from .camera import project

NEAR_M = 0.05
"""A triangle with a corner nearer than this is not drawn."""

_EDGE_PX = 1e-3
"""Spans grow by this much, so that rounding opens no crack between neighbours."""

_LIGHT = np.array([-0.40, -0.62, -0.67], np.float32)
"""Direction to the key light in optical axes: above, left of and behind the camera. Unit length to 1 %."""


@dataclass(frozen=True, eq=False)
class Fragments:
    """The visible surface, one sample per covered pixel.

    Attributes:
        pixel: (N,) flat index, row * width + column, each at most once.
        face: (N,) triangle seen there.
        w1, w2: (N,) weights of the triangle's second and third corner in the image plane; the first has 1 - w1 - w2.
        inv_depth: (N,) [1/m], exact (1/z is linear in the image of a pinhole camera).
    """

    pixel: NDArray[np.intp]
    face: NDArray[np.intp]
    w1: Array
    w2: Array
    inv_depth: Array

    def interpolate(self, values: Array, faces: NDArray[np.integer]) -> Array:
        """Return a per-vertex value (V,) at each fragment, (N,), linear in the image (Gouraud)."""
        a, b, c = values[faces[self.face].T]
        return a + self.w1 * (b - a) + self.w2 * (c - a)


class Topology:
    """A triangle list with what depends on it alone: corners as columns, vertex-to-face incidence."""

    def __init__(self, faces: NDArray[np.integer]) -> None:
        faces = np.asarray(faces)
        if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
            raise ShapeError(f"faces must be integers of shape (F, 3), not {faces.dtype} {faces.shape}")
        self.faces = faces
        self.corners = np.ascontiguousarray(faces.T, dtype=np.intp)

    @cached_property
    def _incidence(self) -> sparse.csr_matrix:
        flat = self.faces.reshape(-1)
        columns = np.repeat(np.arange(len(self.faces)), 3)
        return sparse.csr_matrix((np.ones(len(flat), np.float32), (flat, columns)))

    def vertex_normals(self, vertices: Array) -> Array:
        """Return unit normals (V', 3), area weighted; V' = highest vertex named by a face + 1."""
        a, b, c = (vertices[corner] for corner in self.corners)
        normals = self._incidence @ _cross(b - a, c - a)
        length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
        return normals / np.maximum(length, 1e-20)[:, None]


def rasterize(uv: Array, inv_depth: Array, topology: Topology, hw: tuple[int, int], *, cull: bool = True) -> Fragments:
    """Return what a camera sees of a mesh: the nearest triangle at every pixel centre.

    Args:
        uv: Corners in the image, (V, 2) [px], pixel centres at integers. Triangles with a NaN corner are left out.
        inv_depth: 1/z of the corners, (V,) [1/m].
        topology: The triangles, counter-clockwise as seen from outside (x right, y down, z forward).
        hw: Height and width of the image; what lies outside costs nothing.
        cull: Leave out triangles seen from inside: half the work for a closed surface.
    """
    height, width = hw
    tri = _set_up(np.ascontiguousarray(uv.T, np.float32), topology, hw, cull)
    rows = _rows(tri)
    span = rows.right - rows.left + 1
    row = np.repeat(np.arange(len(span), dtype=np.intp), span)
    first = np.cumsum(span) - span
    x = np.arange(len(row), dtype=np.int32) - (first - rows.left).astype(np.int32)[row]

    a, b, c = np.asarray(inv_depth, np.float32)[topology.corners[:, tri.face]]
    slope = (b - a) * tri.w1x + (c - a) * tri.w2x
    base = a[rows.tri] + (b - a)[rows.tri] * rows.w1 + (c - a)[rows.tri] * rows.w2
    x_f = x.astype(np.float32)  # int32 times float32 would be float64, at twice the cost
    depth = base[row] + slope[rows.tri][row] * x_f
    pixel = (rows.y * width)[row] + x

    nearest = np.zeros(height * width, np.float32)
    np.maximum.at(nearest, pixel, depth)
    seen = np.flatnonzero(nearest[pixel] == depth)
    owner = np.empty(height * width, np.intp)  # where two neighbours tie on their common edge, one of them owns it
    owner[pixel[seen]] = seen
    seen = seen[owner[pixel[seen]] == seen]

    row, x_f = row[seen], x_f[seen]
    t = rows.tri[row]
    return Fragments(
        pixel=pixel[seen],
        face=tri.face[t],
        w1=rows.w1[row] + tri.w1x[t] * x_f,
        w2=rows.w2[row] + tri.w2x[t] * x_f,
        inv_depth=depth[seen],
    )


@dataclass(frozen=True, eq=False)
class _Triangles:
    """Triangles that may cover a pixel centre: face number, corners, box, and weights as planes over the image."""

    face: Array
    x: Array  # (3, T) corners [px]
    y: Array
    left: Array
    right: Array
    top: Array
    bottom: Array
    w1x: Array  # dw1/dx, ...
    w1y: Array
    w2x: Array
    w2y: Array


def _set_up(uv: Array, topology: Topology, hw: tuple[int, int], cull: bool) -> _Triangles:
    height, width = hw
    x, y = uv[0][topology.corners], uv[1][topology.corners]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    with np.errstate(invalid="ignore"):
        facing = area < 0 if cull else np.abs(area) > 0  # NaN compares false
    face = np.flatnonzero(facing)
    x, y = x[:, face], y[:, face]
    left, right = np.ceil(_least(x)).clip(0), np.floor(_most(x)).clip(None, width - 1)
    top, bottom = np.ceil(_least(y)).clip(0), np.floor(_most(y)).clip(None, height - 1)
    covers = np.flatnonzero((right >= left) & (bottom >= top))
    face, x, y = face[covers], x[:, covers], y[:, covers]
    inv = 1 / area[face]
    return _Triangles(
        face, x, y, left[covers], right[covers], top[covers].astype(np.int32), bottom[covers].astype(np.int32),
        w1x=(y[2] - y[0]) * inv, w1y=(x[0] - x[2]) * inv,
        w2x=(y[0] - y[1]) * inv, w2y=(x[1] - x[0]) * inv,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Rows:
    """Spans of pixels: triangle, row, first and last column, and the weights extrapolated to column 0."""

    tri: Array
    y: Array
    left: Array
    right: Array
    w1: Array
    w2: Array


def _rows(tri: _Triangles) -> _Rows:
    count = tri.bottom - tri.top + 1
    t = np.repeat(np.arange(len(count), dtype=np.intp), count)
    first = np.cumsum(count) - count
    y = np.arange(len(t), dtype=np.int32) - (first - tri.top).astype(np.int32)[t]
    dy = y.astype(np.float32) - tri.y[0][t]
    low, high = tri.left[t], tri.right[t]
    x0 = tri.x[0][t]
    # Inside is w1 >= 0, w2 >= 0 and 1 - w1 - w2 >= 0; each is a x + b >= 0 along the row: a bound from one side.
    w1x, w2x = tri.w1x[t], tri.w2x[t]
    w1, w2 = tri.w1y[t] * dy, tri.w2y[t] * dy
    with np.errstate(divide="ignore", invalid="ignore"):
        for a, b in ((w1x, w1), (w2x, w2), (-(w1x + w2x), 1 - (w1 + w2))):
            bound = x0 - b / a
            np.fmax(low, np.where(a > 0, bound - _EDGE_PX, -np.inf), out=low)
            np.fmin(high, np.where(a < 0, bound + _EDGE_PX, np.inf), out=high)
            high[(a == 0) & (b < -1e-6)] = -1
    low, high = np.ceil(low), np.floor(high)
    some = np.flatnonzero(high >= low)
    left, right = low[some].astype(np.int32), high[some].astype(np.int32)
    x0 = x0[some]
    return _Rows(t[some], y[some], left, right, w1[some] - w1x[some] * x0, w2[some] - w2x[some] * x0)


def shade(normals: Array) -> Array:
    """Return brightness in 0..1 of unit normals in optical axes: wrapped Lambert, darker where seen at a slant."""
    x, y, z = normals.T
    # Not normals @ _LIGHT: a threaded BLAS would keep the other cores spinning after each call.
    lambert = 0.5 + 0.5 * (x * _LIGHT[0] + y * _LIGHT[1] + z * _LIGHT[2])
    facing = np.clip(-z, 0, 1)
    return np.clip(lambert * (0.55 + 0.45 * facing), 0, 1)


def tone(rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the BGR colour of a surface for each brightness 0..255, (256, 3): shadow, colour, soft highlight."""
    s = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    base = np.array(rgb[::-1], np.float32)
    highlight = np.clip((s - 0.72) / 0.28, 0, 1) ** 2
    return np.clip(base * (0.22 + 0.95 * s) * (1 - 0.55 * highlight) + 255 * 0.55 * highlight, 0, 255).astype(np.uint8)


def image_points(vertices: Array, camera: Camera) -> tuple[Array, Array]:
    """Return where vertices lie in the image as it came, (V, 2) [px], and their 1/z, (V,) [1/m].

    NaN where there is no pixel: nearer than `NEAR_M`, not finite, or so far outside the picture of a distorted lens
    that its polynomial may fold back in.
    """
    z = vertices[:, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = (z > NEAR_M) & np.isfinite(vertices).all(axis=1)
        inv_depth = np.where(usable, 1 / z, np.nan).astype(np.float32)
    if camera.distorted:
        height, width = camera.image_hw
        flat = project(vertices, camera, distort=False)
        with np.errstate(invalid="ignore"):
            usable &= (np.abs(flat[:, 0] / width - 0.5) < 1) & (np.abs(flat[:, 1] / height - 0.5) < 1)
    uv = np.full((len(vertices), 2), np.nan, np.float32)
    uv[usable] = project(vertices[usable], camera)
    return uv, inv_depth


def render_mesh(
    vertices: Array,
    faces: NDArray[np.integer] | Topology,
    camera: Camera,
    *,
    color_rgb: tuple[int, int, int] = (126, 168, 214),
    background: int | NDArray[np.uint8] = 255,
    cull: bool = True,
) -> tuple[NDArray[np.uint8], Array, NDArray[np.bool_]]:
    """Return a shaded picture of a mesh, its depth and its silhouette, in the image of `camera`.

    Args:
        vertices: (V, 3) [m], optical frame.
        faces: (F, 3), counter-clockwise from outside, or a Topology to keep between calls.
        camera: Gives the size of the picture; distortion is applied.
        color_rgb: Colour of the surface.
        background: Grey level, or a BGR image (H, W, 3) to draw on (copied).
        cull: Leave out triangles seen from inside.

    Returns:
        bgr uint8 (H, W, 3); z-depth float32 (H, W) [m], 0 outside; mask bool (H, W).
    """
    topology = faces if isinstance(faces, Topology) else Topology(faces)
    vertices = np.asarray(vertices, np.float32)
    hw = camera.image_hw
    uv, inv_depth = image_points(vertices, camera)
    seen = rasterize(uv, inv_depth, topology, hw, cull=cull)
    normals = topology.vertex_normals(vertices)
    level = seen.interpolate(shade(normals), topology.faces)
    bgr = np.full((*hw, 3), background, np.uint8) if np.isscalar(background) else np.array(background, np.uint8)
    depth_m, mask = np.zeros(hw, np.float32), np.zeros(hw, bool)
    bgr.reshape(-1, 3)[seen.pixel] = tone(color_rgb)[(level * 255).astype(np.uint8)]
    depth_m.reshape(-1)[seen.pixel] = 1 / seen.inv_depth
    mask.reshape(-1)[seen.pixel] = True
    return bgr, depth_m, mask


def _cross(a: Array, b: Array) -> Array:
    """Cross product of rows; np.cross is several times slower."""
    out = np.empty_like(a)
    out[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    out[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    out[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return out


def _least(corners: Array) -> Array:
    return np.minimum(np.minimum(corners[0], corners[1]), corners[2])


def _most(corners: Array) -> Array:
    return np.maximum(np.maximum(corners[0], corners[1]), corners[2])
