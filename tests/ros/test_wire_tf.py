"""TF messages as bytes, and what is published of whom."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hsr import tf_input, tf_output, tf_wire
from hsr.convert import body_id, stamp_to_ns
from hsr.notices import Notices
from hsr.tf_output import TfOutput
from rclpy.serialization import deserialize_message, serialize_message
from tf2_msgs.msg import TFMessage

from hsr_core.body.joints import J
from hsr_core.errors import ConfigError
from hsr_core.geometry.transform_tree import TransformTree

STAMP_NS = 1_700_000_000_123_456_789


def person(track_id: int) -> SimpleNamespace:
    rng = np.random.default_rng(track_id)
    return SimpleNamespace(
        track_id=track_id,
        joints=rng.normal(size=(55, 3)).astype(np.float32),
        joint_rotmats=np.tile(np.eye(3, dtype=np.float32), (55, 1, 1)),
    )


class Publisher:
    def __init__(self, kind, topic, profile) -> None:
        self.topic, self.depth, self.sent = topic, profile.depth, []

    def publish(self, data: bytes) -> None:
        self.sent.append(deserialize_message(data, TFMessage).transforms)


def output(mode: str) -> tuple[TfOutput, list[Publisher]]:
    made = []
    return TfOutput(mode, lambda *args: made.append(Publisher(*args)) or made[-1]), made


@pytest.mark.parametrize("length", range(9))
def test_messages_of_any_name_lengths_are_what_ros_makes_of_them(length) -> None:
    """The padding before the numbers depends on the lengths of all names before them."""
    names = [("c" * (1 + length), "body_x"), ("body_x", "h" * (1 + length // 2)), ("é", "h" * length + "z")]
    poses = np.random.default_rng(length).normal(size=(3, 7))
    data = tf_wire.TransformsBuffer(names).encode(STAMP_NS, poses)
    message = deserialize_message(data, TFMessage)
    for entry, (parent, child), pose in zip(message.transforms, names, poses, strict=True):
        assert (entry.header.frame_id, entry.child_frame_id, stamp_to_ns(entry.header.stamp)) == (
            parent, child, STAMP_NS,
        )  # fmt: skip
        xyz, q = entry.transform.translation, entry.transform.rotation
        assert [xyz.x, xyz.y, xyz.z, q.x, q.y, q.z, q.w] == pose.tolist()
    theirs = bytes(serialize_message(message))
    assert len(theirs) == len(data)
    for source in (data, theirs):
        assert list(tf_wire.decode_transforms(source)) == [
            (*pair, STAMP_NS, tuple(pose)) for pair, pose in zip(names, poses.tolist(), strict=True)
        ]


def test_a_buffer_is_used_again_and_what_was_sent_stays() -> None:
    buffer = tf_wire.TransformsBuffer([("a", "b")])
    first = buffer.encode(1, np.ones((1, 7)))
    buffer.encode(2, np.zeros((1, 7)))
    assert next(tf_wire.decode_transforms(first))[2:] == (1, (1.0,) * 7)


def test_the_layout_holds_here_and_a_change_is_noticed(monkeypatch) -> None:
    assert tf_wire.check_layout() == ""
    monkeypatch.setattr(tf_wire.TransformsBuffer, "encode", lambda self, stamp_ns, poses: b"\0\1\0\0\2\0\0\0")
    assert "not understood" in tf_wire.check_layout()


def test_torn_and_foreign_bytes_are_refused() -> None:
    data = tf_wire.TransformsBuffer([("odom", "base"), ("base", "camera")]).encode(5, np.ones((2, 7)))
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"CDR|ends too early"):
            list(tf_wire.decode_transforms(data[:end]))
    with pytest.raises(ValueError, match="header"):
        list(tf_wire.decode_transforms(b"\0\0" + data[2:]))


def test_the_frames_of_people_are_told_from_those_of_a_robot() -> None:
    def message(*names):
        return tf_wire.TransformsBuffer(names).encode(1, np.zeros((len(names), 7)))

    for mode in ("root", "rep155", "full"):
        frames = []
        TfOutput(mode, lambda *args: SimpleNamespace(publish=frames.append)).publish([person(3)], 5, "camera")  # noqa: B023
        assert tf_wire.is_of_people(frames[0])
    for names in ((("odom", "base_link"),), (("base", "body_front"), ("base", "body_right")), ()):
        assert not tf_wire.is_of_people(message(*names))
    assert not tf_wire.is_of_people(b"\0")


def test_one_message_has_everybody_under_the_images_frame() -> None:
    out, (publisher,) = output("root")
    assert (publisher.topic, publisher.depth) == ("/tf", 100)
    people = [person(1), person(7)]
    out.publish(people, STAMP_NS, "camera")
    out.publish(people, STAMP_NS + 5, "camera")
    out.publish(people[1:], STAMP_NS + 9, "other_camera")
    out.publish([], STAMP_NS + 11, "camera")
    out.publish(people, STAMP_NS + 13, "")  # images without a frame_id
    assert [len(sent) for sent in publisher.sent] == [4, 4, 2]
    links = [(entry.header.frame_id, entry.child_frame_id) for sent in publisher.sent for entry in sent]
    a, b = body_id(1), body_id(7)
    both = [("camera", f"body_{a}"), (f"body_{a}", f"head_{a}"), ("camera", f"body_{b}"), (f"body_{b}", f"head_{b}")]
    assert links == [*both, *both, ("other_camera", f"body_{b}"), (f"body_{b}", f"head_{b}")]
    assert {stamp_to_ns(entry.header.stamp) for entry in publisher.sent[1]} == {STAMP_NS + 5}
    hips = people[1].joints[1:3].mean(axis=0)
    at = publisher.sent[2][0].transform.translation
    np.testing.assert_allclose([at.x, at.y, at.z], hips, atol=1e-6)


def test_a_face_has_frames_while_it_is_tracked_and_a_person_the_heads() -> None:
    faces, made = {1: "fffff"}, []
    out = TfOutput(
        "root", lambda *args: made.append(Publisher(*args)) or made[-1], face_of=faces.get, person_of={7: "ppppp"}.get
    )  # fmt: skip
    people, a, b = [person(1), person(7)], body_id(1), body_id(7)
    out.publish(people, STAMP_NS, "camera")
    faces.clear()
    out.publish(people, STAMP_NS, "camera")
    bodies = {f"body_{a}": "camera", f"head_{a}": f"body_{a}", f"body_{b}": "camera", f"head_{b}": f"body_{b}"}
    found = [{entry.child_frame_id: entry.header.frame_id for entry in sent} for sent in made[0].sent]
    with_person = {**bodies, "person_ppppp": f"head_{b}"}
    assert found == [{**with_person, "face_fffff": "camera", "gaze_fffff": "face_fffff"}, with_person]
    (pose,) = (entry.transform for entry in made[0].sent[0] if entry.child_frame_id == "face_fffff")
    eyes = people[0].joints[[J["left_eye_smplhf"], J["right_eye_smplhf"]]].mean(axis=0)
    np.testing.assert_allclose([pose.translation.x, pose.translation.y, pose.translation.z], eyes, atol=1e-6)


def test_mode_none_has_no_publisher_and_without_tf2_msgs_it_says_so(monkeypatch) -> None:
    out, made = output("none")
    assert (made, out.note) == ([], "")
    monkeypatch.setattr(tf_output.importlib.util, "find_spec", lambda name: None)
    out, made = output("full")
    out.publish([person(1)], STAMP_NS, "camera")
    assert made == []
    assert "tf2_msgs is not installed" in out.note
    tf_input.check_world_frame("")
    with pytest.raises(ConfigError, match="world_frame 'odom' needs tf2_msgs"):
        tf_input.check_world_frame("odom")


def test_bad_transforms_are_ignored_one_by_one() -> None:
    said = []
    logger = SimpleNamespace(warning=said.append)
    listener = tf_input.TfInput.__new__(tf_input.TfInput)
    listener._tree, listener._notices = TransformTree(), Notices(logger)
    good = TransformStamped(child_frame_id="base")
    good.header.frame_id = "odom"
    bad = TransformStamped(child_frame_id="camera")  # no parent
    store = listener._store(static=True)
    store(bytes(serialize_message(TFMessage(transforms=[bad, good]))))
    store(b"")
    store(b"\0\1\0\0\7")
    assert listener._tree.frames() == {"odom", "base"}
    assert len(said) == 2
    assert "two frames" in said[0]
    assert "TF message ignored" in said[1]
