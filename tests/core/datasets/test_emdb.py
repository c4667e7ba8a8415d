"""EMDB: flags and good frames, and what is known with and without SMPL files."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from dataset_layouts import HW, make_emdb, pixels, smpl_arrays, to_camera
from scipy.spatial.transform import Rotation

from hsr_core.datasets import open_dataset
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets") / "EMDB"
    make_emdb(root, name="01_other", flags=(False, True))
    return make_emdb(root)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "smpl").mkdir()
    np.savez(folder / "smpl" / "SMPL_MALE.npz", **smpl_arrays(0))
    return folder


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)


def changed(tmp_path, change):
    made = make_emdb(tmp_path / "EMDB")
    path = made.root / "P0" / "00_square" / "P0_00_square_data.pkl"
    data = pickle.loads(path.read_bytes())
    change(data)
    path.write_bytes(pickle.dumps(data))
    return made


def test_flags_choose_the_sequences(made):
    assert open_dataset("emdb", made.root).sequences() == ("P0/00_square",)
    assert open_dataset("emdb", made.root, split="emdb2").sequences() == ("P0/01_other",)
    assert open_dataset("emdb", made.root, split="all").sequences() == ("P0/00_square", "P0/01_other")


def test_bad_frames_are_not_scored(made):
    samples = list(open_dataset("emdb", made.root).open(made.sequence))
    assert [sample.people[0].valid for sample in samples] == [True, True, False, True]
    assert samples[2].people[0].keypoints2d[:, 2].max() == 0
    assert samples[2].people[0].bbox_xyxy is None


def test_without_smpl_there_are_rotations_and_points_and_it_says_so(made):
    dataset = open_dataset("emdb", made.root)
    assert "no 3D joints" in dataset.notes[0]
    for i, sample in enumerate(dataset.open(made.sequence)):
        person = sample.people[0]
        assert person.joints is None
        assert person.vertices is None
        assert np.isnan(person.params.transl).all()
        root = Rotation.from_matrix(made.T_cam_world[i, :3, :3]) * Rotation.from_rotvec([0, 0.3, 0])
        np.testing.assert_allclose(
            Rotation.from_rotvec(person.params.global_orient).as_matrix(), root.as_matrix(), atol=1e-6
        )
        np.testing.assert_allclose(person.keypoints2d[:, :2], pixels(made.joints[i, 0]), atol=1e-6)


def test_with_smpl_joints_are_those_of_the_tree_and_hit_the_key_points(made, models):
    for i, sample in enumerate(open_dataset("emdb", made.root, body_models=models).open(made.sequence)):
        person = sample.people[0]
        np.testing.assert_allclose(person.joints, made.joints[i, 0], atol=2e-5)
        assert person.vertices.shape == (6890, 3)
        assert person.params.finite()
        rest = smpl_arrays(0)
        pelvis = rest["J_regressor"][0] @ (rest["v_template"] + rest["shapedirs"] @ person.params.betas)
        np.testing.assert_allclose(person.params.transl + pelvis, made.joints[i, 0, 0], atol=2e-5)


def test_the_environment_names_the_models_too(made, models, monkeypatch):
    monkeypatch.setenv("HSR_BODY_MODELS", str(models))
    assert next(iter(open_dataset("emdb", made.root).open(made.sequence))).people[0].joints is not None


def test_the_camera_moves_and_the_world_does_not(made, models):
    samples = list(open_dataset("emdb", made.root, body_models=models).open(made.sequence))
    roots = [to_camera(sample.people[0].joints[0], sample.T_world_cam) for sample in samples]
    np.testing.assert_allclose(np.diff(roots, axis=0), np.broadcast_to([0.02, 0, 0.01], (3, 3)), atol=2e-5)


def test_smaller_images_get_a_smaller_camera(tmp_path):
    made = make_emdb(tmp_path / "EMDB")
    for path in (made.root / "P0" / "00_square" / "images").iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (HW[1] // 2, HW[0] // 2)))
    sample = next(iter(open_dataset("emdb", made.root).open(made.sequence)))
    points = sample.people[0].keypoints2d[:, :2]
    np.testing.assert_allclose(points, pixels(made.joints[0, 0], sample.frame.camera.K), atol=1e-6)


def test_images_of_another_shape_are_refused(tmp_path):
    made = make_emdb(tmp_path / "EMDB")
    path = made.root / "P0" / "00_square" / "images" / "00000.jpg"
    cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(BadFile, match="160x120"):
        list(open_dataset("emdb", made.root).open(made.sequence))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("smpl"), "no dictionary 'smpl'"),
        (lambda data: data["camera"].pop("extrinsics"), "no 'extrinsics'"),
        (lambda data: data.update(kp2d=np.zeros((4, 23, 2))), "kp2d must have shape"),
        (lambda data: data.update(good_frames_mask=np.ones(3)), "good_frames_mask must have shape"),
        (lambda data: data.update(gender="unknown"), "gender must be"),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, change, message):
    made = changed(tmp_path, change)
    with pytest.raises(BadFile, match=message):
        open_dataset("emdb", made.root).open(made.sequence)


@pytest.mark.parametrize("width", [float("nan"), 0, 1e9])
def test_a_size_of_the_images_that_cannot_be_is_named(tmp_path, width):
    made = changed(tmp_path, lambda data: data["camera"].update(width=width))
    with pytest.raises(BadFile, match="height and width"):
        open_dataset("emdb", made.root).open(made.sequence)


def test_parameters_with_nan_are_not_scored(tmp_path, models):
    made = changed(tmp_path, lambda data: data["smpl"]["trans"].__setitem__(1, np.nan))
    people = [s.people[0] for s in open_dataset("emdb", made.root, body_models=models).open(made.sequence)]
    assert [p.valid for p in people] == [True, False, False, True]
    assert people[1].joints is None


def test_one_participant_is_a_level_too_low(made):
    with pytest.raises(MissingFile, match="too low"):
        open_dataset("emdb", made.root / "P0")


def test_a_torn_smpl_file_is_named(made, tmp_path):
    (tmp_path / "SMPL_MALE.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadFile, match="SMPL_MALE"):
        open_dataset("emdb", made.root, body_models=tmp_path).open(made.sequence)
