"""Exact pictures of textured meshes: colour and coverage by oversampling, z-depth at the pixels' centres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.raster import Fragments, Topology, image_points, rasterize
from ..types import Array, Camera

OVERSAMPLING = 3
"""Samples a pixel along each axis; odd, so that one of them is the pixel's centre."""

AMBIENT, DIFFUSE = 0.72, 0.38


@dataclass(frozen=True, eq=False)
class Surface:
    """One person's mesh in the camera frame.

    Attributes:
        vertices: (V, 3) [m].
        topology: Triangles, outward.
        canonical: (V, 3) [m], where `texture` is looked up.
        texture: Canonical points (N, 3) to colours (N, 3).
    """

    vertices: Array
    topology: Topology
    canonical: Array
    texture: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Picture:
    """What the camera sees of P people, before any background.

    Attributes:
        color: float32 (H, W, 3), premultiplied by coverage.
        coverage: float32 (P, H, W), visible share of each pixel.
        depth_m: float32 (H, W), z-depth at the pixel's centre, 0 where nobody is.
        owner: int16 (H, W), who is at the pixel's centre, -1 = nobody.
    """

    color: Array
    coverage: Array
    depth_m: Array
    owner: NDArray[np.int16]

    def over(self, background: Array) -> Array:
        """Return the picture (H, W, 3) before a background of that shape, or of one colour (3,)."""
        return self.color + (1 - self.coverage.sum(0))[..., None] * background

    def cut_out(self) -> Array:
        """Return the people's own colour (H, W, 3), 0 where nobody is.

        `mask * cut_out + (1 - mask) * background` is exact for any background, edges included.
        """
        covered = self.coverage.sum(0)[..., None]
        return np.divide(self.color, covered, out=np.zeros_like(self.color), where=covered > 0)


def render(surfaces: Sequence[Surface], camera: Camera, light: Array | None) -> Picture:
    """Return the picture of people in front of a pinhole camera.

    Args:
        surfaces: The people.
        camera: Without distortion.
        light: Direction to the light (3,), camera frame, unit; None = evenly lit.
    """
    n, (height, width) = OVERSAMPLING, camera.image_hw
    fine = camera.scaled((n * height, n * width))
    nearest = np.zeros(n * height * n * width, np.float32)
    owner = np.full(len(nearest), -1, np.int16)
    seen = []
    for i, surface in enumerate(surfaces):
        uv, inv_depth = image_points(surface.vertices, fine)
        fragments = rasterize(uv, inv_depth, surface.topology, fine.image_hw)
        front = fragments.inv_depth > nearest[fragments.pixel]
        nearest[fragments.pixel[front]] = fragments.inv_depth[front]
        owner[fragments.pixel[front]] = i
        seen.append(fragments)
    color = np.zeros((len(nearest), 3), np.float32)
    for i, (surface, fragments) in enumerate(zip(surfaces, seen, strict=True)):
        visible = _subset(fragments, owner[fragments.pixel] == i)
        color[visible.pixel] = _shade(surface, visible, light)
    owner = owner.reshape(height, n, width, n)
    coverage = np.stack([_mean(owner == i) for i in range(len(surfaces))])
    centre = owner[:, n // 2, :, n // 2]
    inv_depth = nearest.reshape(height, n, width, n)[:, n // 2, :, n // 2]
    depth_m = np.divide(1, inv_depth, out=np.zeros_like(inv_depth), where=inv_depth > 0)
    return Picture(_mean(color.reshape(height, n, width, n, 3)), coverage, depth_m, centre.copy())


def _mean(samples: Array) -> Array:
    """Average the samples (H, n, W, n, ...) of each pixel, in a fixed order."""
    n = samples.shape[1]
    total = np.zeros((samples.shape[0], samples.shape[2], *samples.shape[4:]), np.float32)
    for i in range(n):
        for j in range(n):
            total += samples[:, i, :, j]
    return total / np.float32(n * n)


def _subset(fragments: Fragments, keep: NDArray[np.bool_]) -> Fragments:
    return Fragments(*(getattr(fragments, name)[keep] for name in ("pixel", "face", "w1", "w2", "inv_depth")))


def _shade(surface: Surface, fragments: Fragments, light: Array | None) -> Array:
    corners = surface.topology.faces[fragments.face].T
    inv_z = 1 / surface.vertices[:, 2]
    # Weights in space: those in the image times 1/z of the corner, over 1/z of the point.
    weights = np.stack([1 - fragments.w1 - fragments.w2, fragments.w1, fragments.w2])
    weights *= inv_z[corners] / fragments.inv_depth
    color = surface.texture(_interpolate(surface.canonical, corners, weights))
    if light is None:
        return np.clip(color, 0, 1)
    normals = _interpolate(surface.topology.vertex_normals(surface.vertices), corners, weights)
    normals /= np.maximum(np.sqrt(np.einsum("ij,ij->i", normals, normals)), 1e-6)[:, None]
    cos = np.maximum(0, np.einsum("ij,j->i", normals, light.astype(np.float32)))
    return np.clip(color * (AMBIENT + DIFFUSE * cos)[:, None], 0, 1)


def _interpolate(values: Array, corners: NDArray[np.integer], weights: Array) -> Array:
    a, b, c = (values[corner] * weight[:, None] for corner, weight in zip(corners, weights, strict=True))
    return (a + b + c).astype(np.float32)
