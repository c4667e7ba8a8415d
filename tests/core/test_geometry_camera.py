"""Projection and crops against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hsr_core.geometry.camera import (
    apply_affine,
    crop_transform,
    invert_affine,
    project,
    straightening,
    undistort_points,
    unproject,
)
from hsr_core.types import Camera

K = np.array([[610.0, 0, 322.0], [0, 605, 238.0], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(K, (480, 640)),
    "plumb_bob": Camera(K, (480, 640), np.array([-0.28, 0.09, 0.001, -0.0005, -0.01])),
    "rational": Camera(
        K, (480, 640), np.array([0.2, -0.1, 0.0005, 0.0003, 0.02, 0.4, -0.1, 0.03]), "rational_polynomial"
    ),
    "equidistant": Camera(K, (480, 640), np.array([-0.02, 0.01, -0.003, 0.0004]), "equidistant"),
}


def points(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    z = rng.uniform(1, 6, n)
    return np.stack([rng.uniform(-0.45, 0.45, n) * z, rng.uniform(-0.35, 0.35, n) * z, z], -1)


@pytest.fixture(params=CAMERAS)
def camera(request):
    return CAMERAS[request.param]


def test_projection_agrees_with_opencv(camera):
    zero = np.zeros(3)
    if camera.model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points()[:, None], zero, zero, camera.K, camera.dist)
    else:
        expected, _ = cv2.projectPoints(points(), zero, zero, camera.K, camera.dist)
    np.testing.assert_allclose(project(points(), camera), expected[:, 0], atol=1e-9)


def test_equidistant_by_its_definition():
    """Fisheye: the image radius is a polynomial of the angle to the axis."""
    camera = CAMERAS["equidistant"]
    theta = np.arctan2(np.hypot(points()[:, 0], points()[:, 1]), points()[:, 2])
    k = camera.dist
    radius = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
    direction = points()[:, :2] / np.linalg.norm(points()[:, :2], axis=1, keepdims=True)
    expected = radius[:, None] * direction * [K[0, 0], K[1, 1]] + K[:2, 2]
    np.testing.assert_allclose(project(points(), camera), expected, atol=1e-9)


def test_undistorting_and_unprojecting_gives_the_points_back(camera):
    uv = undistort_points(project(points(), camera), camera)
    np.testing.assert_allclose(uv, project(points(), camera, distort=False), atol=2e-3)  # [px], iterative inverse
    np.testing.assert_allclose(unproject(uv, points()[:, 2], camera.K), points(), atol=2e-5)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3)])
def test_any_batch_shape(camera, shape):
    x = np.resize(points(), shape)
    uv = project(x, camera)
    assert uv.shape == (*shape[:-1], 2)
    assert undistort_points(uv, camera).shape == uv.shape
    assert unproject(uv, x[..., 2], camera.K).shape == x.shape
    np.testing.assert_allclose(uv.reshape(-1, 2), project(x.reshape(-1, 3), camera))


def test_points_behind_the_camera_have_no_pixel(camera):
    uv = project(np.array([[0, 0, 2.0], [0.1, 0, -1], [0, 0, 0]]), camera)
    assert np.isfinite(uv[0]).all()
    assert np.isnan(uv[1:]).all()
    assert np.isnan(project(np.array([[0, 0, -1.0]]), camera)).all()


def test_skew_is_respected():
    skewed = K.copy()
    skewed[0, 1] = 3.0
    camera = Camera(skewed, (480, 640))
    homogeneous = points() @ skewed.T
    np.testing.assert_allclose(project(points(), camera), homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    np.testing.assert_allclose(unproject(project(points(), camera), points()[:, 2], skewed), points(), atol=1e-9)


# Crops


def test_a_crop_maps_the_squares_edges_to_its_own():
    A = crop_transform(np.array([100.0, 80.0]), 60.0, 0.0, 120)
    corners = np.array([[70, 50], [130, 110]]) - 0.5  # edge coordinates to pixel coordinates
    np.testing.assert_allclose(apply_affine(A, corners), [[-0.5, -0.5], [119.5, 119.5]])


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.3, np.pi])
def test_crop_and_uncrop(angle):
    A = crop_transform(np.array([321.3, 200.7]), 234.5, angle, 256)
    uv = np.random.default_rng(1).uniform(0, 600, (50, 2))
    np.testing.assert_allclose(apply_affine(invert_affine(A), apply_affine(A, uv)), uv, atol=1e-9)
    expected = cv2.invertAffineTransform(A)
    np.testing.assert_allclose(invert_affine(A), expected, atol=1e-9)


def test_a_rotated_crop_stands_the_picture_upright():
    """A square turned clockwise by 90 degrees: what points right in the image points up in the crop."""
    A = crop_transform(np.array([50.0, 50.0]), 20.0, np.pi / 2, 20)
    right = apply_affine(A, np.array([[54.5, 49.5]])) - apply_affine(A, np.array([[49.5, 49.5]]))
    np.testing.assert_allclose(right, [[0, -5]], atol=1e-9)


def test_warping_a_picture_by_the_transform_finds_the_dot():
    image = np.zeros((100, 120), np.uint8)
    cv2.circle(image, (70, 40), 3, 255, -1)
    A = crop_transform(np.array([66.0, 44.0]), 40.0, 0.5, 80)
    crop = cv2.warpAffine(image, A, (80, 80))
    ys, xs = np.nonzero(crop > 128)
    np.testing.assert_allclose(apply_affine(A, np.array([70.0, 40.0])), [xs.mean(), ys.mean()], atol=0.5)


def test_straightened_pixels_come_from_where_undistortion_finds_them(camera):
    straight, maps = straightening(camera)
    assert not straight.distorted
    np.testing.assert_array_equal(straight.K, camera.K)
    height, width = camera.image_hw
    sources = np.stack(maps, -1)
    inside = (sources > 0).all(-1) & (sources < (width - 1, height - 1)).all(-1)
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    np.testing.assert_allclose(undistort_points(sources[inside], camera), pixels[inside], atol=0.02)
