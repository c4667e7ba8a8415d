"""`hsr synth`, its folders, and its bag read back with rosbags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hsr_core import cli
from hsr_core.errors import ConfigError
from hsr_core.refine.frames import read_folder
from hsr_core.synth.bag import BEGIN_NS
from hsr_core.synth.command import write_scene
from hsr_core.synth.scene import Scene, SceneOptions

OPTIONS = SceneOptions(frames=3, image_hw=(72, 96), people=2, seed=4)


def hsr(capsys, *args: object) -> tuple[int, str, str]:
    status = cli.main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_writes_a_folder_that_refinement_reads(capsys, tmp_path, body):
    out = tmp_path / "clip"
    status, text, _ = hsr(
        capsys, "synth", "--out", out, "--frames", 2, "--size", "96x72", "--clothing", "off", "--noise", "weak",
        "--background", "plain", "--seed", 7, "--json",
    )  # fmt: skip
    assert status == 0
    answer = json.loads(text.splitlines()[-1])
    assert answer["folders"] == [str(out)]
    frames = read_folder(out, body_model=body.model_id)
    expected = Scene(SceneOptions(2, (72, 96), 1, 0.0, "weak", "plain", seed=7), body)
    for got, made in zip(frames, expected, strict=True):
        np.testing.assert_allclose(got.image, made.people[0].image, atol=0.51 / 255)
        assert np.array_equal(got.truth.body_pose, made.people[0].truth.body_pose)
        assert np.array_equal(got.params.transl, made.people[0].params.transl)
    facts = json.loads((out / "scene.json").read_text())
    assert facts["seed"] == 7
    np.testing.assert_array_equal(facts["T_cam_stage"], expected.T_cam_stage)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--size", "wide"], "--size wants WIDTHxHEIGHT"),
        (["--clothing", "much"], "--clothing wants on, off or a number"),
        (["--people", "9"], "people must lie in 1..5"),
    ],
)
def test_wrong_arguments_are_told(capsys, tmp_path, args, message):
    status, _, error = hsr(capsys, "synth", "--out", tmp_path / "clip", *args)
    assert status == 2
    assert message in error
    assert not (tmp_path / "clip").exists()


def test_a_folder_in_use_is_left_alone(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    status, _, error = hsr(capsys, "synth", "--out", tmp_path)
    assert status == 2
    assert "new or an empty folder" in error
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
    out = tmp_path_factory.mktemp("scene") / "two"
    return out, write_scene(OPTIONS, out, bag=True)


def read_bag(path):
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(_definitions())
    messages = {}
    with Reader(path) as reader:
        for connection, stamp, data in reader.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            messages.setdefault(connection.topic, []).append((stamp, message))
    return messages


def _definitions():
    from rosbags.typesys import get_types_from_msg

    folder = Path(__file__).parents[3] / "ros2_ws" / "src" / "hsr_msgs" / "msg"
    types = {}
    for name in ("Human", "HumanArray"):
        types |= get_types_from_msg((folder / f"{name}.msg").read_text(), f"hsr_msgs/msg/{name}")
    return types


def test_two_people_are_two_folders(written):
    out, folders = written
    assert folders == [out / "person0", out / "person1"]
    first, second = (read_folder(folder) for folder in folders)
    assert np.array_equal(first[1].image, second[1].image)
    assert not np.array_equal(first[1].mask, second[1].mask)
    assert first[1].ignore is not None


def test_the_bag_holds_what_the_folders_hold(written, body):
    out, folders = written
    topics = read_bag(out / "bag")
    assert set(topics) == {
        "/camera/image_raw", "/camera/camera_info", "/camera/depth/image_raw", "/camera/depth/camera_info",
        "/synth/mask", "/synth/initial", "/synth/truth",
    }  # fmt: skip
    people = [read_folder(folder) for folder in folders]
    for t in range(3):
        frame = people[0][t]
        stamp, image = topics["/camera/image_raw"][t]
        assert stamp == frame.stamp_ns + BEGIN_NS == image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
        assert (image.encoding, image.step, image.header.frame_id) == ("rgb8", 3 * 96, "camera_color_optical_frame")
        np.testing.assert_array_equal(image.data.reshape(72, 96, 3), np.rint(frame.image * 255).astype(np.uint8))
        _, depth = topics["/camera/depth/image_raw"][t]
        assert (depth.encoding, depth.step, depth.is_bigendian) == ("16UC1", 2 * 96, 0)
        np.testing.assert_array_equal(
            depth.data.view("<u2").reshape(72, 96), np.rint(frame.depth_m * 1000).astype(np.uint16)
        )
        _, info = topics["/camera/camera_info"][t]
        np.testing.assert_array_equal(info.k.reshape(3, 3), frame.K)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], frame.K)
        assert (info.width, info.height) == (96, 72)
        _, mask = topics["/synth/mask"][t]
        ids = mask.data.view("<u2").reshape(72, 96)
        for i, person in enumerate(people):
            assert np.all(person[t].mask[ids == i + 1] > 0.49)
            assert np.all(ids[person[t].mask > 0.51] == i + 1)


def test_the_bag_holds_truth_and_initial_estimates(written, body):
    out, folders = written
    topics = read_bag(out / "bag")
    people = [read_folder(folder) for folder in folders]
    for topic, name in (("/synth/truth", "truth"), ("/synth/initial", "params")):
        for t, (_, message) in enumerate(topics[topic]):
            assert message.model_id == body.model_id
            assert [human.track_id for human in message.humans] == [1, 2]
            assert [human.primary for human in message.humans] == [True, False]
            for human, person in zip(message.humans, people, strict=True):
                params = getattr(person[t], name)
                np.testing.assert_array_equal(human.body_pose.reshape(21, 3), params.body_pose)
                np.testing.assert_array_equal(human.transl, params.transl)
                np.testing.assert_array_equal(human.head_betas, params.head_betas)
                joints = body.pose_one(params, vertices=False).joints
                np.testing.assert_array_equal(human.joints.reshape(55, 3), joints)
                K = person.K
                u = K[0, 0] * joints[:, 0] / joints[:, 2] + K[0, 2]
                np.testing.assert_allclose(human.keypoints2d.reshape(55, 3)[:, 0], u, atol=1e-3)
                x0, y0, x1, y1 = human.bbox_xyxy
                if name == "truth":
                    v, u = np.nonzero(person[t].mask > 0.5)
                    assert x0 - 3 < u.min()
                    assert u.max() < x1 + 3
                    assert y0 - 3 < v.min()
                    assert v.max() < y1 + 3


def test_a_bag_is_not_written_over(written):
    out, _ = written
    with pytest.raises(ConfigError, match="bag exists"):
        write_scene(OPTIONS, out, bag=True)
