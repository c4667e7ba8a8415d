"""Errors of refined bodies and pictures against hand calculations and slow formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.errors import ShapeError
from hsr_core.eval import refine_metrics as metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_vertex_errors_of_a_shift(rng):
    """Everything 30 mm too far: seen in the camera frame, not after pelvis or similarity alignment."""
    x = rng.normal(0, 0.4, (50, 3))
    shift = np.array([0, 0, 0.03])
    assert metrics.v2v_cam_mm(x + shift, x) == pytest.approx(30)
    assert metrics.v2v_root_mm(x + shift, x, shift, np.zeros(3)) == pytest.approx(0, abs=1e-9)
    assert metrics.pa_v2v_mm(x + shift, x) == pytest.approx(0, abs=1e-6)


def test_a_turn_about_the_pelvis_is_seen_unless_procrustes_undoes_it(rng):
    x = rng.normal(0, 0.4, (50, 3))
    R = Rotation.from_rotvec([0, 0.3, 0]).as_matrix()
    expected = 1e3 * np.mean([np.linalg.norm(R @ p - p) for p in x])
    assert metrics.v2v_root_mm(x @ R.T, x, np.zeros(3), np.zeros(3)) == pytest.approx(expected)
    assert metrics.pa_v2v_mm(x @ R.T, x) == pytest.approx(0, abs=1e-6)


def test_root_error_by_hand():
    """Frame 1 is off by (3, 4, 0) cm: 50 mm, all lateral. Frame 2 by -12 cm in depth."""
    truth = np.array([[0, 0, 3.0], [1, 1, 3.0]])
    error = metrics.root_error_mm(truth + np.array([[0.03, 0.04, 0], [0, 0, -0.12]]), truth)
    assert (error.total, error.lateral, error.depth, error.depth_bias) == pytest.approx((85, 25, 60, -60))
    with pytest.raises(ShapeError):
        metrics.root_error_mm(truth, truth[:1])


def test_jerk_of_a_cubic_is_its_third_derivative():
    t = np.arange(20) * 0.1
    path = np.stack([2 * t**3, t**2, np.ones_like(t)], 1)
    assert metrics.root_jerk(path, 0.1) == pytest.approx(12, rel=1e-9)


def test_psnr_by_hand():
    """A constant error of 0.1 is a mean squared error of 0.01: 20 dB."""
    x = np.full((16, 16, 3), 0.5)
    assert metrics.psnr_db(x + 0.1, x) == pytest.approx(20)
    assert metrics.psnr_db(x, x) == np.inf
    mask = np.zeros((16, 16))
    mask[4:8, 2:10] = 0.2
    worse = x.copy()
    worse[4:8, 2:10] += 0.1
    assert metrics.psnr_crop_db(worse, x, mask) == pytest.approx(20)
    assert metrics.psnr_db(worse, x) == pytest.approx(20 + 10 * np.log10(256 / 32))
    assert np.isnan(metrics.psnr_crop_db(x, x, np.zeros((16, 16))))


def test_targets_and_predictions_lie_on_white():
    image, mask = np.full((1, 3, 3), 0.2), np.array([[0, 0.5, 1.0]])
    np.testing.assert_allclose(metrics.on_white(image, mask)[0, :, 0], [1, 0.6, 0.2])
    color = np.array([[[0.5, 1.7, -0.2], [0.1003, 0.2, 0.31]]])
    shown = metrics.prediction_on_white(color, np.array([[0.0, 0.001]]))
    np.testing.assert_array_equal(shown[0, 0], 1)  # where alpha is 0 nothing of the prediction is left
    np.testing.assert_allclose(shown[0, 1] * 255, [26, 51, 79], rtol=1e-12)  # 25.58, 51.0, 79.05


def slow_ssim(x, y):
    """Wang et al. 2004, window by window."""
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for c in range(x.shape[2]):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                a, b = x[i : i + 11, j : j + 11, c], y[i : i + 11, j : j + 11, c]
                ma, mb = (w * a).sum(), (w * b).sum()
                va, vb, cov = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
                values.append(
                    (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
                )  # fmt: skip
    return np.mean(values)


def test_ssim_equals_the_formula(rng):
    x = rng.random((17, 21, 3))
    y = np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1)
    assert metrics.ssim(x, y) == pytest.approx(slow_ssim(x, y), abs=1e-10)
    assert metrics.ssim(x, x) == pytest.approx(1)


def test_ssim_equals_scikit_image(rng):
    skimage = pytest.importorskip("skimage.metrics")
    x = rng.random((40, 30, 3))
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1)
    reference = skimage.structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    assert metrics.ssim(x, y) == pytest.approx(reference, abs=1e-9)


def test_pictures_that_do_not_match_are_refused(rng):
    with pytest.raises(ShapeError, match="one shape"):
        metrics.psnr_db(np.zeros((5, 5, 3)), np.zeros((5, 6, 3)))
    with pytest.raises(ShapeError, match="11 x 11"):
        metrics.ssim(np.zeros((5, 5, 3)), np.zeros((5, 5, 3)))
