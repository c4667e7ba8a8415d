"""What every body model owes the rest of the library; one row per model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hsr_core.body import BodyModel, EhmParams, load_body
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.types import HumanParams

MODELS = ["open"]


@pytest.fixture(scope="module", params=MODELS)
def body(request) -> BodyModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HSR_BODY_MODELS", raising=False)
        return load_body()


def person(body: BodyModel, seed: int) -> HumanParams:
    rng = np.random.default_rng(seed)
    return HumanParams(
        global_orient=rng.normal(size=3).astype(np.float32),
        transl=rng.normal(size=3).astype(np.float32),
        body_pose=(0.3 * rng.normal(size=(21, 3))).astype(np.float32),
        betas=rng.normal(size=body.n_betas).astype(np.float32),
        head_betas=rng.normal(size=body.n_head_betas).astype(np.float32),
        expression=rng.normal(size=body.n_expression).astype(np.float32),
        head_expression=rng.normal(size=body.n_head_expression).astype(np.float32),
    )


def test_attributes(body):
    assert body.family in ("OPEN", "EHMS")
    assert body.model_id
    assert body.licence_note
    assert body.faces.dtype == np.int32
    assert all(n > 0 for n in (body.n_betas, body.n_expression, body.n_head_betas, body.n_head_expression))
    for name in ("head_top", "nose", "left_eye", "left_ear", "right_heel", "right_big_toe", "left_thumb_tip"):
        assert 0 <= body.surface_points[name] <= body.faces.max()


def test_rest_pose(body):
    vertices, joints = body.rest(HumanParams())
    posed = body.pose_one(HumanParams())
    np.testing.assert_allclose(posed.vertices, vertices, atol=1e-6)
    np.testing.assert_allclose(posed.joints, joints, atol=1e-6)
    np.testing.assert_allclose(posed.joint_rotmats, np.broadcast_to(np.eye(3), (55, 3, 3)), atol=1e-6)
    assert 1.4 < np.ptp(vertices[:, 1]) < 2.1
    assert vertices.shape == (body.faces.max() + 1, 3)


def test_translation_is_added_after_skinning(body):
    at_rest, moved = body.pose_one(HumanParams()), body.pose_one(HumanParams(transl=np.array([1, -2, 3], np.float32)))
    np.testing.assert_allclose(
        moved.vertices - at_rest.vertices, np.broadcast_to([1, -2, 3], moved.vertices.shape), atol=1e-6
    )


def test_the_root_turns_about_the_pelvis(body):
    turn = np.array([0.3, 1.0, -0.5], np.float32)
    a, b = body.pose_one(HumanParams()), body.pose_one(HumanParams(global_orient=turn))
    expected = (a.vertices - a.joints[0]) @ rotvec_to_rotmat(turn).T + a.joints[0]
    np.testing.assert_allclose(b.vertices, expected, atol=3e-6)


def test_one_person_equals_the_batch(body):
    people = [person(body, seed) for seed in range(2)]
    batch = body(EhmParams.from_human(people))
    for i, p in enumerate(people):
        np.testing.assert_allclose(body.pose_one(p).vertices, batch.vertices[i], atol=3e-6)


def test_every_parameter_has_a_gradient(body):
    params = EhmParams.from_human([person(body, 3)])
    leaves = {name: value.clone().requires_grad_() for name, value in vars(params).items()}
    out = body(EhmParams(**leaves))
    weights = torch.linspace(-1, 1, out.vertices.numel()).reshape(out.vertices.shape)
    (out.vertices * weights).sum().backward()
    for name, leaf in leaves.items():
        assert torch.isfinite(leaf.grad).all(), name
        if name != "expression":  # acts through the eyes' place and the seam only, perhaps not at all
            assert leaf.grad.abs().max() > 0, name


def test_height(body):
    betas = body.betas_for_height(1.8)
    assert body.stature(betas) == pytest.approx(1.8, abs=1e-3)
