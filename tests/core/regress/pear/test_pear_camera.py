"""Crops and the way from the virtual camera to metres."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.geometry.camera import apply_affine, fit_translation, invert_affine
from hsr_core.regress.pear.camera import (
    illegal,
    letterbox,
    pelvis_translation,
    person_crop,
    project_virtual,
    virtual_translation,
)

K = np.array([[900.0, 0, 640.5], [0, 910.0, 360.2], [0, 0, 1]])


def test_the_virtual_camera():
    zero = virtual_translation(np.array([0, 0, 1.5]))
    np.testing.assert_allclose(zero, (0, 0, 16), atol=1e-6)
    points = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    np.testing.assert_allclose(project_virtual(points, zero), [(128, 128), (147.2, 128), (128, 147.2)], atol=1e-6)
    aside = virtual_translation(np.array([0.1, 0, 1.5]))
    np.testing.assert_allclose(project_virtual(np.zeros(3), aside), (108.8, 128), atol=1e-6)


def test_it_is_the_same_as_the_published_matrix():
    rng = np.random.default_rng(0)
    points, (tx, ty, s) = rng.normal(size=(50, 3)), (0.13, -0.2, 0.9)
    matrix = np.array([[-1, 0, 0, tx], [0, -1, 0, ty], [0, 0, 1, 24 / (s + 1e-9)], [0, 0, 0, 1]])
    x, y, z = (matrix @ np.column_stack([points, np.ones(50)]).T)[:3]
    ndc = 24 * np.column_stack([x, y]) / z[:, None]
    expected = (1 - ndc) * 256 / 2
    np.testing.assert_allclose(project_virtual(points, virtual_translation(np.array([tx, ty, s]))), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("hw", "size_wh", "offset_xy"),
    [((480, 640), (256, 192), (0, 32)), ((720, 1280), (256, 144), (0, 56)), ((1280, 720), (144, 256), (56, 0)),
     ((257, 1000), (256, 65), (0, 95))],
)  # fmt: skip
def test_letterbox(hw, size_wh, offset_xy):
    crop = letterbox(hw)
    height, width = hw
    edges = apply_affine(crop.A_crop_img, np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])) + 0.5
    np.testing.assert_allclose(edges[0], offset_xy, atol=1e-9)
    np.testing.assert_allclose(edges[1] - edges[0], size_wh, atol=1e-9)
    assert crop.scale == size_wh[0] / width


def test_letterbox_is_where_opencv_puts_a_resized_picture():
    image = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (300, 400)).astype(np.float32), (0, 0), 9)
    crop = letterbox((300, 400))
    warped = cv2.warpAffine(image, crop.A_crop_img, (256, 256))
    np.testing.assert_allclose(warped[33:223, 1:255], cv2.resize(image, (256, 192))[1:191, 1:255], atol=0.5)


@pytest.mark.parametrize("box", [(100, 50, 300, 600), (-50, -20, 120, 300), (1000, 600, 1400, 800)])
def test_a_point_goes_into_the_crop_and_back(box):
    for crop in (person_crop(np.array(box, float), (720, 1280)), letterbox((720, 1280))):
        points = np.random.default_rng(0).uniform(0, 1280, (20, 2))
        there = apply_affine(crop.A_crop_img, points)
        np.testing.assert_allclose(apply_affine(invert_affine(crop.A_crop_img), there), points, atol=1e-6)


def test_a_box_becomes_a_square_about_its_middle():
    crop = person_crop(np.array([100, 50, 301, 451.0]), (720, 1280))
    np.testing.assert_allclose(apply_affine(crop.A_crop_img, np.array([200.0, 250.0])), (128, 128))
    assert crop.scale == pytest.approx(256 / (1.25 * 400))


@pytest.mark.parametrize(
    "box", [(10, 10, 10, 10), (2000, 100, 2100, 200), (10, 10, 11, 11), (np.nan, 0, 5, 5), (-300, 0, -200, 50)]
)
def test_a_box_without_an_inside_has_no_crop(box):
    assert person_crop(np.array(box, float), (720, 1280)) is None


def test_a_huge_box_is_cut_at_the_image():
    crop = person_crop(np.array([-1e6, -1e6, 1e6, 1e6]), (720, 1280))
    assert crop.scale == pytest.approx(256 / (1.25 * 1279))


@pytest.fixture
def person():
    return np.random.default_rng(4).normal((0.003, -0.351, 0.012), (0.3, 0.5, 0.1), (25, 3))


def test_the_pelvis_reprojects_and_twice_the_focal_length_is_twice_the_distance(person):
    crop = person_crop(np.array([700, 100, 900, 640.0]), (720, 1280))
    t_virtual = virtual_translation(np.array([0.05, -0.3, 0.9]))
    uv = apply_affine(invert_affine(crop.A_crop_img), project_virtual(person[0], t_virtual))
    t = pelvis_translation(person[0], uv, t_virtual, crop.scale, K)
    placed = person[0] + t
    np.testing.assert_allclose(K[:2, :2] @ placed[:2] / placed[2] + K[:2, 2], uv, atol=1e-6)
    twice = pelvis_translation(person[0], uv, t_virtual, crop.scale, K * [[2], [2], [1]])
    assert (person[0] + twice)[2] == pytest.approx(2 * placed[2])


def test_the_virtual_camera_itself_gives_its_own_translation(person):
    """A real camera that is the virtual one: nothing is left to convert, everything reprojects."""
    crop = person_crop(np.array([700, 100, 900, 640.0]), (720, 1280))
    center = apply_affine(invert_affine(crop.A_crop_img), np.array([128.0, 128.0]))
    f = 3072 / crop.scale
    same = np.array([[f, 0, center[0]], [0, f, center[1]], [0, 0, 1]])
    t_virtual = virtual_translation(np.array([0.05, -0.3, 0.9]))
    uv = apply_affine(invert_affine(crop.A_crop_img), project_virtual(person, t_virtual))
    np.testing.assert_allclose(pelvis_translation(person[0], uv[0], t_virtual, crop.scale, same), t_virtual, atol=1e-9)
    np.testing.assert_allclose(fit_translation(person, uv, same), t_virtual, atol=1e-8)


def test_exact_projections_give_the_translation_back(person):
    t = np.array([0.4, -0.2, 3.1])
    placed = person + t
    uv = placed[:, :2] / placed[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    np.testing.assert_allclose(fit_translation(person, uv, K), t, atol=1e-9)
    assert fit_translation(person[:1], uv[:1], K) is None


def test_what_cannot_be_a_person_is_named():
    rotmats = Rotation.random(52, random_state=0).as_matrix()
    camera = np.array([0, 0, 0.9])
    assert illegal(rotmats, camera) == ""
    assert "scale" in illegal(rotmats, np.array([0, 0, 0.01]))
    assert "rotation" in illegal(np.concatenate([rotmats[:-1], np.zeros((1, 3, 3))]), camera)
    assert "rotation" in illegal(-rotmats, camera)
    assert "finite" in illegal(rotmats, np.array([0, np.nan, 1]))
    assert "finite" in illegal(rotmats, camera, np.array([np.inf]))
