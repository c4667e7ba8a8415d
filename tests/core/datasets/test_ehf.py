"""EHF: meshes in the camera frame, its camera's prose, and what is torn or missing."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
from dataset_layouts import EHF_CAMERA, EHF_K, make_ehf, pixels

from hsr_core.datasets import open_dataset
from hsr_core.datasets.ehf import read_camera
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)


@pytest.mark.parametrize("ascii_ply", [False, True])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_vertices_hit_the_dots_of_the_picture(tmp_path, kind, ascii_ply):
    made = make_ehf(tmp_path / "EHF", kind=kind, ascii_ply=ascii_ply)
    for i, sample in enumerate(open_dataset("ehf", made.root).open("EHF")):
        person = sample.people[0]
        assert person.topology == "smplx"
        assert person.vertices.shape == (10475, 3)
        np.testing.assert_allclose(person.vertices[:24], made.joints[i, 0], atol=1e-5)
        np.testing.assert_array_equal(sample.frame.camera.K, EHF_K)
        uv = np.rint(pixels(person.vertices[:24], EHF_K)).astype(int)
        inside = ((uv >= 0) & (uv < (160, 120))).all(axis=1)
        assert inside.sum() > 15
        assert (sample.frame.image[uv[inside, 1], uv[inside, 0]] > 180).all()
        assert person.bbox_xyxy[0] < uv[:, 0].min() + 1


def test_key_points_are_openposes_25(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    person = next(iter(open_dataset("ehf", made.root).open("EHF"))).people[0]
    assert person.keypoint_names[9] == "right_hip"
    assert person.keypoints2d.shape == (25, 3)
    (made.root / "01_2Djnt.json").unlink()
    assert next(iter(open_dataset("ehf", made.root).open("EHF"))).people[0].keypoints2d is None


def test_joints_need_the_users_regressor(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    dataset = open_dataset("ehf", made.root)
    assert "SMPLX_to_J14" in dataset.notes[0]
    assert next(iter(dataset.open("EHF"))).people[0].joints is None
    rows = np.zeros((14, 10475))
    rows[range(14), range(14)] = 1  # vertex i is SMPL joint i here
    (tmp_path / "SMPLX_to_J14.pkl").write_bytes(pickle.dumps(rows))
    dataset = open_dataset("ehf", made.root, body_models=tmp_path)
    assert dataset.notes == ()
    person = next(iter(dataset.open("EHF"))).people[0]
    assert person.joint_names[2] == "right_hip"
    np.testing.assert_allclose(person.joints, made.joints[0, 0, :14], atol=1e-5)


def test_rotation_may_be_a_matrix(tmp_path):
    path = tmp_path / "EHF_camera.txt"
    matrix = cv2.Rodrigues(np.array([-2.98747896, 0.01172457, -0.05704687]))[0]
    head, _, tail = EHF_CAMERA.partition("Rotation")
    path.write_text(
        f"{head}Rotation matrix\n{np.array2string(matrix, precision=9)}\nTranslation{tail.partition('Translation')[2]}"
    )
    T = read_camera(path)[1]
    np.testing.assert_allclose(T[:3, :3], matrix, atol=1e-8)


@pytest.mark.parametrize("heading", ["Focal", "Principal", "Rotation", "Translation"])
def test_a_heading_that_is_missing_is_named(tmp_path, heading):
    made = make_ehf(tmp_path / "EHF")
    (made.root / "EHF_camera.txt").write_text(EHF_CAMERA.replace(heading, "Something"))
    with pytest.raises(BadFile, match=heading.lower()):
        open_dataset("ehf", made.root).open("EHF")


def test_a_torn_mesh_is_named(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    path = made.root / "02_align.ply"
    path.write_bytes(path.read_bytes()[:3000])
    sequence = open_dataset("ehf", made.root).open("EHF")
    with pytest.raises(BadFile, match="02_align"):
        list(sequence)


@pytest.mark.parametrize("content", [b"", b"ply\n", b"ply\nformat ascii 1.0\nelement face 3\nend_header\n"])
def test_what_is_no_mesh_is_named(tmp_path, content):
    made = make_ehf(tmp_path / "EHF", n=1)
    (made.root / "01_align.ply").write_bytes(content)
    with pytest.raises(BadFile, match="01_align"):
        list(open_dataset("ehf", made.root).open("EHF"))


def test_another_topology_is_refused(tmp_path):
    from dataset_layouts import write_ply

    made = make_ehf(tmp_path / "EHF", n=1)
    write_ply(made.root / "01_align.ply", np.zeros((6890, 3)), False)
    with pytest.raises(BadFile, match="6890 vertices"):
        list(open_dataset("ehf", made.root).open("EHF"))


def test_a_mesh_without_its_image_is_named(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    (made.root / "02_img.png").unlink()
    with pytest.raises(MissingFile, match="02_img"):
        open_dataset("ehf", made.root).open("EHF")


def test_a_missing_camera_file_is_named(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    (made.root / "EHF_camera.txt").unlink()
    with pytest.raises(MissingFile, match="EHF_camera"):
        open_dataset("ehf", made.root)


def test_a_picture_in_which_openpose_saw_nobody_has_no_key_points(tmp_path):
    made = make_ehf(tmp_path / "EHF")
    (made.root / "01_2Djnt.json").write_text('{"people": []}')
    first, *_ = open_dataset("ehf", made.root).open("EHF")
    assert first.people[0].keypoints2d is None
    assert first.people[0].valid


@pytest.mark.parametrize("flat", [[1, 2], [0.5] * 54, ["x"] * 75, [[1], [2, 3]]])
def test_key_points_of_another_form_are_named(tmp_path, flat):
    made = make_ehf(tmp_path / "EHF")
    (made.root / "01_2Djnt.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": flat}]}))
    with pytest.raises(BadFile, match=r"01_2Djnt.json: pose_keypoints_2d must"):
        list(open_dataset("ehf", made.root).open("EHF"))
