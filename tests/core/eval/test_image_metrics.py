"""Errors of pictures against hand calculations, slow formulas, scikit-image and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from hsr_core.errors import ShapeError
from hsr_core.eval import image_metrics as metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_psnr_by_hand():
    """A constant error of 0.1 is a mean squared error of 0.01: 20 dB."""
    x = np.full((16, 16, 3), 0.5)
    assert metrics.psnr_db(x + 0.1, x) == pytest.approx(20)
    assert metrics.psnr_db(x, x) == np.inf
    mask = np.zeros((16, 16))
    mask[4:8, 2:10] = 0.2
    worse = x.copy()
    worse[4:8, 2:10] += 0.1
    assert metrics.psnr_box_db(worse, x, mask) == pytest.approx(20)
    assert metrics.psnr_db(worse, x) == pytest.approx(20 + 10 * np.log10(256 / 32))
    assert np.isnan(metrics.psnr_box_db(x, x, np.zeros((16, 16))))


def test_targets_and_predictions_lie_on_white():
    image, mask = np.full((1, 3, 3), 0.2), np.array([[0, 0.5, 1.0]])
    np.testing.assert_allclose(metrics.on_background(image, mask)[0, :, 0], [1, 0.6, 0.2])
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
    x = rng.random((40, 30, 3))
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1)
    reference = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    assert metrics.ssim(x, y) == pytest.approx(reference, abs=1e-9)


def test_ssim_map_equals_torchmetrics(rng):
    """Its figure also counts windows over a reflected border, since 1.9; within, its map is ours. float32: 1e-5."""
    x = rng.random((40, 30, 3)).astype(np.float32)
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1).astype(np.float32)
    planes = (torch.from_numpy(a).permute(2, 0, 1)[None] for a in (x, y))
    _, whole = structural_similarity_index_measure(*planes, sigma=1.5, data_range=1.0, return_full_image=True)
    inside = whole[0, :, 5:-5, 5:-5].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(metrics.ssim_map(x, y), inside, atol=1e-5)


def test_psnr_equals_scikit_image(rng):
    x, y = rng.random((2, 20, 30, 3))
    assert metrics.psnr_db(x, y) == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-10)


def test_grey_pictures_keep_their_channel(rng):
    x, y = rng.random((2, 20, 30, 1))
    assert metrics.ssim(x, y) == pytest.approx(slow_ssim(x, y), abs=1e-10)


def test_masked_psnr_counts_masked_pixels_only(rng):
    """Off by 0.1 within the mask and by 0.5 outside it: 20 dB."""
    target, mask = np.full((20, 20, 3), 0.4), np.zeros((20, 20))
    mask[5:15, 5:15] = 1
    predicted = np.where(mask[..., None] > 0, target + 0.1, target + 0.5)
    assert metrics.psnr_db(predicted, target, mask) == pytest.approx(20)
    assert np.isnan(metrics.psnr_db(predicted, target, np.zeros((20, 20))))


def test_masked_ssim_is_the_mean_of_the_slow_map_under_the_mask(rng):
    """Only the window in the middle of a 13 x 15 picture is masked: the formula on that window alone."""
    x, y = rng.random((2, 13, 15, 3))
    mask = np.zeros((13, 15))
    mask[6, 7] = 1
    assert metrics.ssim(x, y, mask) == pytest.approx(slow_ssim(x[1:12, 2:13], y[1:12, 2:13]), abs=1e-10)


def test_background_inflates_both_figures(rng):
    """One render of a person who fills an eighth of the picture: constant background > box > mask only, for both."""
    mask = np.zeros((96, 96))
    mask[20:76, 40:60] = 1
    mask[30:40, 30:70] = 1
    image = rng.random((96, 96, 3)) * 0.5 + 0.25
    render = np.clip(image + rng.normal(0, 0.08, image.shape), 0, 1)
    predicted, target = (metrics.on_background(picture, mask) for picture in (render, image))
    errors = metrics.picture_errors(predicted, target, mask)
    assert errors["psnr_db"] > errors["psnr_box_db"] > errors["psnr_mask_db"]
    assert errors["ssim"] > errors["ssim_box"] > errors["ssim_mask"]


def test_a_box_smaller_than_a_window_has_no_ssim(rng):
    x, y = rng.random((2, 40, 40, 3))
    mask = np.zeros((40, 40))
    mask[3:10, 3:30] = 1
    assert np.isnan(metrics.ssim_box(x, y, mask))
    assert np.isfinite(metrics.psnr_box_db(x, y, mask))


def test_pictures_that_do_not_match_are_refused(rng):
    with pytest.raises(ShapeError, match="one shape"):
        metrics.psnr_db(np.zeros((5, 5, 3)), np.zeros((5, 6, 3)))
    for metric in (metrics.psnr_db, metrics.psnr_box_db, metrics.ssim, metrics.ssim_box):
        with pytest.raises(ShapeError, match=r"mask must have the pictures' shape \(20, 30\)"):
            metric(np.zeros((20, 30, 3)), np.zeros((20, 30, 3)), np.ones((30, 20)))
    assert np.isnan(metrics.psnr_db(np.zeros((0, 5, 3)), np.zeros((0, 5, 3))))
    with pytest.raises(ShapeError, match="11 x 11"):
        metrics.ssim(np.zeros((5, 5, 3)), np.zeros((5, 5, 3)))
