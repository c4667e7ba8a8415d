"""EHM-s against a slow version in float64: loops over joints, one person, nothing kept and nothing restricted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body import EhmBody, EhmParams
from hsr_core.body.open_cache import open_body_files
from hsr_core.types import HumanParams

TOLERANCE_M = 1e-5
"""Float32 against float64 at two metres; a step left out or in another order shows from a millimetre on."""
SEEDS = range(4)

LEFT_EYE, RIGHT_EYE = 23, 24
HEAD_LEFT_EYE, HEAD_RIGHT_EYE = 3, 4


def slow_matrix(rotvec: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(np.asarray(rotvec, np.float64)).as_matrix()


def slow_skinning(part: Mapping[str, Any], vertices: np.ndarray, rotations: list[np.ndarray]):
    """Linear blend skinning of (V, 3); returns vertices, posed joints and global rotations."""
    n = len(rotations)
    rest = np.stack([part["J_regressor"][j] @ vertices for j in range(n)])
    feature = np.concatenate([(rotations[j] - np.eye(3)).reshape(9) for j in range(1, n)])
    if part["posedirs"].shape[2]:
        vertices = vertices + part["posedirs"] @ feature
    world = []
    for j in range(n):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        parent = part["parents"][j]
        local[:3, 3] = rest[j] if j == 0 else rest[j] - rest[parent]
        world.append(local if j == 0 else world[parent] @ local)
    out = np.zeros_like(vertices)
    for j in range(n):
        motion = world[j].copy()
        motion[:3, 3] -= motion[:3, :3] @ rest[j]
        out += part["weights"][:, j : j + 1] * (vertices @ motion[:3, :3].T + motion[:3, 3])
    return out, np.stack([m[:3, 3] for m in world]), np.stack([m[:3, :3] for m in world])


def slow_shape(part: Mapping[str, Any], betas: np.ndarray, expression: np.ndarray) -> np.ndarray:
    vertices = np.array(part["v_template"], np.float64)
    for i, value in enumerate(betas):
        vertices += float(value) * part["shapedirs"][:, :, i]
    for i, value in enumerate(expression):
        vertices += float(value) * part["exprdirs"][:, :, i]
    return vertices


def slow_ehm(model: Mapping[str, Any], p: HumanParams):
    """EHM-s step by step, as published: shape and pose the head, lids, scale, graft at the eyes, skin the body."""
    head, body, still = model["head"], model["body"], np.eye(3)
    h = slow_shape(head, p.head_betas, p.head_expression)
    turns = [still, still, *(slow_matrix(v) for v in (p.jaw_pose, p.leye_pose, p.reye_pose))]
    h, h_joints, _ = slow_skinning(head, h, turns)
    h = h + float(p.eyelids[0]) * model["lids"][0] + float(p.eyelids[1]) * model["lids"][1]
    h = h * np.asarray(p.head_scale, np.float64)

    b = slow_shape(body, p.betas, p.expression)
    b_joints = body["J_regressor"] @ b
    shift = (b_joints[LEFT_EYE] + b_joints[RIGHT_EYE]) / 2 - (h_joints[HEAD_LEFT_EYE] + h_joints[HEAD_RIGHT_EYE]) / 2
    kept = set(model["kept"].tolist())
    for k, target in enumerate(model["ids"]):
        if k not in kept:
            b[target] = h[k] + shift

    turns = [slow_matrix(p.global_orient), *(slow_matrix(v) for v in p.body_pose), still, still, still]
    turns += [slow_matrix(v) for v in (*p.left_hand_pose, *p.right_hand_pose)]
    vertices, joints, rotmats = slow_skinning(body, b, turns)
    return vertices + p.transl, joints + p.transl, rotmats


def double(part: dict[str, Any]) -> dict[str, Any]:
    return {name: v if name == "parents" else np.asarray(v, np.float64) for name, v in part.items()}


@pytest.fixture(scope="module")
def published_files(model_folder) -> dict[str, Any]:
    """The arrays that were written into the generated files, cut as the published layer cuts them."""
    content = model_folder[1]

    def part(arrays: Mapping[str, Any], n_shape: int) -> dict[str, Any]:
        same = {name: arrays[name] for name in ("v_template", "posedirs", "J_regressor", "weights")}
        dirs = arrays["shapedirs"]
        parents = [-1, *map(int, arrays["kintree_table"][0, 1:])]
        cut = {"shapedirs": dirs[:, :, :n_shape], "exprdirs": dirs[:, :, 300:350]}
        return double({**same, **cut, "parents": parents})

    return {
        "body": part(content["smplx"], 200), "head": part(content["flame"], 300),
        "ids": content["ids"], "kept": content["kept"], "lids": content["lids"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def open_files() -> dict[str, Any]:
    """The arrays of the open body's file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HSR_BODY_MODELS", raising=False)
        files = open_body_files()
    head = files.head
    return {
        "body": double(vars(files.body)), "head": double(vars(head.mesh)),
        "ids": head.vertex_ids, "kept": head.kept, "lids": head.lids.astype(np.float64),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["synthetic", "open"])
def both(request) -> tuple[EhmBody, dict[str, Any]]:
    files = {"synthetic": "published_files", "open": "open_files"}[request.param]
    return request.getfixturevalue(f"{request.param}_body"), request.getfixturevalue(files)


@pytest.fixture(scope="module")
def people(both, make_params) -> list[tuple[HumanParams, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Random people with what the slow version makes of them."""
    body, model = both
    drawn = [make_params(body, np.random.default_rng(seed), size=0.6) for seed in SEEDS]
    return [(p, slow_ehm(model, p)) for p in drawn]


def test_the_files_have_the_published_sizes(published_files):
    assert len(published_files["body"]["v_template"]) == 10475
    assert len(published_files["head"]["v_template"]) == 5023
    assert len(published_files["kept"]) == 315


def test_every_parameter_of_these_people_counts(both, people):
    """Else the comparisons below could not see a step that is left out."""
    body, _ = both
    params, (vertices, _, _) = people[0]
    without = {"head_scale": np.ones(3, np.float32)}
    for name in vars(params):
        if body.family == "OPEN" and name == "expression":
            continue  # acts on the face, which is replaced
        other = without.get(name, np.zeros_like(getattr(params, name)))
        changed = HumanParams(**{**vars(params), name: other})
        assert np.abs(body.pose_one(changed).vertices - vertices).max() > 20 * TOLERANCE_M, name


def test_the_batch_equals_the_slow_version(both, people):
    body, _ = both
    params = EhmParams.from_human([p for p, _ in people])
    full, skeleton = body(params), body(params, vertices=False)
    for i, (_, (vertices, joints, rotmats)) in enumerate(people):
        np.testing.assert_allclose(full.vertices[i], vertices, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(full.joints[i], joints, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(skeleton.joints[i], joints, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(full.joint_rotmats[i], rotmats, rtol=0, atol=1e-5)


def test_the_frame_path_equals_the_slow_version(both, people):
    body, _ = both
    for params, (vertices, joints, rotmats) in people:
        posed, skeleton = body.pose_one(params), body.pose_one(params, vertices=False)
        np.testing.assert_allclose(posed.vertices, vertices, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(posed.joints, joints, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(skeleton.joints, joints, rtol=0, atol=TOLERANCE_M)
        np.testing.assert_allclose(posed.joint_rotmats, rotmats, rtol=0, atol=1e-5)
