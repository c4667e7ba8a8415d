"""Calibrated clips: each camera a sequence, names of joints, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from dataset_layouts import make_clip, pixels, write_video

from hsr_core.body.joints import JOINT_NAMES, LIMB_12
from hsr_core.datasets import open_dataset
from hsr_core.datasets.clip import our_name, read_reference
from hsr_core.errors import BadFile, MissingFile

BALANCING = Path(__file__).parents[2] / "data" / "balancing"


@pytest.fixture
def made(tmp_path):
    return make_clip(tmp_path / "clip")


def test_each_camera_sees_the_same_people_from_its_own_side(made):
    dataset = open_dataset("clip", made.root)
    assert dataset.sequences() == ("left", "upside_down")
    assert dataset.conventions.fps == 20
    first, second = (list(dataset.open(name)) for name in dataset.sequences())
    assert len(first) == len(second) == 5
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_allclose(a.people[0].joints, made.joints[i, 0], atol=1e-9)
        np.testing.assert_allclose(b.people[0].joints, made.joints[i, 0] * [-1, -1, 1], atol=1e-9)
        uv = np.rint(pixels(b.people[0].joints)).astype(int)
        inside = ((uv >= 0) & (uv < (160, 120))).all(axis=1)
        assert inside.sum() > 10
        assert (b.frame.image[uv[inside, 1], uv[inside, 0]] > 180).all()


def test_after_a_damaged_frame_the_reference_is_still_that_of_the_picture(made):
    """Frame 2 of 5 does not decode: the four others keep their joints."""
    video = made.root / "left.mp4"
    images = [sample.frame.image for sample in open_dataset("clip", made.root).open("left")]
    write_video(video, images, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(video)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    content = bytearray(video.read_bytes())
    content[places[2][0] : sum(places[2])] = bytes(places[2][1])
    video.write_bytes(content)
    sequence = open_dataset("clip", made.root).open("left")
    samples = list(sequence)
    assert sequence.skipped == 1
    for sample, row in zip(samples, (0, 1, 3, 4), strict=True):
        np.testing.assert_allclose(sample.people[0].joints, made.joints[row, 0], atol=1e-9)


def test_names_are_ours_where_they_mean_the_same():
    assert our_name("LShoulder") == "left_shoulder"
    assert our_name("RBigToe") == "right_big_toe"
    assert our_name("Nose") == "nose"
    assert our_name("Neck") == "neck_reference"
    assert our_name("Left") == "left_reference"


def test_limbs_of_the_reference_are_in_the_order_of_the_protocol(made):
    reference = read_reference(made.root / "reference_3d.npz")
    limbs = reference.limbs()
    for k, j in enumerate(LIMB_12):
        np.testing.assert_array_equal(limbs[:, k], reference.joints[:, reference.joint_names.index(JOINT_NAMES[j])])


def test_joints_that_are_nan_are_not_annotated(made):
    path = made.root / "reference_3d.npz"
    data = dict(np.load(path))
    data["joints"][0, 2] = np.nan
    data["joints"][1] = np.nan
    np.savez(path, **data)
    people = [sample.people[0] for sample in open_dataset("clip", made.root).open("left")]
    assert [p.valid for p in people] == [True, False, True, True, True]
    assert np.isnan(people[0].joints[2]).all()
    assert people[0].keypoints2d[2].tolist() == [0, 0, 0]
    assert people[1].bbox_xyxy is None


def test_a_shorter_reference_ends_the_sequence(made):
    path = made.root / "reference_3d.npz"
    data = dict(np.load(path))
    np.savez(path, **data | {"joints": data["joints"][:3]})
    sequence = open_dataset("clip", made.root).open("left")
    assert sequence.frame_count == 3
    assert len(list(sequence)) == 3


@pytest.mark.parametrize("name", ["cameras.json", "reference_3d.npz", "left.mp4"])
def test_a_missing_file_is_named(made, name):
    (made.root / name).unlink()
    with pytest.raises(MissingFile, match=name.partition(".")[0]):
        open_dataset("clip", made.root)


def test_a_camera_without_a_pose_is_named(made):
    cameras = json.loads((made.root / "cameras.json").read_text())
    del cameras["cameras"][1]["t_cam_world"]
    (made.root / "cameras.json").write_text(json.dumps(cameras))
    with pytest.raises(BadFile, match="upside_down"):
        open_dataset("clip", made.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": np.zeros((5, 3, 3))}, r"joints must have shape \(any, 15, 3\)"),
        ({"joints": None}, "has no 'joints'"),
        ({"names": np.array([{"not": "a name"}], object)}, "not a 3D reference"),
    ],
)
def test_a_reference_that_does_not_fit_is_named(made, change, message):
    path = made.root / "reference_3d.npz"
    data = dict(np.load(path)) | change
    np.savez(path, **{key: value for key, value in data.items() if value is not None})
    with pytest.raises(BadFile, match=message):
        open_dataset("clip", made.root)


def test_a_torn_reference_is_named(made):
    path = made.root / "reference_3d.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadFile, match="reference_3d"):
        open_dataset("clip", made.root)


def test_the_person_of_a_real_clip_is_where_the_reference_says():
    """Known from looking at it: the subject stands in the middle, wears a green-blue cap, and the floor is below."""
    sequence = open_dataset("clip", BALANCING).open("cam02")
    sample = next(iter(sequence))
    person = sample.people[0]
    uv = dict(zip(person.joint_names, person.keypoints2d[:, :2], strict=True))
    assert uv["nose"][1] < uv["left_hip"][1] < uv["left_ankle"][1]
    hips = (
        person.joints[person.joint_names.index("left_hip")] + person.joints[person.joint_names.index("right_hip")]
    ) / 2
    assert 2 < np.linalg.norm(hips) < 6
