"""The canonical body against the body model itself, and rotations against the matrix exponential."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import roma
import torch
import trimesh
from scipy.linalg import expm, expm_frechet
from scipy.spatial import cKDTree

from hsr_core.body.base import EhmParams
from hsr_core.body.joints import JOINT_NAMES, PARENTS, J
from hsr_core.body.skinning import rigid_chain, skin
from hsr_core.errors import ShapeError
from hsr_core.refine.avatar import blended
from hsr_core.refine.skin import (
    CanonicalBody,
    canonical_rotmats,
    local_rotmats,
    transform_rows,
    vertex_normals_and_areas,
)
from hsr_core.types import HumanParams


def hat(v: np.ndarray) -> np.ndarray:
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


@pytest.mark.parametrize("angle", [0, 1e-9, 1e-4, 1.0, np.pi - 1e-4])
@pytest.mark.parametrize(("dtype", "gradient_tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_rotation_and_gradient_are_those_of_the_matrix_exponential(angle, dtype, gradient_tolerance):
    rotvec = torch.tensor(np.array([0.36, -0.48, 0.8]) * angle, dtype=dtype)
    exact = rotvec.double().numpy()

    gradient = torch.autograd.functional.jacobian(roma.rotvec_to_rotmat, rotvec).double().numpy()

    want = np.stack([expm_frechet(hat(exact), hat(axis), compute_expm=False) for axis in np.eye(3)], axis=-1)
    assert np.abs(roma.rotvec_to_rotmat(rotvec).double().numpy() - expm(hat(exact))).max() < 1e-6
    assert np.abs(gradient - want).max() < gradient_tolerance  # float32: cancellation in 1 - cos at 1e-4 rad


def posed_vertices(body: CanonicalBody, rotmats: torch.Tensor) -> torch.Tensor:
    rest = transform_rows(body.to_rest, body.vertices)
    if body.posedirs is not None:
        feature = body.pose_feature(rotmats) - body.canonical_feature
        rest = rest + (feature @ body.posedirs.flatten(1)).unflatten(1, (-1, 3))
    return transform_rows(blended(body.weights, body.rest_motions(rotmats)), rest)


@pytest.mark.parametrize("which", ["open_body", "synthetic_body"])
def test_canonical_vertices_move_exactly_as_the_body_does(which, person, request):
    model = request.getfixturevalue(which)
    body = CanonicalBody.from_body(model, person)

    moved = posed_vertices(body, local_rotmats(person)[None])[0] + torch.as_tensor(person.transl)

    assert (moved - torch.as_tensor(model.pose_one(person).vertices)).abs().max() < 1e-5
    assert (moved - model(EhmParams.from_human([person])).vertices[0]).abs().max() < 1e-5
    assert (body.posedirs is None) == (which == "open_body")


def test_without_pose_offsets_it_is_skinning_of_the_rest_mesh(synthetic_body, person):
    body = CanonicalBody.from_body(synthetic_body, person, use_pose_offsets=False)
    rotmats = local_rotmats(person)[None]
    rest, joints = (torch.as_tensor(x)[None] for x in synthetic_body.rest(person))
    part = synthetic_body.layer.full.body

    want = skin(rest, part.weights, *rigid_chain(rotmats, joints, part.ancestors), joints)

    assert body.posedirs is None
    assert (posed_vertices(body, rotmats) - want).abs().max() < 1e-5


def test_bones_are_still_in_the_canonical_pose_and_products_along_the_tree_elsewhere(canonical, person):
    poses = torch.stack([canonical_rotmats(), local_rotmats(person)])
    bones = canonical.bones(poses)
    still = torch.eye(3, 4).expand(len(JOINT_NAMES), 3, 4)
    assert (bones[0] - still).abs().max() < 1e-6

    def world(rotmats: np.ndarray) -> list[np.ndarray]:
        joints, out = canonical.joints.numpy(), []
        for j, parent in enumerate(PARENTS):
            local = np.eye(4)
            local[:3, :3] = rotmats[j]
            local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
            out.append(out[parent] @ local if parent >= 0 else local)
        return out

    for j, (now, before) in enumerate(zip(world(poses[1].numpy()), world(poses[0].numpy()), strict=True)):
        assert np.abs(bones[1, j].numpy() - (now @ np.linalg.inv(before))[:3]).max() < 1e-5


def test_turning_the_root_turns_the_body_about_its_pelvis(canonical):
    turn = roma.rotvec_to_rotmat(torch.tensor([0.4, 1.0, -0.3]))
    pose = canonical_rotmats()
    turned = pose.clone()
    turned[0] = turn
    pelvis = canonical.joints[0]
    before = posed_vertices(canonical, pose[None])[0]
    assert (posed_vertices(canonical, turned[None])[0] - ((before - pelvis) @ turn.T + pelvis)).abs().max() < 1e-5


def test_gradient_of_bones_by_rotation_is_that_of_finite_differences(open_body, person):
    body = CanonicalBody.from_body(open_body, person).double()
    pose = local_rotmats(person).double()
    joints = [0, J["left_hip"], J["right_elbow"]]

    def bones(increments: torch.Tensor) -> torch.Tensor:
        turned = pose.clone()
        turned[joints] = pose[joints] @ roma.rotvec_to_rotmat(increments)
        return body.bones(turned[None])[0, ::6]

    start = torch.full((3, 3), 1e-3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bones, (start,), atol=1e-6)


def test_the_canonical_pose_keeps_limbs_apart(canonical):
    vertices, weights = canonical.vertices.numpy(), canonical.weights.numpy()

    def part(*names: str) -> np.ndarray:
        return vertices[weights[:, [J[name] for name in names]].sum(axis=1) > 0.9]

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        return cKDTree(a).query(b)[0].min()

    legs = [part(*(f"{side}_{name}" for name in ("hip", "knee", "ankle", "foot"))) for side in ("left", "right")]
    torso = part("pelvis", "spine1", "spine2", "spine3")
    assert gap(*legs) > 2 * (0.02 + 0.01)
    for side in ("left", "right"):
        assert gap(torso, part(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")) > 0.05


def test_normals_and_areas_of_a_sphere():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    vertices = torch.as_tensor(sphere.vertices.copy())
    normals, areas = vertex_normals_and_areas(vertices, torch.as_tensor(sphere.faces.copy()))
    assert (normals - vertices).abs().max() < 0.02  # a sphere's normal is its point; facets are 8 degrees wide
    assert areas.sum().item() == pytest.approx(sphere.area, rel=1e-9)


def test_a_vertex_without_faces_has_a_normal_and_no_area():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    normals, areas = vertex_normals_and_areas(vertices, torch.tensor([[0, 1, 2]]))
    assert torch.equal(normals, torch.tensor([[0.0, 0, 1]]).expand(4, 3))
    assert torch.allclose(areas, torch.tensor([1 / 6, 1 / 6, 1 / 6, 0]))


def test_shape_values_that_are_not_finite_are_refused(open_body):
    with pytest.raises(ShapeError, match="finite"):
        CanonicalBody.from_body(open_body, HumanParams(betas=np.full(10, np.nan, np.float32)))


def test_importing_the_package_loads_no_torch():
    code = "import sys, hsr_core.refine; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
