"""Hands and face against hand calculations and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torchmetrics.functional.multimodal import lip_vertex_error

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.eval.metrics import pa_mpjpe_mm
from hsr_core.eval.part_metrics import f1_score, hand_errors_mm, lve_m2, mle_m, normalised_by_f1, whole_body


@pytest.fixture
def hands():
    return np.random.default_rng(0).normal(0, 0.05, (2, 30, 3))


def test_hands_are_shifted_by_their_own_wrists_and_averaged(hands):
    """The left hand is 10 mm off beyond its wrist, the right moves with its wrist: (10 + 0) / 2."""
    wrists = np.zeros((2, 3))
    predicted = hands + np.array([[0.01, 0, 0], [0, 0.4, 0]])[:, None]
    errors = hand_errors_mm(predicted, hands, wrists + np.array([[0, 0, 0], [0, 0.4, 0]]), wrists)
    assert errors["hand_pve_mm"] == pytest.approx(5)
    assert errors["hand_pa_pve_mm"] == pytest.approx(0, abs=1e-6)


def test_each_hand_has_its_own_similarity(hands):
    turns = Rotation.random(2, random_state=0).as_matrix()
    predicted = np.einsum("hij,hvj->hvi", turns, hands) * np.array([0.5, 2])[:, None, None]
    errors = hand_errors_mm(predicted, hands, np.zeros((2, 3)), np.zeros((2, 3)))
    assert errors["hand_pa_pve_mm"] == pytest.approx(0, abs=1e-6)
    assert pa_mpjpe_mm(predicted.reshape(-1, 3), hands.reshape(-1, 3)) > 10  # one similarity for both does not do


def test_hands_that_are_not_valid_or_not_annotated_are_left_out(hands):
    predicted = hands + np.array([[0.01, 0, 0], [0.03, 0, 0]])[:, None]
    wrists = np.zeros((2, 3))
    batch = np.stack([hands] * 4)
    batch[1, 0] = np.nan  # the left one is not annotated
    batch[2] = np.nan
    valid = np.array([[True, True], [True, True], [True, True], [True, False]])
    errors = hand_errors_mm(np.stack([predicted] * 4), batch, np.stack([wrists] * 4), np.stack([wrists] * 4), valid)
    assert errors["hand_pve_mm"] == pytest.approx([20, 30, np.nan, 10], nan_ok=True)
    broken = np.stack([predicted[0], np.full_like(predicted[1], np.nan)])
    assert np.isnan(hand_errors_mm(broken, hands, wrists, wrists)["hand_pve_mm"])
    with pytest.raises(ShapeError, match="left and right"):
        hand_errors_mm(hands[:1], hands[:1], wrists[:1], wrists[:1])


def test_hands_taken_for_wrongly_annotated_are_dropped_when_asked(hands):
    """The right hand is nonsense; without the filter it counts."""
    predicted = np.stack([hands[0] + np.array([0.01, 0, 0]), np.random.default_rng(9).normal(0, 1, hands[1].shape)])
    wrists = np.zeros((2, 3))
    limit = pa_mpjpe_mm(predicted[1], hands[1]) - 1
    assert hand_errors_mm(predicted, hands, wrists, wrists)["hand_pve_mm"] > 100
    assert hand_errors_mm(predicted, hands, wrists, wrists, drop_pa_above_mm=limit)["hand_pve_mm"] == pytest.approx(10)
    missing = np.stack([predicted[0], np.full_like(hands[1], np.nan)])
    assert np.isnan(hand_errors_mm(missing, hands, wrists, wrists, drop_pa_above_mm=limit)["hand_pve_mm"])


def test_landmark_error_by_alignment():
    """10 mm off in x: 0.01 m unaligned and 0 rigidly; twice as large: only a similarity undoes it."""
    face = np.random.default_rng(1).normal(0, 0.05, (68, 3))
    assert mle_m(face + np.array([0.01, 0, 0]), face, "none") == pytest.approx(0.01)
    assert mle_m(face + np.array([0.01, 0, 0]), face, "rigid") == pytest.approx(0, abs=1e-9)
    centred = face - face.mean(0)
    assert mle_m(2 * face, face, "rigid") == pytest.approx(np.linalg.norm(centred, axis=1).mean(), rel=1e-6)
    assert mle_m(2 * face, face, "similarity") == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigError, match="none, rigid or similarity"):
        mle_m(face, face, "pelvis")


def test_one_lip_vertex_off_by_3_mm_is_9e_6():
    lips = np.random.default_rng(2).normal(0, 0.02, (10, 3))
    predicted = lips.copy()
    predicted[4, 1] += 0.003
    assert lve_m2(predicted, lips) == pytest.approx(9e-6, rel=1e-9)


def test_lip_error_equals_torchmetrics():
    rng = np.random.default_rng(3)
    face = rng.normal(0, 0.1, (20, 100, 3))
    other = face + rng.normal(0, 0.003, face.shape)
    lips = [3, 14, 15, 92]
    expected = lip_vertex_error(torch.from_numpy(other), torch.from_numpy(face), mouth_map=lips)
    assert lve_m2(other[:, lips], face[:, lips]).mean() == pytest.approx(float(expected), rel=1e-6)


def test_scores_of_whole_bodies_by_hand():
    assert whole_body(80, 30, 36, 24) == pytest.approx(110)
    assert f1_score(matched=8, predicted=10, annotated=12) == pytest.approx(2 * 0.8 * (8 / 12) / (0.8 + 8 / 12))
    assert np.isnan(f1_score(0, 0, 0))
    assert normalised_by_f1(90, 0.727) == pytest.approx(90 / 0.73)
    assert normalised_by_f1(90, 0.727, two_decimals=False) == pytest.approx(90 / 0.727)
    assert np.isnan(normalised_by_f1(90, 0.0))
