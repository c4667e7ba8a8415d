"""Human3.6M: splits, millimetres, both meanings of a camera's t, and annotations that do not fit."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from dataset_layouts import make_h36m, to_camera

from hsr_core.datasets import open_dataset
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets") / "Human36M"
    make_h36m(root, n=1, subject=1)
    make_h36m(root, n=1, subject=11)
    return make_h36m(root)


def edited(tmp_path, kind, change):
    made = make_h36m(tmp_path / "Human36M")
    path = made.root / "annotations" / f"Human36M_subject9_{kind}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return made


def test_splits_are_subjects_and_cameras(made):
    names = {
        split: open_dataset("h36m", made.root, split=split).sequences() for split in ("protocol2", "protocol1", "all")
    }
    assert names["protocol2"] == ("s_09_act_02_subact_01_ca_04", "s_11_act_02_subact_01_ca_04")
    assert len(names["protocol1"]) == 4
    assert len(names["all"]) == 6


@pytest.mark.parametrize("place", [False, True])
def test_joints_are_metres_in_the_camera_frame_whatever_t_means(tmp_path, place):
    made = make_h36m(tmp_path / "Human36M", place=place)
    samples = list(open_dataset("h36m", made.root).open(made.sequence))
    for i, sample in enumerate(samples):
        person = sample.people[0]
        assert person.joint_names[1] == "right_hip"
        np.testing.assert_allclose(person.joints, made.joints[i, 0], atol=1e-9)
        np.testing.assert_allclose(person.bbox_xyxy, [40, 10, 120, 110])
        world = to_camera(person.joints, sample.T_world_cam)
        head, foot = world[10], world[3]
        assert (head - foot)[2] > 1.4  # z is up


def test_stamps_are_those_of_50_hz(made):
    sequence = open_dataset("h36m", made.root).open(made.sequence)
    assert [sample.frame.stamp_ns for sample in sequence] == [0, 20_000_000, 40_000_000]


def test_left_and_right_are_not_swapped(made):
    """Somebody who looks at the camera has the left hand on the picture's right."""
    person = next(iter(open_dataset("h36m", made.root).open(made.sequence))).people[0]
    uv = dict(zip(person.joint_names, person.keypoints2d[:, 0], strict=True))
    assert uv["left_wrist"] > uv["nose"] > uv["right_wrist"]


def test_nan_joints_are_not_scored(tmp_path):
    made = edited(tmp_path, "joint_3d", lambda c: c["2"]["1"].update({"1": [[None] * 3] * 17}))
    valid = [s.people[0].valid for s in open_dataset("h36m", made.root).open(made.sequence)]
    assert valid == [True, False, True]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("joint_3d", lambda c: c["2"]["1"].pop("2"), "no joints for action, subaction, frame 2, 1, 2"),
        ("joint_3d", lambda c: c["2"]["1"].update({"0": [[0, 0, 0]]}), r"joints must have shape \(17, 3\)"),
        ("camera", lambda c: c.pop("4"), "no camera 4"),
        ("camera", lambda c: c["4"].pop("f"), "no 'f'"),
        ("camera", lambda c: c["4"].update(t=[0, 0, -9e6]), "sees only 0 %"),
        ("data", lambda c: c.pop("images"), "it lacks 'images'"),
        ("data", lambda c: c["images"][0].pop("frame_idx"), "it lacks 'frame_idx'"),
    ],
)
def test_annotations_that_do_not_fit_are_named(tmp_path, kind, change, message):
    made = edited(tmp_path, kind, change)
    with pytest.raises(BadFile, match=message):
        open_dataset("h36m", made.root).open(made.sequence)


def test_a_missing_annotation_file_is_named(tmp_path):
    made = make_h36m(tmp_path / "Human36M")
    (made.root / "annotations" / "Human36M_subject9_joint_3d.json").unlink()
    with pytest.raises(MissingFile, match="joint_3d"):
        open_dataset("h36m", made.root).open(made.sequence)


def test_a_truncated_annotation_file_is_named(tmp_path):
    made = make_h36m(tmp_path / "Human36M")
    path = made.root / "annotations" / "Human36M_subject9_data.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(BadFile, match="not JSON"):
        open_dataset("h36m", made.root).open(made.sequence)


@pytest.mark.parametrize("kind", ["data", "camera", "joint_3d"])
def test_a_list_in_the_place_of_an_object_is_named(tmp_path, kind):
    made = make_h36m(tmp_path / "Human36M")
    (made.root / "annotations" / f"Human36M_subject9_{kind}.json").write_text("[]")
    with pytest.raises(BadFile, match=f"{kind}.json must hold an object"):
        open_dataset("h36m", made.root).open(made.sequence)


def test_a_file_that_has_been_put_right_is_read_again(tmp_path):
    made = make_h36m(tmp_path / "Human36M")
    dataset, path = open_dataset("h36m", made.root), made.root / "annotations" / "Human36M_subject9_camera.json"
    right = path.read_text()
    path.write_text("{}")
    with pytest.raises(BadFile, match="has no camera"):
        dataset.open(made.sequence)
    path.write_text(right)
    os.utime(path, ns=(1, 1))  # some file systems count time in coarse steps
    assert list(dataset.open(made.sequence))


def test_every_fifth_frame_is_a_sequence_of_10_hz(tmp_path):
    """The usual copies are thinned out; an acceleration is wrong by 25 where 10 Hz pass for 50."""

    def thin(data):
        for entry in data["images"]:
            entry["frame_idx"] = 5 * entry["frame_idx"]

    made = edited(tmp_path, "data", thin)
    path = made.root / "annotations" / "Human36M_subject9_joint_3d.json"
    joints = json.loads(path.read_text())
    for subactions in joints.values():
        for frames in subactions.values():
            frames.update({str(5 * int(key)): value for key, value in list(frames.items())})
    path.write_text(json.dumps(joints))
    sequence = open_dataset("h36m", made.root).open(made.sequence)
    assert sequence.fps == 10
    assert np.unique(np.diff([sample.frame.stamp_ns for sample in sequence])).tolist() == [100_000_000]
