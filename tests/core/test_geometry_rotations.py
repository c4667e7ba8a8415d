"""Rotations against scipy, over batch shapes and dtypes, near 0 and pi."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.geometry.rotations import (
    hat,
    rotation_between,
    rotmat_to_quat_wxyz,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
    wxyz_to_xyzw,
)

SHAPES = [(), (3,), (2, 3)]
DTYPES = [(np.float32, 3e-6), (np.float64, 1e-12)]
"""Tolerances: some tens of roundings of the type."""


def random_rotvecs(shape, rng, dtype=np.float64):
    axis = rng.normal(size=(*shape, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    return (axis * rng.uniform(0, np.pi - 0.01, (*shape, 1))).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_rotation_vectors_and_matrices_agree_with_scipy(shape, dtype, tolerance):
    rotvec = random_rotvecs(shape, np.random.default_rng(0), dtype)
    R = rotvec_to_rotmat(rotvec)
    assert R.dtype == dtype
    assert R.shape == (*shape, 3, 3)
    expected = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(*shape, 3, 3)
    np.testing.assert_allclose(R, expected, atol=tolerance)
    back = rotmat_to_rotvec(R)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, rotvec, atol=100 * tolerance)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3])
def test_round_trip_near_zero(angle):
    rotvec = angle * np.array([0.6, -0.64, 0.48])
    np.testing.assert_allclose(rotmat_to_rotvec(rotvec_to_rotmat(rotvec)), rotvec, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("off", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, -0.64, 0.48], [-0.36, 0.48, 0.8]])
def test_round_trip_near_pi(axis, off):
    R = rotvec_to_rotmat((np.pi - off) * np.array(axis, float))
    rotvec = rotmat_to_rotvec(R)
    assert np.linalg.norm(rotvec) <= np.pi + 1e-12
    np.testing.assert_allclose(rotvec_to_rotmat(rotvec), R, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(rotvec), np.pi - off, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_quaternions_agree_with_scipy_up_to_sign_and_have_positive_w(shape, dtype, tolerance):
    R = Rotation.random(max(1, int(np.prod(shape))), random_state=1).as_matrix().reshape(*shape, 3, 3).astype(dtype)
    q = rotmat_to_quat_wxyz(R)
    assert q.dtype == dtype
    assert np.all(q[..., 0] >= 0)
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), 1, atol=tolerance)
    xyzw = wxyz_to_xyzw(q).reshape(-1, 4)
    for sign in (1, -1):  # q and -q are one rotation
        back = Rotation.from_quat(sign * xyzw).as_matrix().reshape(R.shape)
        np.testing.assert_allclose(back, R, atol=10 * tolerance)


def test_all_four_pivots_of_the_quaternion_formula():
    for axis in np.eye(3):
        for angle in (0.1, 2.0, 3.1, np.pi):
            R = Rotation.from_rotvec(axis * angle).as_matrix()
            np.testing.assert_allclose(
                Rotation.from_quat(wxyz_to_xyzw(rotmat_to_quat_wxyz(R))).as_matrix(), R, atol=1e-14
            )


def test_hat_is_the_cross_product():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 5, 3))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", hat(a), b), np.cross(a, b))


def test_the_rotation_between_two_directions_is_the_smallest():
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b = rng.normal(size=(2, 3))
        R = rotation_between(a, b)
        np.testing.assert_allclose(R @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-12)
        expected = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert Rotation.from_matrix(R).magnitude() == pytest.approx(expected, abs=1e-9)


def test_opposite_directions_give_a_half_turn():
    for a in (*np.eye(3), np.array([1.0, 2, -3])):
        R = rotation_between(a, -a)
        np.testing.assert_allclose(R @ a, -a, atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
