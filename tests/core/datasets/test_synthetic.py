"""Scenes of `hsr synth` as a data set: exact joints on the drawn people, depth, and the way of the camera."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from dataset_layouts import make_synthetic, to_camera

from hsr_core.body.joints import J
from hsr_core.datasets import open_dataset
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("sets") / "walk")


@pytest.fixture(scope="module")
def samples(made):
    return list(open_dataset("synthetic", made.root).open("walk"))


def test_joints_lie_on_the_people_that_the_masks_show(samples, made):
    from hsr_core.refine.frames import read_folder

    for p in (0, 1):
        folder = read_folder(made.root / f"person{p}")
        for frame, sample in zip(folder, samples, strict=True):
            person = sample.people[p]
            chest = np.rint(person.keypoints2d[[J["spine2"], J["pelvis"], J["left_knee"]], :2]).astype(int)
            assert (frame.mask[chest[:, 1], chest[:, 0]] > 0.5).all()
            rows, columns = np.nonzero(frame.mask > 0.5)
            assert person.bbox_xyxy[0] - 3 < columns.min() < person.bbox_xyxy[0] + 6
            assert person.bbox_xyxy[3] - 6 < rows.max() < person.bbox_xyxy[3] + 3


def test_depth_at_the_chest_is_that_of_the_person(samples):
    for sample in samples:
        person = sample.people[0]
        u, v = np.rint(person.keypoints2d[J["spine2"], :2]).astype(int)
        assert sample.frame.depth_m[v, u] == pytest.approx(person.joints[J["spine2"], 2], abs=0.3)


def test_the_pelvis_stays_while_the_camera_goes_round(samples):
    """The people walk on the spot: the camera's way must undo its motion."""
    for p in (0, 1):
        world = [to_camera(sample.people[p].joints[0].astype(float), sample.T_world_cam) for sample in samples]
        moved = np.linalg.norm(samples[1].people[p].joints[0] - samples[0].people[p].joints[0])
        assert moved > 0.3
        assert np.linalg.norm(world[1] - world[0]) < 0.1
        head = to_camera(samples[0].people[p].joints[J["head"]].astype(float), samples[0].T_world_cam)
        assert head[1] < world[0][1] - 0.4  # y points down


def test_vertices_and_parameters_are_of_the_named_body(samples, open_body):
    person = samples[0].people[0]
    assert person.topology == f"ehm:{open_body.model_id}"
    np.testing.assert_allclose(open_body.pose_one(person.params).vertices, person.vertices, atol=1e-6)


def test_images_are_rgb_as_written(samples, made):
    import cv2

    stored = cv2.imread(str(made.root / "person0" / "images" / "000000.png"))
    assert samples[0].frame.order == "rgb"
    np.testing.assert_array_equal(samples[0].frame.image, stored[..., ::-1])


def test_a_folder_may_hold_several_scenes(made, tmp_path):
    for name in ("b", "a"):
        shutil.copytree(made.root, tmp_path / name)
    assert open_dataset("synthetic", tmp_path).sequences() == ("a", "b")


def test_estimates_alone_are_no_reference(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "walk")
    (tmp_path / "walk" / "person1" / "truth.npz").unlink()
    with pytest.raises(MissingFile, match="no reference"):
        open_dataset("synthetic", tmp_path / "walk").open("walk")


def test_people_of_different_clips_are_refused(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "walk")
    path = tmp_path / "walk" / "person1" / "frames.json"
    header = json.loads(path.read_text())
    header["stamp_ns"][1] += 1
    path.write_text(json.dumps(header))
    with pytest.raises(BadFile, match="other stamps"):
        open_dataset("synthetic", tmp_path / "walk").open("walk")


def test_another_body_is_refused(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "walk")
    path = tmp_path / "walk" / "person0" / "frames.json"
    path.write_text(path.read_text().replace('"body_model": "', '"body_model": "other-'))
    with pytest.raises(BadFile, match="other-"):
        open_dataset("synthetic", tmp_path / "walk").open("walk")


def test_without_scene_json_the_camera_is_not_known(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "walk")
    (tmp_path / "walk" / "scene.json").unlink()
    assert next(iter(open_dataset("synthetic", tmp_path / "walk").open("walk"))).T_world_cam is None


def test_a_scene_of_other_length_is_refused(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "walk")
    path = tmp_path / "walk" / "scene.json"
    facts = json.loads(path.read_text())
    facts["T_cam_stage"] = facts["T_cam_stage"][:1]
    path.write_text(json.dumps(facts))
    with pytest.raises(BadFile, match="T_cam_stage must have shape"):
        open_dataset("synthetic", tmp_path / "walk").open("walk")


def test_other_files_beside_the_people_are_left_alone(made, tmp_path):
    root = tmp_path / "walk"
    shutil.copytree(made.root, root)
    (root / "personal_notes").mkdir()
    (root / "person9.txt").write_text("")
    assert {len(sample.people) for sample in open_dataset("synthetic", root).open("walk")} == {2}
