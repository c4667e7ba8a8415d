"""Joint errors against analytic cases and scipy's Procrustes."""

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from hsr_core.eval.metrics import mpjpe_mm, pa_mpjpe_mm, root_mpjpe_mm, similarity


@pytest.fixture
def joints():
    return np.random.default_rng(0).normal(0, 0.3, (12, 3))


def test_mpjpe_of_a_shift_is_its_length(joints):
    assert mpjpe_mm(joints + np.array([0, 0, 0.1]), joints) == pytest.approx(100)


def test_root_alignment_removes_a_shift_and_nothing_else(joints):
    assert root_mpjpe_mm(joints + np.array([3, 2, 1]), joints, (6, 7)) == pytest.approx(0, abs=1e-9)
    moved = joints.copy()
    moved[0] += [0, 0.12, 0]
    assert root_mpjpe_mm(moved, joints, (6, 7)) == pytest.approx(10)


def test_similarity_is_undone_exactly(joints):
    R = Rotation.random(random_state=1).as_matrix()
    assert pa_mpjpe_mm(1.7 * joints @ R.T + [1, -2, 3], joints) == pytest.approx(0, abs=1e-6)


def test_a_mirror_is_not_undone(joints):
    assert pa_mpjpe_mm(joints * [-1, 1, 1], joints) > 50


def test_sum_of_squares_equals_scipys_procrustes(joints):
    """scipy reports the residual of the standardised shapes; ours, scaled the same way, must equal it."""
    other = joints + np.random.default_rng(1).normal(0, 0.05, joints.shape)
    residual = ((similarity(other, joints) - joints) ** 2).sum()
    expected = procrustes(joints, other)[2] * ((joints - joints.mean(0)) ** 2).sum()
    assert residual == pytest.approx(expected, rel=1e-9)


def test_a_collapsed_prediction_is_only_moved(joints):
    out = similarity(np.ones((12, 3)), joints)
    np.testing.assert_allclose(out, np.broadcast_to(joints.mean(0), out.shape), atol=1e-12)
