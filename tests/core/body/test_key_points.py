"""The 145 key points, on generated files of the true shapes."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import synthetic_models as synthetic
from scipy.spatial.transform import Rotation

from hsr_core.body import KEY_POINT_NAMES, EhmBody, KeyPoints, load_body
from hsr_core.body.joints import JOINT_NAMES, J
from hsr_core.body.key_points import contour_row
from hsr_core.errors import BadFile, MissingFile, ShapeError
from hsr_core.types import HumanParams

FLOAT32_M = 2e-6

# Row -> vertex, typed from the published table; its one point between vertices is tested by itself.
EXTRA_VERTICES = {
    124: 5770, 125: 6, 126: 9448, 127: 8846, 128: 4933, 129: 5058, 130: 5286, 131: 5169, 132: 5780, 133: 5361,
    134: 9120, 135: 8463, 136: 616, 137: 9929, 138: 8635, 139: 7669, 140: 7794, 141: 8022, 142: 7905, 143: 8474,
    144: 8079,
}  # fmt: skip
J14_OF_JOINT = {
    "left_knee": 4, "right_knee": 1, "neck": 12, "head": 13, "left_shoulder": 9, "right_shoulder": 8,
    "left_elbow": 10, "right_elbow": 7, "left_wrist": 11, "right_wrist": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def person(synthetic_body: EhmBody, make_params) -> HumanParams:
    return make_params(synthetic_body, np.random.default_rng(5))


@pytest.fixture(scope="module")
def j14() -> np.ndarray:
    return synthetic.j14_array(np.random.default_rng(6))


@pytest.fixture
def changed_files(synthetic_body: EhmBody, monkeypatch):
    """Let the body's key point files be others, for one test."""

    def change(**values) -> EhmBody:
        files = dataclasses.replace(synthetic_body.key_point_files, **values)
        monkeypatch.setattr(synthetic_body, "key_point_files", files)
        return synthetic_body

    return change


def write_j14(path: Path, array: object) -> Path:
    path.write_bytes(pickle.dumps(array, protocol=2))
    return path


def barycentric(content, vertices: np.ndarray, triangle: int, weights: np.ndarray) -> np.ndarray:
    a, b, c = vertices[content["smplx"]["f"][triangle].astype(int)].astype(np.float64)
    return weights[0] * a + weights[1] * b + weights[2] * c


def test_names_are_those_of_the_published_table():
    assert len(KEY_POINT_NAMES) == len(set(KEY_POINT_NAMES)) == 145
    assert KEY_POINT_NAMES[:55] == JOINT_NAMES
    expected = {
        55: "right_brow1", 59: "right_brow5", 60: "left_brow5", 64: "left_brow1", 65: "nose_bridge1",
        69: "nose_lower1", 73: "nose_lower5", 74: "right_eye1", 79: "right_eye6", 80: "left_eye4", 84: "left_eye6",
        85: "left_eye5", 86: "mouth_outer1", 97: "mouth_outer12", 98: "mouth_inner1", 105: "mouth_inner8",
        106: "right_contour1", 113: "right_contour8", 114: "chin", 115: "left_contour8", 122: "left_contour1",
        123: "head_top", 124: "left_big_toe", 125: "left_ear", 126: "left_eye", 127: "left_heel",
        128: "left_index_tip", 130: "left_pinky_tip", 132: "left_small_toe", 133: "left_thumb_tip", 134: "nose",
        135: "right_big_toe", 137: "right_eye", 142: "right_ring_tip", 144: "right_thumb_tip",
    }  # fmt: skip
    assert {i: KEY_POINT_NAMES[i] for i in expected} == expected


def test_joints_landmarks_contour_and_extra_points(synthetic_body, model_folder, person):
    content, posed = model_folder[1], synthetic_body.pose_one(person)
    points = KeyPoints(synthetic_body)(posed)
    assert points.shape == (145, 3)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[:55], posed.joints)
    smplx = content["smplx"]
    for i in range(51):
        expected = barycentric(content, posed.vertices, smplx["lmk_faces_idx"][i], smplx["lmk_bary_coords"][i])
        np.testing.assert_allclose(points[55 + i], expected, atol=FLOAT32_M)
    for i, vertex in EXTRA_VERTICES.items():
        np.testing.assert_array_equal(points[i], posed.vertices[vertex], err_msg=KEY_POINT_NAMES[i])
    top = 0.827734 * posed.vertices[9003] + 0.142220 * posed.vertices[2133] + 0.030046 * posed.vertices[2132]
    np.testing.assert_allclose(points[123], top, atol=FLOAT32_M)


@pytest.mark.parametrize("turn_deg", [0, 12, -25, 70, -70])
def test_the_contour_follows_the_head_from_the_root_on(synthetic_body, model_folder, turn_deg):
    """The angle is worked out again from the parameters, by another library's Euler angles."""
    pose = np.zeros((21, 3), np.float32)
    for name, angle in (("spine2", 0.1), ("neck", -0.05), ("head", np.radians(turn_deg))):
        pose[J[name] - 1] = [0.02, angle, 0.03]
    params = HumanParams(global_orient=np.array([np.pi - 0.2, 0.1, 0], np.float32), body_pose=pose)
    chain = Rotation.from_rotvec(params.global_orient)
    for name in ("spine1", "spine2", "spine3", "neck", "head"):
        chain = chain * Rotation.from_rotvec(pose[J[name] - 1])
    angle = -chain.as_euler("ZYX", degrees=True)[1]
    row = {True: round(min(angle, 39)), False: 39 + round(min(-angle, 39))}[angle >= 0]
    posed = synthetic_body.pose_one(params)
    points = KeyPoints(synthetic_body)(posed)
    content, smplx = model_folder[1], model_folder[1]["smplx"]
    for i in range(17):
        triangle, weights = smplx["dynamic_lmk_faces_idx"][row, i], smplx["dynamic_lmk_bary_coords"][row, i]
        expected = barycentric(content, posed.vertices, triangle, weights)
        np.testing.assert_allclose(points[106 + i], expected, atol=FLOAT32_M)


@pytest.mark.parametrize(
    ("y_deg", "row"),
    [(0, 0), (0.4, 0), (-0.4, 0), (10, 10), (39, 39), (60, 39), (-1, 40), (-38.6, 78), (-39, 78), (-60, 78)],
)
def test_one_row_a_degree(y_deg, row):
    for z_deg, x_deg in ((0, 0), (20, -35), (0, 180)):
        turn = Rotation.from_euler("ZYX", [z_deg, -y_deg, x_deg], degrees=True).as_matrix()
        assert contour_row(turn.astype(np.float32)) == row


def test_j14_replaces_ten_joints_and_no_others(changed_files, synthetic_body, person, j14, tmp_path, caplog):
    posed = synthetic_body.pose_one(person)
    plain = KeyPoints(synthetic_body)(posed)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        key_points = KeyPoints(changed_files(j14=write_j14(tmp_path / "SMPLX_to_J14.pkl", j14)))
    assert not caplog.text
    assert key_points.has_j14
    points = key_points(posed)
    for name, row in J14_OF_JOINT.items():
        np.testing.assert_allclose(points[J[name]], j14[row] @ posed.vertices, atol=FLOAT32_M, err_msg=name)
    replaced = [J[name] for name in J14_OF_JOINT]
    assert (np.abs(points[replaced] - plain[replaced]).max(axis=1) > 1e-3).all()
    others = np.setdiff1d(np.arange(145), replaced)
    np.testing.assert_array_equal(points[others], plain[others])


def test_without_j14_it_is_said_once(synthetic_body, person, caplog):
    posed = synthetic_body.pose_one(person)
    with caplog.at_level(logging.WARNING):
        key_points = KeyPoints(synthetic_body)
        for _ in range(3):
            key_points(posed)
    assert not key_points.has_j14
    assert caplog.text.count("SMPLX_to_J14.pkl") == 1


def test_key_points_move_with_the_person(changed_files, synthetic_body, person, j14, tmp_path):
    key_points = KeyPoints(changed_files(j14=write_j14(tmp_path / "SMPLX_to_J14.pkl", j14)))
    shift = np.array([0.5, -1, 4], np.float32)
    moved = dataclasses.replace(person, transl=person.transl + shift)
    before, after = (key_points(synthetic_body.pose_one(p)) for p in (person, moved))
    np.testing.assert_allclose(after - before, np.broadcast_to(shift, before.shape), atol=5e-6)


def test_the_answer_is_the_callers_own(synthetic_body, person):
    key_points, posed = KeyPoints(synthetic_body), synthetic_body.pose_one(person)
    first = key_points(posed)
    kept, joints = first.copy(), posed.joints.copy()
    first[:] = np.nan
    np.testing.assert_array_equal(posed.joints, joints)
    np.testing.assert_array_equal(key_points(posed), kept)


# --- what cannot be had, and bad files ---------------------------------------------------------------------------


def test_the_open_body_names_what_it_has_instead(open_body):
    with pytest.raises(MissingFile, match="surface_points"):
        KeyPoints(open_body)


def test_a_skeleton_and_anothers_mesh_are_refused(synthetic_body, open_body):
    key_points = KeyPoints(synthetic_body)
    with pytest.raises(ShapeError, match=r"\(10475, 3\), not none"):
        key_points(synthetic_body.pose_one(HumanParams(), vertices=False))
    with pytest.raises(ShapeError, match=r"\(10475, 3\), not \(13718, 3\)"):
        key_points(open_body.pose_one(HumanParams()))


def test_files_are_found_in_the_folder_and_their_lack_does_not_stop_the_body(tmp_path, model_folder, person, j14):
    """Without the landmark tables the body loads and poses; only key points are refused, by the file's name."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in model_folder[0].iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "SMPLX").mkdir()
    write_j14(folder / "SMPLX" / "SMPLX_to_J14.pkl", j14)
    assert KeyPoints(load_body(folder)).has_j14
    (folder / "SMPLX_NEUTRAL_2020.npz").unlink()
    arrays = {k: v for k, v in model_folder[1]["smplx"].items() if "lmk_bary" not in k}
    np.savez(folder / "SMPLX_NEUTRAL_2020.npz", **arrays)
    body = load_body(folder)
    body.pose_one(person)
    with pytest.raises(BadFile, match=r"SMPLX_NEUTRAL_2020\.npz has no lmk_bary_coords, dynamic_lmk_bary_coords"):
        KeyPoints(body)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("lmk_faces_idx", lambda a: a[:50], r"lmk_faces_idx must have shape \(51\), not \(50,\)"),
        ("lmk_faces_idx", lambda a: np.full_like(a, 20908), r"lmk_faces_idx must name triangles 0\.\.20907"),
        ("lmk_faces_idx", lambda a: a.astype(np.int64) - 20908, r"lmk_faces_idx must name triangles"),
        ("lmk_bary_coords", lambda a: a.T, r"lmk_bary_coords must have shape \(51, 3\), not \(3, 51\)"),
        ("lmk_bary_coords", lambda a: a * 0.9, "weights of lmk_bary_coords must sum to one"),
        ("lmk_bary_coords", lambda a: a * np.nan, "lmk_bary_coords holds values that are not finite"),
        ("dynamic_lmk_faces_idx", lambda a: a.T, r"must have shape \(79, 17\), not \(17, 79\)"),
        ("dynamic_lmk_faces_idx", lambda a: a + 20908, "dynamic_lmk_faces_idx must name triangles"),
        ("dynamic_lmk_bary_coords", lambda a: a[..., :2], r"must have shape \(79, 17, 3\)"),
    ],
)
def test_bad_tables_are_refused_by_name(changed_files, synthetic_body, name, spoil, message):
    tables = dict(synthetic_body.key_point_files.tables)
    tables[name] = spoil(tables[name])
    with pytest.raises(BadFile, match=message) as caught:
        KeyPoints(changed_files(tables=tables))
    assert "SMPLX_NEUTRAL_2020.npz" in str(caught.value)


class _Bomb:
    def __reduce__(self):
        return print, ("code of a pickle ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda a: pickle.dumps(a.T), r"must have shape \(14, 10475\), not \(10475, 14\)"),
        (lambda a: pickle.dumps(a * 2), "must sum to one"),
        (lambda a: pickle.dumps(a)[:5000], "download it again"),
        (lambda a: b"", "download it again"),
        (lambda a: pickle.dumps({"J": a}), "a dict, not an array"),
        (lambda a: pickle.dumps(_Bomb()), "print"),
    ],
)
def test_a_bad_j14_file_is_refused_by_name_and_never_run(changed_files, tmp_path, capsys, j14, content, message):
    path = tmp_path / "SMPLX_to_J14.pkl"
    path.write_bytes(content(j14))
    with pytest.raises(BadFile, match=message) as caught:
        KeyPoints(changed_files(j14=path))
    assert str(path) in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_j14_file_of_python_2_is_read(changed_files, synthetic_body, tmp_path, j14):
    path = tmp_path / "SMPLX_to_J14.pkl"
    path.write_bytes(synthetic.python2_dumps(j14))
    posed = synthetic_body.pose_one(HumanParams())
    points = KeyPoints(changed_files(j14=path))(posed)
    np.testing.assert_allclose(points[J["neck"]], j14[12] @ posed.vertices, atol=FLOAT32_M)
