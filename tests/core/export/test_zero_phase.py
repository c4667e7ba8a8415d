"""The smoother without delay against scipy's, and what a smoother of rotations must keep."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from hsr_core.export.zero_phase import MARGIN, smooth_rotations, smooth_vectors


def test_vectors_are_smoothed_as_scipy_does():
    x = np.random.default_rng(0).normal(size=(50, 4, 3))
    np.testing.assert_allclose(smooth_vectors(x), savgol_filter(x, 7, 2, axis=0, mode="interp"), atol=1e-12)


@pytest.mark.parametrize("count", [7, 8, 20])
def test_a_piece_with_its_margins_is_that_piece_of_the_whole(count):
    x = np.random.default_rng(1).normal(size=(count, 3))
    whole = smooth_vectors(x)
    for begin in range(count):
        end = min(begin + 4, count)
        first, last = max(begin - MARGIN, 0), min(end + MARGIN, count)
        piece = smooth_vectors(x[first:last], before=begin - first, after=last - end)
        np.testing.assert_allclose(piece, whole[begin:end], atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_too_few_samples_for_a_fit_are_left_as_they_are(count):
    x = np.random.default_rng(2).normal(size=(count, 3))
    expected = x if count < 4 else smooth_vectors(x)
    np.testing.assert_allclose(smooth_vectors(x), expected, atol=1e-12)


def test_rotations_about_one_axis_are_smoothed_as_their_angles():
    angles = np.random.default_rng(3).normal(0, 0.2, 30) + np.linspace(0, 9, 30)  # more than a turn: no wraps
    axis = np.array([1, 2, 2]) / 3
    got = smooth_rotations(Rotation.from_rotvec(angles[:, None] * axis).as_matrix())
    want = Rotation.from_rotvec(savgol_filter(angles, 7, 2, mode="interp")[:, None] * axis)
    assert (Rotation.from_matrix(got) * want.inv()).magnitude().max() < 1e-9


def test_rotating_the_world_rotates_the_answer():
    rng = np.random.default_rng(4)
    noisy = (Rotation.from_rotvec(rng.normal(0, 0.3, (25, 3))) * Rotation.random(random_state=1)).as_matrix()
    R = Rotation.random(random_state=2).as_matrix()
    np.testing.assert_allclose(smooth_rotations(R @ noisy), R @ smooth_rotations(noisy), atol=1e-9)


def test_a_constant_stays_itself():
    R = np.repeat(Rotation.random(random_state=3).as_matrix()[None], 12, 0)
    np.testing.assert_allclose(smooth_rotations(R), R, atol=1e-12)
