"""The open body: its conventions, its size, its face, and where its joints are."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hsr_core.body.joints import JOINT_NAMES, PARENTS, J
from hsr_core.errors import ShapeError
from hsr_core.types import HumanParams


def shaped(betas) -> HumanParams:
    betas = np.asarray(betas, np.float32)
    return HumanParams(betas=betas, head_betas=betas)


def component(k: int, size: float) -> np.ndarray:
    out = np.zeros(10, np.float32)
    out[k] = size
    return out


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = vertices[faces].transpose(1, 0, 2).astype(np.float64)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def inside(point: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """Winding number of a closed surface about a point, by solid angles: 1 inside, 0 outside."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) - point for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    top = np.einsum("ij,ij->i", a, np.cross(b, c))
    bottom = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float(np.arctan2(top, bottom).sum() / (2 * np.pi))


@pytest.fixture(scope="module")
def skin_faces(open_body) -> np.ndarray:
    """Triangles of the one big closed surface (without eyeballs and tongue)."""
    a, b = open_body.faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    part = connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=[open_body.n_vertices] * 2))[1]
    skin = part == np.bincount(part).argmax()
    return open_body.faces[skin[open_body.faces].all(axis=1)]


def test_size_and_names(open_body):
    assert open_body.n_vertices == 13718
    assert open_body.faces.shape == (27420, 3)
    assert open_body.faces.dtype == np.int32
    assert open_body.family == "OPEN"
    assert open_body.model_id.startswith("open-")
    assert open_body.n_betas == open_body.n_head_betas == open_body.n_expression == open_body.n_head_expression == 10
    assert open_body.layer.full.body.parents == PARENTS


def test_triangles_look_outward(open_body):
    vertices = open_body.rest(HumanParams())[0]
    assert 0.05 < volume(vertices, open_body.faces) < 0.1  # m^3: a person of 50 to 100 kg
    normal_up = np.cross(*(vertices[open_body.faces[:, i]] - vertices[open_body.faces[:, 0]] for i in (1, 2)))
    crown = (open_body.faces == open_body.surface_points["head_top"]).any(axis=1)
    assert (normal_up[crown, 1] > 0).all()


def test_rests_in_the_t_pose_of_smplx(open_body):
    joints = open_body.rest(HumanParams())[1]
    at = dict(zip(JOINT_NAMES, joints, strict=True))
    for side, sign in (("left", 1), ("right", -1)):
        arm = [at[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "middle1", "middle2", "middle3")]
        for a, b in pairwise(arm):
            along = (b - a) / np.linalg.norm(b - a)
            assert along[0] * sign > 0.98, side
        assert abs(arm[0][1] - arm[2][1]) < 0.01  # level [m]
        assert at[f"{side}_thumb3"][2] > at[f"{side}_middle3"][2] + 0.03  # palms down: thumbs forward
        leg = at[f"{side}_ankle"] - at[f"{side}_hip"]
        assert leg[1] / np.linalg.norm(leg) < -0.99
        assert at[f"{side}_foot"][2] - at[f"{side}_ankle"][2] > 0.08  # feet forward
    np.testing.assert_allclose(at["pelvis"], [0, -0.35, 0], atol=0.01)
    assert at["head"][1] > at["neck"][1] > at["spine3"][1] > at["spine2"][1] > at["spine1"][1] > at["pelvis"][1]


def test_signs_of_rotations_are_those_of_smplx(open_body):
    """Elbow flexion is about -y on the left, the knee bends backward about +x, the head nods down about +x."""
    posed = np.zeros((21, 3), np.float32)
    posed[J["left_elbow"] - 1, 1] = -1.5
    posed[J["left_knee"] - 1, 0] = 1.5
    posed[J["head"] - 1, 0] = 0.5
    rest, bent = open_body.pose_one(HumanParams()), open_body.pose_one(HumanParams(body_pose=posed))
    assert bent.joints[J["left_wrist"], 2] - rest.joints[J["left_wrist"], 2] > 0.2
    assert bent.joints[J["left_ankle"], 2] - rest.joints[J["left_ankle"], 2] < -0.3
    nose = open_body.surface_points["nose"]
    assert bent.vertices[nose, 1] < rest.vertices[nose, 1] - 0.02


@pytest.mark.parametrize("betas", [np.zeros(10), *(component(k, s) for k in range(5) for s in (-2.5, 2.5))])
def test_joints_lie_in_the_flesh(open_body, skin_faces, betas):
    vertices, joints = open_body.rest(shaped(betas))
    within = np.array([inside(joint, vertices, skin_faces) for joint in joints])
    eyes = [J["left_eye_smplhf"], J["right_eye_smplhf"]]
    outside = [JOINT_NAMES[j] for j in np.flatnonzero(within < 0.5) if j not in eyes]  # sockets are open
    assert outside == []


def test_neutral_is_an_adult_of_170_cm_and_the_first_beta_is_stature(open_body):
    assert open_body.stature(np.zeros(10)) == pytest.approx(1.70, abs=0.005)
    statures = [open_body.stature(component(0, s)) for s in (-3, 3)]
    assert statures[0] < 1.5
    assert statures[1] > 2.0
    for k in range(1, 10):  # the others leave stature alone
        assert open_body.stature(component(k, 2)) == pytest.approx(1.70, abs=0.01)


@pytest.mark.parametrize("height", [1.2, 1.5, 1.7, 1.85, 2.0])
def test_a_wanted_stature_is_reached_by_the_first_beta_mainly(open_body, height):
    start = np.array([0.3, 1, -1, 0.5, 0, 0, 1, 0, 0, -1], np.float32)
    betas = open_body.betas_for_height(height, start)
    assert open_body.stature(betas) == pytest.approx(height, abs=2e-4)
    assert np.abs(betas - start)[1:].max() < 0.05
    vertices = open_body.rest(shaped(betas))[0]  # stature means the mesh
    assert vertices[:, 1].max() - vertices[:, 1].min() == pytest.approx(height, abs=2e-3)


def test_the_head_with_the_bodys_betas_closes_the_seam(open_body):
    """Equal betas: the grafted head is where the body's own head would be."""
    betas = np.random.default_rng(0).normal(size=10).astype(np.float32) * 2
    whole = open_body._frame.body.shaped(betas, np.zeros(10)).T
    np.testing.assert_allclose(open_body.rest(shaped(betas))[0], whole, atol=3e-6)


@pytest.mark.parametrize("scale", [0.8, 1.3])
def test_a_scaled_head_stays_on_its_neck(open_body, scale):
    rest = open_body.rest(HumanParams())[0]
    scaled = open_body.rest(HumanParams(head_scale=np.full(3, scale, np.float32)))[0]
    moved = np.linalg.norm(scaled - rest, axis=1)
    seam_edges = crossing_edges(open_body.faces, moved > 0)
    gap = np.linalg.norm(scaled[seam_edges[:, 0]] - scaled[seam_edges[:, 1]], axis=1)
    assert gap.max() < 0.04  # the neck's radius (6 cm) times 0.3, and an edge
    height = rest[:, 1].max() - rest[open_body.faces][(moved[open_body.faces] > 0).all(1)][..., 1].min()
    assert scaled[:, 1].max() - rest[:, 1].max() == pytest.approx((scale - 1) * height, abs=0.04)


def crossing_edges(faces: np.ndarray, inside_set: np.ndarray) -> np.ndarray:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return edges[inside_set[edges[:, 0]] != inside_set[edges[:, 1]]]


def moved_by(body, **values) -> np.ndarray:
    params = HumanParams(**{name: np.asarray(v, np.float32) for name, v in values.items()})
    return body.rest(params)[0] - body.rest(HumanParams())[0]


def test_the_jaw_opens_the_mouth_and_leaves_eyes_and_neck(open_body):
    points = open_body.surface_points
    moved = moved_by(open_body, jaw_pose=[0.3, 0, 0])
    at = open_body.rest(HumanParams())[0]
    chin = np.argmin(np.linalg.norm(at - (at[points["nose"]] + [0, -0.075, -0.02]), axis=1))
    assert moved[chin, 1] < -0.01  # down
    for name in ("left_eye", "right_eye", "head_top", "nose"):
        assert np.linalg.norm(moved[points[name]]) < 1e-3, name
    edges = crossing_edges(open_body.faces, np.linalg.norm(moved, axis=1) > 0)
    assert np.linalg.norm(moved[edges].max(axis=1), axis=1).max() < 4e-3  # fades out: no step anywhere [m]


def test_each_lid_closes_its_own_eye(open_body):
    at = open_body.rest(HumanParams())[0]
    for lids, sign in (([1, 0], 1), ([0, 1], -1)):
        moved = np.linalg.norm(moved_by(open_body, eyelids=lids), axis=1)
        assert 0.003 < moved.max() < 0.02
        assert (at[moved > 1e-4, 0] * sign > 0).all()


def test_gaze_turns_the_eyeballs_and_hardly_the_lids(open_body):
    moved = np.linalg.norm(moved_by(open_body, leye_pose=[0, 0.3, 0], reye_pose=[0, 0.3, 0]), axis=1)
    assert moved[open_body.surface_points["left_eye"]] > 2e-3
    assert (moved > 5e-4).sum() < 160  # the two eyeballs have 144 vertices


def test_expression_moves_the_face_and_no_joint(open_body):
    neutral = open_body.rest(HumanParams())
    for k in range(10):
        vertices, joints = open_body.rest(HumanParams(head_expression=component(k, 2)))
        moved = np.linalg.norm(vertices - neutral[0], axis=1)
        assert 1e-3 < moved.max() < 0.03
        assert np.abs(joints - neutral[1]).max() < 2e-4


def test_facial_actions_become_expressions(open_body):
    smile = open_body.expression_from_actions({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8})
    moved = moved_by(open_body, head_expression=smile)
    at = open_body.rest(HumanParams())[0]
    nose = at[open_body.surface_points["nose"]]
    for sign in (1, -1):
        corner = np.argmin(np.linalg.norm(at - nose - np.array([sign * 0.025, -0.03, -0.015]), axis=1))
        assert moved[corner, 1] > 1e-3  # up
        assert moved[corner, 0] * sign > 0  # and apart
    np.testing.assert_allclose(open_body.expression_from_actions({"jawOpen": 1, "eyeBlinkLeft": 1}), 0, atol=1e-7)
    with pytest.raises(ShapeError, match="unknown facial actions"):
        open_body.expression_from_actions({"frown": 1})


def test_surface_points_are_where_their_names_say(open_body):
    vertices, joints = open_body.rest(HumanParams())
    at = {name: vertices[i] for name, i in open_body.surface_points.items()}
    joint = dict(zip(JOINT_NAMES, joints, strict=True))
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    assert at["head_top"][1] == vertices[:, 1].max()
    assert abs(at["nose"][0]) < 2e-3
    assert at["nose"][2] > at["left_eye"][2] > joint["left_eye_smplhf"][2] > at["left_ear"][2]
    for side, sign in (("left", 1), ("right", -1)):
        for finger in fingers:
            tip = at[f"{side}_{finger}_tip"] - joint[f"{side}_{finger}3"]
            assert 0.01 < np.linalg.norm(tip) < 0.04, finger
        assert np.linalg.norm(at[f"{side}_eye"] - joint[f"{side}_eye_smplhf"]) < 0.02
        assert at[f"{side}_ear"][0] * sign > 0.06
        assert abs(at[f"{side}_ear"][1] - at[f"{side}_eye"][1]) < 0.04
        assert at[f"{side}_heel"][2] < joint[f"{side}_ankle"][2] < at[f"{side}_big_toe"][2]
        assert at[f"{side}_small_toe"][0] * sign > at[f"{side}_big_toe"][0] * sign + 0.04
        for name in ("heel", "big_toe", "small_toe"):
            assert at[f"{side}_{name}"][1] < vertices[:, 1].min() + 0.05


def test_weights_and_regressor_rows_sum_to_one_and_are_sparse(open_body):
    part = open_body.layer.full.body
    np.testing.assert_allclose(part.weights.sum(dim=1), 1, atol=1e-5)
    regressor = part.J_regressor
    np.testing.assert_allclose(regressor.sum(dim=1), 1, atol=1e-5)
    assert (regressor >= 0).all()
    assert (regressor != 0).sum(dim=1).max() < 400


def test_importing_the_package_is_light():
    code = (
        "import sys, hsr_core.body, hsr_core.body.ehm, hsr_core.body.open_cache, hsr_core.body.licensed;"
        "print([m for m in ('anny', 'smplx', 'chumpy', 'mediapipe', 'torch', 'warp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
