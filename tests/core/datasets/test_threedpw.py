"""3DPW: whom the challenge leaves out, world and camera, what SMPL files add, and files that are not right."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from dataset_layouts import (
    K,
    Made,
    as_python2,
    make_threedpw,
    pixels,
    posed_joints,
    smpl_arrays,
    threedpw_pickle,
    to_camera,
)
from scipy.spatial.transform import Rotation
from synthetic_models import python2_dumps

from hsr_core.datasets import open_dataset
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return make_threedpw(tmp_path_factory.mktemp("sets") / "3DPW")


@pytest.fixture(scope="module")
def samples(made):
    return list(open_dataset("3dpw", made.root).open(made.sequence))


def rewrite(tmp_path, change, dumps=lambda data: python2_dumps(as_python2(data))):
    """Write the layout once more with a changed pickle; return its sequence, not opened."""
    made = make_threedpw(tmp_path / "3DPW")
    data = threedpw_pickle()
    change(data)
    (made.root / "sequenceFiles" / "test" / f"{made.sequence}.pkl").write_bytes(dumps(data))
    return lambda: open_dataset("3dpw", made.root).open(made.sequence)


def test_an_invalid_camera_and_too_few_key_points_are_not_scored(samples):
    assert [[p.valid for p in sample.people] for sample in samples] == [
        [True, True], [True, True], [True, True], [True, False], [False, True],
    ]  # fmt: skip


def test_joints_are_smpls_24_in_the_camera_frame(samples, made):
    for i, sample in enumerate(samples):
        for p, person in enumerate(sample.people):
            assert person.joint_names[:3] == ("pelvis", "left_hip", "right_hip")
            assert person.joint_names[-1] == "right_hand"
            np.testing.assert_allclose(person.joints, made.joints[i, p], atol=1e-9)


def test_key_points_hit_the_joints_of_their_names(samples):
    for sample in samples:
        for person in sample.people:
            uv = pixels(person.joints)
            for name in ("left_wrist", "right_knee", "left_shoulder"):
                u, v, confidence = person.keypoints2d[person.keypoint_names.index(name)]
                if confidence > 0:
                    np.testing.assert_allclose([u, v], uv[person.joint_names.index(name)], atol=1e-6)


def test_the_world_stands_still_while_the_camera_moves(samples):
    places = [to_camera(sample.people[0].joints, sample.T_world_cam) for sample in samples]
    steps = np.diff(places, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to([0.02, 0, 0.01], steps.shape), atol=1e-9)


def test_parameters_turn_into_the_camera_frame_about_the_pelvis(samples, made):
    data = threedpw_pickle()
    rest_pelvis = data["jointPositions"][1][0, :3] - data["trans"][1][0]
    for i, sample in enumerate(samples):
        params = sample.people[1].params
        root = Rotation.from_matrix(data["cam_poses"][i][:3, :3]) * Rotation.from_rotvec(data["poses"][1][i, :3])
        np.testing.assert_allclose(Rotation.from_rotvec(params.global_orient).as_matrix(), root.as_matrix(), atol=1e-6)
        np.testing.assert_allclose(params.transl + rest_pelvis, made.joints[i, 1, 0], atol=1e-6)
        np.testing.assert_array_equal(params.body_pose.ravel(), data["poses"][1][i, 3:66].astype(np.float32))


def test_smpl_files_give_vertices_that_go_with_the_parameters(made, tmp_path):
    """The joints that the set ships stay; the mesh is posed by SMPL of each one's gender."""
    for seed, gender in ((0, "MALE"), (1, "FEMALE")):
        np.savez(tmp_path / f"SMPL_{gender}.npz", **smpl_arrays(seed))
    dataset = open_dataset("3dpw", made.root, body_models=tmp_path)
    assert dataset.notes == ()
    sample = next(iter(dataset.open(made.sequence)))
    data = threedpw_pickle()
    for p in (0, 1):
        person, model = sample.people[p], smpl_arrays(p)
        assert person.topology == "smpl"
        world = posed_joints(model, data["poses"][p][0], data["betas"][p], data["trans"][p][0])
        joints = to_camera(world, made.T_cam_world[0])
        # Vertices hang on their joints within centimetres in this model.
        owner = np.random.default_rng(p).integers(0, 24, 6890)
        middles = np.array([person.vertices[owner == j].mean(0) for j in range(24)])
        np.testing.assert_allclose(middles, joints, atol=0.1)
        np.testing.assert_allclose(person.joints, made.joints[0, p], atol=1e-9)


def test_without_smpl_files_it_says_what_is_missing(made, monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    dataset = open_dataset("3dpw", made.root)
    assert "male, female" in dataset.notes[0]
    assert "PVE" in dataset.notes[0]
    assert next(iter(dataset.open(made.sequence))).people[0].vertices is None


def test_splits_are_folders(made, tmp_path):
    with pytest.raises(MissingFile, match="train"):
        open_dataset("3dpw", made.root, split="train")
    make_threedpw(tmp_path / "3DPW", n=2, split="train")
    assert open_dataset("3dpw", tmp_path / "3DPW", split="train").sequences() == ("square_walk_00",)


def test_missing_and_torn_images_are_counted_and_the_stamps_go_on(tmp_path):
    made = make_threedpw(tmp_path / "3DPW")
    images = made.root / "imageFiles" / made.sequence
    (images / "image_00001.jpg").unlink()
    (images / "image_00002.jpg").write_bytes(b"no picture")
    sequence = open_dataset("3dpw", made.root).open(made.sequence)
    got = list(sequence)
    assert sequence.skipped == 2
    assert [sample.frame.index for sample in got] == [0, 3, 4]
    assert got[1].frame.stamp_ns == 100_000_000


def test_images_that_were_not_unpacked_are_asked_for(tmp_path):
    made = make_threedpw(tmp_path / "3DPW")
    (made.root / "imageFiles" / made.sequence).rename(made.root / "imageFiles" / "other")
    with pytest.raises(MissingFile, match=r"imageFiles\.zip"):
        open_dataset("3dpw", made.root).open(made.sequence)


def test_a_folder_too_low_or_too_high_names_the_right_one(made):
    with pytest.raises(MissingFile, match=f"too low: .*{made.root.name}"):
        open_dataset("3dpw", made.root / "imageFiles")
    with pytest.raises(MissingFile, match=f"too high: .*{made.root.name}"):
        open_dataset("3dpw", made.root.parent)


def test_nan_joints_are_not_annotated_and_nobody_is_not_scored(tmp_path):
    def change(data):
        data["jointPositions"][0][1, 3:6] = np.nan
        data["jointPositions"][1][1] = np.nan
        data["poses"][1][2] = np.nan

    samples = list(rewrite(tmp_path, change)())
    first, second = samples[1].people
    assert np.isnan(first.joints[1]).all()
    assert np.isfinite(np.delete(first.joints, 1, axis=0)).all()
    assert (first.valid, second.valid) == (True, False)
    assert samples[2].people[1].params is None
    assert samples[0].people[0].params.finite()


def test_a_pose_of_the_pelvis_that_is_never_known_leaves_the_translation_open(tmp_path):
    def change(data):
        data["jointPositions"][0][:, :3] = np.nan

    person = next(iter(rewrite(tmp_path, change)())).people[0]
    assert np.isnan(person.params.transl).all()
    assert np.isfinite(person.params.global_orient).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cam_poses", np.zeros((5, 3, 4)), r"cam_poses must have shape \(any, 4, 4\), not \(5, 3, 4\)"),
        ("cam_intrinsics", np.zeros((3, 3)), "focal lengths must be positive"),
        ("trans", [np.zeros((5, 3)), np.zeros((4, 3))], r"trans\[1\] must have shape \(5, 3\)"),
        ("poses2d", [np.zeros((5, 3, 18))], "poses2d has 1 people, poses has 2"),
        ("genders", ["m", "x"], "genders must be m or f"),
        ("betas", ["tall", "small"], r"betas\[0\] must hold numbers"),
        ("poses", 3, "poses must be a list"),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, name, value, message):
    with pytest.raises(BadFile, match=message):
        list(rewrite(tmp_path, lambda data: data.update({name: value}))())


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(BadFile, match="campose_valid"):
        rewrite(tmp_path, lambda data: data.pop("campose_valid"))()


def test_a_truncated_pickle_is_refused(tmp_path):
    with pytest.raises(BadFile, match="square_walk_00"):
        rewrite(tmp_path, lambda _: None, lambda data: pickle.dumps(data)[:2000])()


class Payload:
    def __reduce__(self):
        import os

        return os.getcwd, ()


def test_a_pickle_that_would_run_code_is_refused_and_its_class_named(tmp_path):
    with pytest.raises(BadFile, match=r"posix\.getcwd|nt\.getcwd"):
        rewrite(tmp_path, lambda data: data.update(extra=Payload()), pickle.dumps)()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_pickles_of_every_numpy_and_python_3_are_read(tmp_path, protocol, core):
    if protocol >= 4 and core != b"numpy.core":
        pytest.skip("names carry their length there")

    def dumps(data):
        return pickle.dumps(data, protocol=protocol).replace(b"cnumpy.core", b"c" + core)

    samples = list(rewrite(tmp_path, lambda _: None, dumps)())
    np.testing.assert_allclose(samples[0].frame.camera.K, K)
