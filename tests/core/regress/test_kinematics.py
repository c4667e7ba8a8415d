"""Forward kinematics against a plain recursion, derivatives against finite differences."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import N_JOINTS, PARENTS
from hsr_core.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from hsr_core.regress.kinematics import forward, log_jacobian, point_jacobian


@pytest.fixture
def skeleton(rng):
    rest = rng.normal(0, 0.3, (N_JOINTS, 3))
    local = Rotation.random(N_JOINTS, random_state=1).as_matrix()
    return local, rest, rng.normal(0, 1, 3)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_forward_agrees_with_a_joint_by_joint_recursion(skeleton):
    local, rest, transl = skeleton
    rotations, points = forward(local, rest, transl)
    expected = {-1: (np.eye(3), None)}
    for j, parent in enumerate(PARENTS):
        R = expected[parent][0]
        origin = rest[0] + transl if parent < 0 else expected[parent][1] + R @ (rest[j] - rest[parent])
        expected[j] = (R @ local[j], origin)
        np.testing.assert_allclose(points[j], origin, atol=1e-12)
        np.testing.assert_allclose(rotations[j], R @ local[j], atol=1e-12)


def test_point_jacobian_agrees_with_finite_differences(skeleton, rng):
    local, rest, transl = skeleton
    carriers = np.array([20, 37, 15, 7])
    offsets = rng.normal(0, 0.1, (4, 3))
    solved = np.array([0, 3, 9, 18, 20, 35, 4])

    def points(local):
        rotations, joints = forward(local, rest, transl)
        return joints[carriers] + np.einsum("nab,nb->na", rotations[carriers], offsets), rotations, joints

    here, rotations, joints = points(local)
    jacobian = point_jacobian(here, carriers, rotations, joints, solved)
    step = 1e-6
    for s, joint in enumerate(solved):
        for axis in range(3):
            moved = [local.copy(), local.copy()]
            for sign, pose in zip((1, -1), moved, strict=True):
                pose[joint] = rotvec_to_rotmat(sign * step * np.eye(3)[axis]) @ pose[joint]
            numeric = (points(moved[0])[0] - points(moved[1])[0]) / (2 * step)
            np.testing.assert_allclose(jacobian[:, :, s, axis], numeric, atol=1e-8)


@pytest.mark.parametrize("angle", [1e-5, 0.3, 2.0, 3.0])
def test_log_jacobian_agrees_with_finite_differences(rng, angle):
    axis = rng.normal(size=3)
    rotvec = angle * axis / np.linalg.norm(axis)
    R, step = rotvec_to_rotmat(rotvec), 1e-6
    numeric = np.stack(
        [
            (rotmat_to_rotvec(rotvec_to_rotmat(step * e) @ R) - rotmat_to_rotvec(rotvec_to_rotmat(-step * e) @ R))
            / (2 * step)
            for e in np.eye(3)
        ],
        axis=1,
    )
    np.testing.assert_allclose(log_jacobian(rotvec), numeric, atol=1e-6)
