"""SMPL from the user's files: skinning against a slow readable one and against smplx, and files that are no SMPL."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from dataset_layouts import PARENTS_24, posed_joints, smpl_arrays
from scipy.spatial.transform import Rotation
from synthetic_models import python2_dumps

from hsr_core.body.smpl import Smpl, find_smpl
from hsr_core.errors import BadFile, ShapeError


@pytest.fixture(scope="module")
def arrays():
    return smpl_arrays(7)


@pytest.fixture(scope="module")
def smpl(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("smpl") / "SMPL_NEUTRAL.npz"
    np.savez(path, **arrays)
    return Smpl.read(path)


@pytest.fixture(scope="module")
def person():
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.4, 72), rng.normal(0, 1, 10), rng.normal(0, 1, 3)


def slow_vertices(arrays, pose, betas, transl, some):
    """Skin a few vertices one by one, as SMPL's equations read."""
    shaped = arrays["v_template"] + arrays["shapedirs"] @ betas
    rest = arrays["J_regressor"].astype(np.float64) @ shaped
    local = Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix()
    offsets = arrays["posedirs"] @ (local[1:] - np.eye(3)).ravel()
    chain = []
    for j in range(24):
        step = np.eye(4)
        step[:3, :3] = local[j]
        step[:3, 3] = rest[j] - (rest[PARENTS_24[j]] if j else 0)
        chain.append(chain[PARENTS_24[j]] @ step if j else step)
    out = []
    for v in some:
        point = shaped[v] + offsets[v]
        moved = [T[:3, :3] @ (point - rest[j]) + T[:3, 3] for j, T in enumerate(chain)]
        out.append(arrays["weights"][v] @ np.array(moved) + transl)
    return np.array(out)


def test_joints_and_vertices_follow_the_equations(smpl, arrays, person):
    joints, vertices = smpl.pose(*person)
    np.testing.assert_allclose(joints, posed_joints(arrays, *person), atol=2e-5)
    some = np.random.default_rng(1).choice(6890, 40, replace=False)
    np.testing.assert_allclose(vertices[some], slow_vertices(arrays, *person, some), atol=2e-5)


def test_it_equals_smplx(arrays, person, tmp_path):
    smplx = pytest.importorskip("smplx", reason="pip install 'hsr-core[smplx]' (non-commercial licence)")
    import torch

    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(arrays))
    pose, betas, transl = (torch.tensor(value[None], dtype=torch.float32) for value in person)
    oracle = smplx.SMPL(str(path), gender="neutral")
    out = oracle(body_pose=pose[:, 3:], global_orient=pose[:, :3], betas=betas, transl=transl)
    joints, vertices = Smpl.read(path).pose(*person)
    np.testing.assert_allclose(vertices, out.vertices[0].detach(), atol=2e-5)
    np.testing.assert_allclose(joints, out.joints[0, :24].detach(), atol=2e-5)


def test_a_rotation_of_the_root_is_rigid_about_the_pelvis(smpl, person):
    pose, betas, transl = person
    turn = Rotation.from_rotvec([0.3, -1.0, 0.4])
    turned = pose.copy()
    turned[:3] = (turn * Rotation.from_rotvec(pose[:3])).as_rotvec()
    joints, vertices = smpl.pose(pose, betas, transl)
    after_joints, after = smpl.pose(turned, betas, transl)
    np.testing.assert_allclose(after_joints[0], joints[0], atol=1e-6)
    np.testing.assert_allclose(after, turn.apply(vertices - joints[0]) + joints[0], atol=2e-5)


def test_pickles_as_downloaded_are_found_and_read(arrays, smpl, person, tmp_path):
    (tmp_path / "SMPL").mkdir()
    path = tmp_path / "SMPL" / "basicModel_f_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(python2_dumps({key.encode(): value for key, value in arrays.items()}))
    assert find_smpl(tmp_path, "female") == path
    np.testing.assert_array_equal(Smpl.read(path).pose(*person)[1], smpl.pose(*person)[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapedirs": np.zeros((6890, 3, 4))}, "at least 10 columns"),
        ({"v_template": np.zeros((10475, 3))}, "v_template must have shape"),
        ({"weights": np.zeros((6890, 24))}, "must sum to one"),
        ({"kintree_table": np.array([[-1, *range(23)], range(24)])}, "kinematic tree"),
    ],
)
def test_files_that_are_no_smpl_are_refused(arrays, tmp_path, change, message):
    path = tmp_path / "SMPL_MALE.npz"
    np.savez(path, **arrays | change)
    with pytest.raises(BadFile, match=message):
        Smpl.read(path)


def test_a_pose_of_another_model_is_refused(smpl, person):
    with pytest.raises(ShapeError, match="24 rotation vectors"):
        smpl.pose(np.zeros((22, 3)), *person[1:])
