"""Scale of depth frames along time, and the closed-form placing of bodies by depth."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_scenes import CENTER, ball, camera, sphere_depth

from hsr_core.depth.scale import TrackBias, frame_scales, log_ratio, place_by_depth, robust_line
from hsr_core.errors import ConfigError, ShapeError
from hsr_core.types import MetricSource

MONO, MEASURED = MetricSource.MONO_DEPTH, MetricSource.DEPTH_CAMERA
T_S = np.arange(20) / 15
TRUE_Z = 3.0 + 0.4 * T_S  # walking away


def ratios(body_z, depth_scale):
    return np.log(TRUE_Z * depth_scale / body_z)


def window(body_z, depth_scale, **more):
    """Depth-implied scale left after correction, (T,)."""
    scales = frame_scales("window", MONO, body_z, ratios(body_z, depth_scale), T_S, **more)
    return scales.factor * depth_scale, scales


@pytest.mark.parametrize("frame", [0, 7, 19])
def test_one_frame_ten_percent_off_is_brought_back_and_the_others_stay(frame):
    scale = np.ones(20)
    scale[frame] = 1.1
    left, _ = window(TRUE_Z, scale)
    assert left[frame] == pytest.approx(1, abs=0.01)
    assert np.abs(np.delete(left, frame) - 1).max() < 0.005


def test_a_common_scale_is_kept():
    left, _ = window(TRUE_Z, np.full(20, 1.1))
    np.testing.assert_allclose(left, 1.1, rtol=1e-6)


def test_a_body_moved_by_ten_centimetres_does_not_move_the_depth():
    body = TRUE_Z.copy()
    body[9] += 0.1
    left, scales = window(body, np.ones(20))
    assert np.abs(left - 1).max() < 0.005
    np.testing.assert_allclose(scales.root_z, TRUE_Z, atol=1e-6)


def test_jitter_shrinks():
    rng = np.random.default_rng(0)
    scale = 1 + rng.normal(0, 0.03, 20)
    left, _ = window(TRUE_Z, scale)
    assert left.std() < 0.6 * scale.std()


def test_frames_without_depth_or_far_off_are_not_used():
    scale = np.ones(20)
    scale[4] = 1.5
    r = ratios(TRUE_Z, scale)
    r[11] = np.nan
    counts = np.full(20, 500)
    counts[15] = 199
    scales = frame_scales("window", MONO, TRUE_Z, r, T_S, counts=counts)
    assert set(np.flatnonzero(~scales.usable)) == {4, 11, 15}
    np.testing.assert_allclose(scales.factor, 1, atol=1e-6)


def test_modes():
    rng = np.random.default_rng(1)
    scale = 1.05 * (1 + rng.normal(0, 0.02, 20))
    r = ratios(TRUE_Z, scale)
    arguments = (TRUE_Z, r, T_S)
    assert (frame_scales("raw", MONO, *arguments).factor == 1).all()
    assert (frame_scales("auto", MEASURED, *arguments).factor == 1).all()
    smooth = frame_scales("auto", MONO, *arguments).factor
    np.testing.assert_array_equal(smooth, frame_scales("window", MONO, *arguments).factor)
    np.testing.assert_allclose(frame_scales("relative", MONO, *arguments).factor * scale, 1, rtol=1e-9)
    np.testing.assert_allclose(frame_scales("track", MONO, *arguments, bias=0.95).factor, smooth * 0.95)
    with pytest.raises(ConfigError, match="raw, window"):
        frame_scales("best", MONO, *arguments)


def test_the_persistent_bias_is_a_bounded_running_median():
    bias = TrackBias()
    assert bias.value == 1
    for z in (2.85, 2.85, 9.0, np.nan, 0.0):
        bias.add(z, 3.0)
    assert bias.value == pytest.approx(0.95)
    for _ in range(400):
        bias.add(4.5, 3.0)
    assert bias.value == 1.15


def test_short_and_empty_windows():
    assert np.isnan(robust_line(np.arange(3.0), np.full(3, np.nan))).all()
    np.testing.assert_allclose(robust_line(np.arange(3.0), np.array([np.nan, 2.0, np.nan]))[1], 2.0)
    np.testing.assert_allclose(robust_line(np.zeros(4), np.array([2.0, 2.0, 2.0, 2.1])), 2.0, atol=0.05)
    assert robust_line(np.zeros(0), np.zeros(0)).shape == (0,)
    with pytest.raises(ShapeError):
        robust_line(np.zeros(3), np.zeros(4))


def test_the_ratio_of_a_scaled_sphere_is_its_scale_despite_holes_and_clutter():
    cam = camera()
    body, depth = ball(cam), sphere_depth(cam).astype(np.float32) * 1.07
    depth[::3] = 0
    depth[100:104] = np.nan
    depth[:, 180:190] = 0.5  # something in front
    r, count = log_ratio(depth, body.depth_m, body.mask)
    assert r == pytest.approx(np.log(1.07), abs=2e-3)
    assert 0.3 * body.mask.sum() < count < 0.7 * body.mask.sum()
    r, count = log_ratio(np.zeros_like(depth), body.depth_m, body.mask)
    assert np.isnan(r)
    assert count == 0
    with pytest.raises(ShapeError):
        log_ratio(depth[:5], body.depth_m, body.mask)


def test_bodies_move_along_their_rays_to_where_depth_sees_them():
    """Each frame's body is wrong by up to 8 %; depth is exact and shows cloth 1 cm before the skin."""
    rng = np.random.default_rng(2)
    truth = np.stack([0.1 * TRUE_Z, 0.05 * TRUE_Z, TRUE_Z], 1)
    wrong = truth * (1 + rng.uniform(-0.08, 0.08, 20))[:, None]
    r = np.log((truth[:, 2] - 0.01) / wrong[:, 2])
    placed = place_by_depth(wrong, r, np.full(20, 4000), T_S)
    assert placed.moved.all()
    np.testing.assert_allclose(placed.transl, truth, atol=1e-4)


def test_the_root_and_not_the_origin_stays_on_its_ray():
    root = np.array([[0.4, -0.2, 3.0]])
    beside = np.array([0.0, 0.35, 0.02])
    transl = root - beside
    placed = place_by_depth(transl, np.log([1.1]), np.array([5000]), np.zeros(1), root=root, cloth_m=0.0)
    np.testing.assert_allclose(placed.transl + beside, root * 1.1, atol=1e-9)


@pytest.mark.parametrize(("ratio", "count"), [(np.nan, 0), (0.05, 199), (0.31, 5000), (-0.31, 5000)])
def test_frames_with_little_or_broken_depth_stay(ratio, count):
    transl = np.array([[0.1, 0.2, 3.0]])
    placed = place_by_depth(transl, np.array([ratio]), np.array([count]), np.zeros(1))
    np.testing.assert_array_equal(placed.transl, transl)
    assert not placed.moved.any()


def test_the_whole_chain_places_a_body_as_thick_as_a_person():
    """12 cm too far; one step leaves little, since the surface compared is nearer than the root; a second, nothing."""
    cam = camera()
    truth, place = sphere_depth(cam, CENTER, 0.15).astype(np.float32), CENTER * (1 + 0.12 / CENTER[2])
    left = []
    for _ in range(2):
        body = ball(cam, place, 0.15)
        r, count = log_ratio(truth, body.depth_m, body.mask & (truth > 0))
        place = place_by_depth(place[None], np.array([r]), np.array([count]), np.zeros(1), cloth_m=0.0).transl[0]
        left.append(np.abs(place - CENTER).max())
    assert left[0] < 0.02
    assert left[1] < 0.005
