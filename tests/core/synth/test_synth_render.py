"""The renderer of truth against geometry worked out by hand: coverage, depth, texture, who is in front."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import camera, sphere

from hsr_core.geometry.raster import Topology
from hsr_core.synth.render import AMBIENT, DIFFUSE, Surface, render
from hsr_core.types import Camera

CAM = camera(61, 41, 50.0)
WHITE = lambda p: np.full((len(p), 3), 0.8, np.float32)  # noqa: E731


def quad(corners, texture=WHITE) -> Surface:
    """Two triangles; corners go round as the camera sees them, clockwise (x right, y down)."""
    corners = np.asarray(corners, np.float32)
    return Surface(corners, Topology(np.array([[0, 2, 1], [0, 3, 2]])), corners, texture)


def facing_quad(left, top, right, bottom, z, cam=CAM) -> Surface:
    """A quad that covers these pixel coordinates at depth z."""
    K = cam.K
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return quad([((u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z) for u, v in points])


def test_a_pixel_reaches_half_a_pixel_to_each_side_of_its_integer_centre():
    """A quad from 9.5 to 12.5 covers pixels 10, 11, 12 and nothing else; one to 12.5 + 1/3 a third of pixel 13."""
    seen = render([facing_quad(9.5, 19.5, 12.5, 21.5, 2.0)], CAM, None).coverage[0]
    expected = np.zeros(CAM.image_hw)
    expected[20:22, 10:13] = 1
    np.testing.assert_array_equal(seen, expected)
    seen = render([facing_quad(9.5, 19.5, 12.5 + 1 / 3, 21.5, 2.0)], CAM, None).coverage[0]
    np.testing.assert_allclose(seen[20, 12:15], [1, 1 / 3, 0], atol=1e-6)


def test_a_sphere_has_its_analytic_outline_and_depth():
    """Rays of all pixels, met with the sphere by the quadratic formula."""
    centre, radius = np.array([0.2, -0.1, 3.0]), 0.7
    vertices, faces = sphere(tuple(centre), radius, subdivisions=6)
    seen = render([Surface(vertices, Topology(faces), vertices, WHITE)], CAM, None)
    v, u = np.mgrid[: CAM.image_hw[0], : CAM.image_hw[1]]

    def roots(u, v):
        d = np.stack([(u - CAM.K[0, 2]) / 50, (v - CAM.K[1, 2]) / 50, np.ones(u.shape)], -1)
        a, b, c = (d * d).sum(-1), d @ centre, centre @ centre - radius**2
        inside = b * b - a * c
        return inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a

    hit, z = roots(u, v)
    inner = hit & (seen.depth_m > 0) & (z < centre[2] - 0.3)  # away from the rim, where the facets show
    assert inner.sum() > 250
    np.testing.assert_allclose(seen.depth_m[inner], z[inner], atol=5e-4)
    assert np.count_nonzero(hit != (seen.depth_m > 0)) <= 3
    fine = np.linspace(-0.5, 0.5, 21)[:-1] + 0.025
    share = np.mean([roots(u + x, v + y)[0] for x in fine for y in fine], axis=0)
    assert np.abs(seen.coverage[0] - share).max() < 0.25  # nine samples: an edge is known to about 1/6
    assert seen.coverage[0].sum() == pytest.approx(share.sum(), rel=0.004)


def test_colour_is_looked_up_where_the_ray_meets_the_surface():
    """On a steep quad the texture is the canonical point itself; interpolation in the image would miss it by far."""
    surface = quad([(-1, -0.5, 2), (1, -0.5, 6), (1, 0.5, 6), (-1, 0.5, 2)], texture=lambda p: p / 4 + 0.5)
    seen = render([surface], CAM, None)
    full = seen.coverage[0] == 1
    v, u = np.nonzero(full)
    assert len(v) > 100
    points = np.stack([(u - 30) / 50 * seen.depth_m[full], (v - 20) / 50 * seen.depth_m[full]], 1)
    # A pixel's colour is the mean of nine samples, which on a slope is not exactly that of its centre.
    np.testing.assert_allclose(seen.color[full][:, :2], points / 4 + 0.5, atol=2e-3)


def test_the_nearer_person_hides_the_other():
    """Left half near, whole far: coverages are disjoint and their sum is the union's."""
    near, far = facing_quad(9.5, 9.5, 15 + 1 / 3, 30.5, 2.0), facing_quad(9.5, 9.5, 40.5, 30.5, 3.0)
    for order in ([near, far], [far, near]):
        seen = render(order, CAM, None)
        first = order.index(near)
        assert seen.coverage.sum() == pytest.approx(31 * 21, rel=1e-5)
        assert seen.coverage[first][20, 9:18] == pytest.approx([0, 1, 1, 1, 1, 1, 2 / 3, 0, 0], abs=0.34)
        assert seen.owner[20, 12] == first
        assert seen.owner[20, 30] == 1 - first
        assert seen.owner[0, 0] == -1
        np.testing.assert_allclose(seen.depth_m[20, [12, 30, 0]], [2, 3, 0], atol=1e-6)


def test_light_is_lambert_over_an_ambient_share():
    toward = render([facing_quad(5, 5, 50, 35, 2.0)], CAM, np.array([0.6, 0, -0.8])).color[20, 30]
    away = render([facing_quad(5, 5, 50, 35, 2.0)], CAM, np.array([0.0, 0, 1.0])).color[20, 30]
    np.testing.assert_allclose(toward, 0.8 * (AMBIENT + DIFFUSE * 0.8), rtol=1e-5)
    np.testing.assert_allclose(away, 0.8 * AMBIENT, rtol=1e-5)


def test_cut_out_colours_compose_exactly_over_any_background():
    vertices, faces = sphere((0, 0, 3), 0.7)
    seen = render([Surface(vertices, Topology(faces), vertices, lambda p: np.abs(p) / 4)], CAM, None)
    background = np.random.default_rng(0).random((*CAM.image_hw, 3)).astype(np.float32)
    mask = seen.coverage[0][..., None]
    composed = mask * seen.cut_out() + (1 - mask) * background
    np.testing.assert_allclose(composed, seen.over(background), atol=1e-6)


def test_a_surface_outside_the_picture_is_nobody():
    seen = render([facing_quad(100, 5, 120, 30, 2.0)], CAM, None)
    assert not seen.coverage.any()
    assert not seen.depth_m.any()


def test_the_camera_of_a_larger_picture_of_the_same_view_agrees():
    """Twice the pixels, averaged in fours, is the same picture."""
    vertices, faces = sphere((0.1, 0, 3), 0.7)
    surface = Surface(vertices, Topology(faces), vertices, lambda p: 0.5 + 0.5 * p[:, [0, 1, 0]])
    small = render([surface], CAM, None)
    big = render([surface], CAM.scaled((82, 122)), None)
    mean = big.coverage[0].reshape(41, 2, 61, 2).mean((1, 3))
    assert isinstance(CAM, Camera)
    assert np.abs(mean - small.coverage[0]).max() < 0.25
    inner = small.coverage[0] == 1
    inner &= mean == 1
    color = big.color.reshape(41, 2, 61, 2, 3).mean((1, 3))
    np.testing.assert_allclose(color[inner], small.color[inner], atol=2e-3)
