"""Distance from stature: against OpenCV's projection of known bodies, with noise, outliers and wrong heights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from analytic_scenes import CENTER, ball, camera, sphere_depth, view

from hsr_core.depth.body_height import BodyHeight, solve_translation
from hsr_core.errors import ShapeError
from hsr_core.types import MetricSource

COLOR = camera(width=640, height=480, fx=600.0, fy=600.0, cx=320.0, cy=240.0)
PLACE = np.array([0.3, 0.1, 3.0])


def person(seed: int = 0, stature: float = 1.7) -> np.ndarray:
    """Joints of somebody standing: a cloud of that height, shoulder width and depth, around its root."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (55, 3)) * [0.5, stature, 0.3]


def pixels(joints: np.ndarray) -> np.ndarray:
    return cv2.projectPoints(joints, np.zeros(3), np.zeros(3), COLOR.K, None)[0][:, 0]


def keypoints(joints: np.ndarray, noise_px: float = 0.0, seed: int = 1) -> np.ndarray:
    uv = pixels(joints) + np.random.default_rng(seed).normal(0, noise_px, (55, 2)) if noise_px else pixels(joints)
    return np.concatenate([uv, np.ones((55, 1))], 1).astype(np.float32)


def test_exact_points_give_the_exact_place():
    joints = person()
    found = solve_translation(joints, pixels(joints + PLACE), np.ones(55), COLOR.K)
    np.testing.assert_allclose(found, PLACE, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_two_pixels_of_noise_at_three_metres_are_less_than_two_percent(seed):
    joints = person(seed)
    seen = keypoints(joints + PLACE, 2.0, seed)
    found = solve_translation(joints, seen[:, :2], seen[:, 2], COLOR.K)
    assert abs(found[2] / PLACE[2] - 1) < 0.02


def test_a_few_points_far_off_are_outvoted():
    joints = person()
    uv = pixels(joints + PLACE)
    uv[:6] += 80
    found = solve_translation(joints, uv, np.ones(55), COLOR.K)
    plain = solve_translation(joints, uv, np.r_[np.zeros(6), np.ones(49)], COLOR.K)
    np.testing.assert_allclose(plain, PLACE, atol=1e-5)
    assert abs(found[2] / PLACE[2] - 1) < 0.05


@pytest.mark.parametrize("believed", [1.5, 1.7, 1.9])
def test_a_wrong_stature_is_the_same_error_of_distance(believed):
    found = solve_translation(person(stature=believed) * [believed / 1.7, 1, believed / 1.7],
                              pixels(person() + PLACE), np.ones(55), COLOR.K)  # fmt: skip
    assert found[2] / PLACE[2] == pytest.approx(believed / 1.7, rel=0.01)


def test_the_surface_is_that_of_the_body_where_the_points_say():
    """The body believed 20 % too near; the key points have it at its true place."""
    joints = (person() * 0.3 + CENTER).astype(np.float32)
    wrong = (CENTER * 0.8).astype(np.float32)
    body = ball(COLOR, wrong, joints=joints - CENTER.astype(np.float32) + wrong, keypoints2d=keypoints(joints))
    frame = BodyHeight().depth_for(view(COLOR, body))
    expected = sphere_depth(COLOR)
    inside = (frame.depth_m > 0) & (expected > 0)
    assert inside.sum() > 0.97 * (expected > 0).sum()
    assert np.median(np.abs(frame.depth_m - expected)[inside]) < 2e-3
    assert frame.metric_source is MetricSource.ASSUMED_HEIGHT
    assert not frame.measured
    assert frame.sigma_rel == 0.05


def test_a_known_height_enlarges_the_body_and_its_distance():
    joints = (person() * 0.3 + CENTER).astype(np.float32)
    body = ball(COLOR, joints=joints, keypoints2d=keypoints(joints), stature_m=1.5)
    size, offset = BodyHeight(1.8).placed(body)
    assert size == pytest.approx(1.2)
    np.testing.assert_allclose(CENTER * size + offset, CENTER * 1.2, atol=1e-3)
    assert BodyHeight(1.8).depth_for(view(COLOR, body)).sigma_rel == 0.01


def test_without_key_points_the_body_stays_where_it_is():
    body = ball(COLOR)
    np.testing.assert_array_equal(BodyHeight().depth_for(view(COLOR, body)).depth_m, body.depth_m)


def test_nobody_few_points_and_bodies_behind_the_camera_are_no_reason_to_fail():
    provider = BodyHeight()
    assert provider.depth_for(view(COLOR)) is None
    assert provider.status == "nobody is in the image"
    few = np.zeros((55, 3), np.float32)
    few[:5, 2] = 1
    assert provider.placed(ball(COLOR, joints=person() + PLACE, keypoints2d=few)) is None
    with pytest.raises(ShapeError, match="6 joints"):
        solve_translation(person()[:5], pixels(person() + PLACE)[:5], np.ones(5), COLOR.K)
    assert not provider.depth_for(view(COLOR, ball(COLOR, -CENTER))).valid.any()
    assert provider.depth_for(view(COLOR, ball(COLOR, CENTER * np.nan))) is None


def test_the_nearer_of_two_people_is_seen():
    two = view(COLOR, ball(COLOR, CENTER + np.array([0.1, 0, 1.0]), track_id=2), ball(COLOR))
    np.testing.assert_array_equal(
        BodyHeight().depth_for(two).depth_m[ball(COLOR).mask], ball(COLOR).depth_m[ball(COLOR).mask]
    )
