"""The z-buffer against brute force, analytic depths and the lens model."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import camera, sphere

from hsr_core.errors import ShapeError
from hsr_core.geometry.camera import project
from hsr_core.geometry.raster import Topology, image_points, rasterize, render_mesh


def brute_force(uv, inv_depth, faces, hw):
    """Nearest triangle at every pixel centre, one triangle and one pixel at a time. Front: clockwise on screen."""
    depth, face = np.zeros(hw), np.full(hw, -1)
    for number, (i, j, k) in enumerate(faces):
        a, b, c = uv[i], uv[j], uv[k]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if not area < 0:
            continue
        for y in range(hw[0]):
            for x in range(hw[1]):
                w1 = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
                w2 = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                iz = (1 - w1 - w2) * inv_depth[i] + w1 * inv_depth[j] + w2 * inv_depth[k]
                if iz > depth[y, x]:
                    depth[y, x], face[y, x] = iz, number
    return depth, face


def test_random_triangles_agree_with_brute_force():
    rng = np.random.default_rng(0)
    hw = (24, 32)
    uv = rng.uniform(-8, 40, (60, 2)).astype(np.float32)  # some outside, some across the border
    inv_depth = rng.uniform(0.1, 2.0, 60).astype(np.float32)
    faces = rng.integers(0, 60, (80, 3)).astype(np.int32)
    seen = rasterize(uv, inv_depth, Topology(faces), hw)
    depth, face = np.zeros(hw, np.float32), np.full(hw, -1)
    depth.reshape(-1)[seen.pixel], face.reshape(-1)[seen.pixel] = seen.inv_depth, seen.face
    expected_depth, expected_face = brute_force(uv.astype(float), inv_depth.astype(float), faces, hw)
    # A pixel centre within a thousandth of an edge may fall on either side.
    assert np.mean(face == expected_face) > 0.99
    same = face == expected_face
    np.testing.assert_allclose(depth[same], expected_depth[same], rtol=1e-4)


def test_each_pixel_is_given_once_even_on_shared_edges():
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(0.0, 33, 4), np.arange(0.0, 33, 4))  # edges run exactly through pixel centres
    uv = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).reshape(-1)
    faces = np.concatenate(
        [np.stack([corner, corner + 9, corner + 1], 1), np.stack([corner + 1, corner + 9, corner + 10], 1)]
    )
    seen = rasterize(uv, rng.uniform(1, 1.1, len(uv)).astype(np.float32), Topology(faces.astype(np.int32)), (33, 33))
    assert len(np.unique(seen.pixel)) == len(seen.pixel) == 33 * 33  # no crack, nothing twice


def test_sphere_has_its_analytic_depth_and_outline():
    cam, centre, radius = camera(), np.array([0.1, -0.05, 2.0]), 0.5
    vertices, faces = sphere(tuple(centre), radius, subdivisions=5)
    _, depth, mask = render_mesh(vertices, faces, cam)
    v, u = np.mgrid[: cam.image_hw[0], : cam.image_hw[1]]
    ray = np.stack([(u - cam.K[0, 2]) / cam.K[0, 0], (v - cam.K[1, 2]) / cam.K[1, 1], np.ones(u.shape)], -1)
    a, b, c = (ray**2).sum(-1), ray @ centre, centre @ centre - radius**2
    inside = b**2 - a * c
    z = (b - np.sqrt(np.maximum(inside, 0))) / a
    assert np.mean(mask != (inside > 0)) < 0.005  # the outline may differ by part of a pixel
    both = mask & (inside > 0.01)
    # The polyhedron lies up to r (1 - cos(edge / 2)) = 0.25 mm inside the sphere; more along slanted rays.
    assert np.abs(depth - z)[both].max() < 5e-3
    assert np.median(np.abs(depth - z)[both]) < 5e-4


def test_depth_is_perspective_correct_on_a_tilted_plane():
    cam = camera()
    vertices = np.array([[-3, -3, 2], [3, -3, 2], [3, 3, 8], [-3, 3, 8]], np.float32)  # z = 5 + y
    _, depth, mask = render_mesh(vertices, np.array([[0, 2, 1], [0, 3, 2]], np.int32), cam, cull=False)
    v = np.arange(cam.image_hw[0])
    expected = 5 / (1 - (v - cam.K[1, 2]) / cam.K[1, 1])
    rows, columns = np.nonzero(mask)
    assert len(rows) > 5000
    np.testing.assert_allclose(depth[rows, columns], expected[rows], rtol=1e-4)


def test_lens_distortion_moves_the_picture_as_the_camera_model_says():
    cam = camera(dist=(-0.3, 0.1, 0.002, -0.001, 0.0))
    vertices, faces = sphere((0.5, 0.3, 2.0), 0.02, subdivisions=2)
    _, _, mask = render_mesh(vertices, faces, cam)
    v, u = np.nonzero(mask)
    np.testing.assert_allclose([u.mean(), v.mean()], project(np.array([0.5, 0.3, 2.0]), cam), atol=0.5)


def test_what_has_no_pixel_is_left_out():
    cam = camera(dist=(-0.3, 0.1, 0.0, 0.0, 0.0))
    points = np.array([[0, 0, 2], [0, 0, -2], [0, 0, 0.01], [np.nan, 0, 2], [30, 0, 2]], np.float32)
    uv, _ = image_points(points, cam)
    assert np.isfinite(uv[:, 0]).tolist() == [True, False, False, False, False]
    behind, faces = sphere((0, 0, -2), 0.5)
    assert not render_mesh(behind, faces, cam)[2].any()


def test_vertex_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere((0, 0, 0), 1.0)
    normals = Topology(faces).vertex_normals(vertices)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert np.einsum("ij,ij->i", normals, vertices).min() > 0.999


def test_background_image_is_kept_and_not_written_to():
    cam = camera()
    background = np.random.default_rng(2).integers(0, 255, (*cam.image_hw, 3), dtype=np.uint8)
    before = background.copy()
    vertices, faces = sphere((0, 0, 2), 0.3)
    bgr, _, mask = render_mesh(vertices, faces, cam, background=background)
    assert (background == before).all()
    assert (bgr[~mask] == before[~mask]).all()
    assert (bgr[mask] != before[mask]).any()


def test_faces_of_the_wrong_shape_are_refused():
    with pytest.raises(ShapeError, match=r"\(F, 3\)"):
        Topology(np.zeros((4, 2), np.int32))
