"""The player as a process: what it publishes is what was recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

import bags
from harness import Perception
from hsr import qos
from hsr.play_node import stamp_of
from hsr_msgs.msg import Human
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from scripted_node import Command
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Int64MultiArray
from tf2_msgs.msg import TFMessage

from hsr_core.sources.bag_reader import BagReader

IMAGE, DEPTH = "/camera/image_raw", "/camera/depth/image_raw"


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Forty images at 30 Hz; a scripted node finds one person in each."""
    return bags.write_bag(tmp_path_factory.mktemp("bag") / "run", black(40))


def black(n: int, command=lambda i: Command.PERSON):
    for topic, time_ns, msg in bags.camera(n):
        if topic == IMAGE:
            i = round((time_ns - bags.BEGIN_NS) / bags.STEP_NS)
            msg = bags.image(np.full((*bags.HW, 3), command(i), np.uint8), bags.BEGIN_NS + i * bags.STEP_NS)
        yield topic, time_ns, msg


def with_late_depth(n: int, command):
    """Images whose depth was received 20 ms after them."""
    for topic, time_ns, msg in black(n, command):
        yield topic, time_ns, msg
        if topic == IMAGE:
            stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
            yield DEPTH, time_ns + 20_000_000, bags.image(np.full(bags.HW, 2500, "<u2"), stamp_ns, "16UC1")


def play(rig, path, *parameters: str):
    arguments = ["--ros-args", "-p", f"path:={path}"]
    for pair in parameters:
        arguments += ["-p", pair]
    return rig.start("player", "hsr.play_node", *arguments)


def played(process) -> dict:
    return json.loads(process.tail(1))


@pytest.fixture
def heard(rig):
    """Raw messages on the camera's topics, /clock and player/sent during one test."""
    kinds = {IMAGE: Image, "/camera/camera_info": CameraInfo, "/clock": Clock, "/human/player/sent": Int64MultiArray}
    out = {topic: [] for topic in kinds}
    subscriptions = [
        rig.node.create_subscription(
            kind, topic, lambda data, topic=topic: data and out[topic].append(bytes(data)), qos.extra(True, False),
            raw=True,
        )
        for topic, kind in kinds.items()
    ]  # fmt: skip
    yield out
    for subscription in subscriptions:
        rig.node.destroy_subscription(subscription)


def recorded(path, topic: str) -> list[bytes]:
    with BagReader(path) as reader:
        return [bytes(data) for _, _, data in reader.messages([topic])]


def same(got: list[bytes], expected: list[bytes]) -> bool:
    """True for equal messages; DDS pads each to a multiple of four bytes."""
    return [g[: len(e)] for g, e in zip(got, expected, strict=True)] == expected and all(
        len(g) - len(e) < 4 for g, e in zip(got, expected, strict=True)
    )


def test_bytes_stamps_and_order_are_those_of_the_recording(rig, bag, heard):
    process = play(rig, bag, "rate:=2.0")
    rig.wait(lambda: process.returncode is not None, "the end")
    rig.wait(lambda: len(heard[IMAGE]) == 40, "all images")
    assert same(heard[IMAGE], recorded(bag, IMAGE))
    infos = recorded(bag, "/camera/camera_info")
    assert same(heard["/camera/camera_info"], [infos[0], *infos])  # the first is sent before everything, too
    clock = [stamp_of(data) for data in heard["/clock"]]
    assert clock == sorted(clock)
    assert bags.BEGIN_NS < clock[0] < bags.BEGIN_NS + bags.STEP_NS
    assert clock[-1] <= bags.BEGIN_NS + 40 * bags.STEP_NS
    sent = np.array([deserialize_message(data, Int64MultiArray).data for data in heard["/human/player/sent"]])
    assert sent[:, 0].tolist() == [stamp_of(data) for data in heard[IMAGE]]
    # The rate is kept on the whole: some image of the last ones is as much behind its time as some of the first ones.
    behind_s = sent[:, 1].astype(np.int64) * 1e-9 - np.arange(40) / 30 / 2
    assert behind_s[-12:].min() == pytest.approx(behind_s[:12].min(), abs=0.1)
    report = played(process)
    assert (report["images"], report["messages"], report["ended"]) == (40, 80, "end")
    rig.stop(process)


def with_frames(n: int):
    """Images with the robot's frames and, as recorded, those of people."""
    for topic, time_ns, msg in black(n):
        yield topic, time_ns, msg
        if topic == IMAGE:
            yield "/tf", time_ns, bags.transforms(time_ns, ("odom", "base_link"))
            yield "/tf", time_ns, bags.transforms(time_ns, (bags.FRAME_ID, "body_abcde"), ("body_abcde", "head_abcde"))
            yield "/human/people_seen", time_ns, bags.info(time_ns)


def test_frames_of_recorded_people_are_left_out_with_these(rig, heard, tmp_path):
    """To a node that finds the people anew they would be a second publisher of the same frames."""
    path = bags.write_bag(tmp_path / "run", with_frames(10))
    frames = rig.listen(TFMessage, "/tf", 100)
    process = play(rig, path, "rate:=5.0")
    rig.wait(lambda: process.returncode is not None, "the end")
    rig.wait(lambda: len(frames) >= 10, "the robot's frames")
    assert {transform.child_frame_id for message in frames for transform in message.transforms} == {"base_link"}
    assert played(process)["messages"] == 30  # images, camera infos, the robot's frames


def test_a_truncated_recording_is_played_to_the_damage(rig, heard, tmp_path):
    path = bags.write_bag(tmp_path / "cut", black(200))
    file = bags.storage_file(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    process = play(rig, path, "rate:=20.0")
    rig.wait(lambda: process.returncode is not None, "the end")
    report = played(process)
    assert 80 < report["images"] < 200
    assert "cut.mcap" in report["ended"]
    assert rig.stop(process) == 0


REFUSED = {
    "path:=/no/such/bag": "no bag /no/such/bag",
    "topics:=['/no/such']": "no topic /no/such; it has: /camera/camera_info",
    "mode:=fast": "mode must be one of paced, stepped, not 'fast'",
    "rate:=2": "parameter rate takes a number with a decimal point",
    "rate:=1000.0": "parameter rate",
    "path:=''": "set the parameter path",
    "image_topic:=/other": "/other is not played",
}


@pytest.fixture(scope="module")
def refused(rig, bag):
    """One player for each parameter that is refused: they end side by side."""
    return {parameter: play(rig, bag, parameter) for parameter in REFUSED}


@pytest.mark.parametrize("parameter", REFUSED)
def test_what_cannot_be_played_is_refused_with_a_reason(rig, refused, parameter):
    process = refused[parameter]
    rig.wait(lambda: process.returncode is not None, "the end")
    assert process.returncode == 1
    assert REFUSED[parameter] in process.tail()
    assert "Traceback" not in process.tail(100)
    rig.stop(process)


def test_time_does_not_go_back_where_a_killed_recorder_wrote_images_later_than_it_received_them(rig, heard, tmp_path):
    messages = list(black(12))
    late = [messages[i + 2] if i % 2 == 0 else messages[i] for i in range(22)]  # each info before an older image
    path = bags.write_bag(tmp_path / "killed", late)
    (path / "metadata.yaml").unlink()
    file = bags.storage_file(path)
    file.write_bytes(file.read_bytes()[:-8])
    process = play(rig, path, "mode:=stepped", "answer_timeout_s:=0.02", "wait_for_subscriber_s:=5.0")
    rig.wait(lambda: process.returncode is not None, "the end")
    assert played(process)["images"] == 11
    rig.wait(lambda: len(heard["/clock"]) > 1, "the time")
    clock = [stamp_of(data) for data in heard["/clock"]]
    assert clock == sorted(clock)
    assert clock[-1] > clock[0]
    rig.stop(process)


def test_an_image_too_short_for_a_stamp_is_counted_and_the_rest_is_played(rig, heard, tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "run", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(IMAGE, "sensor_msgs/msg/Image", typestore=bags.STORE)
        for i, (_, time_ns, msg) in enumerate(m for m in black(6) if m[0] == IMAGE):
            data = bags.STORE.serialize_cdr(msg, msg.__msgtype__)
            writer.write(connection, time_ns, data if i not in (1, 3) else bytes(data)[: 2 * i + 1])
    process = play(rig, tmp_path / "run")
    rig.wait(lambda: process.returncode is not None, "the end")
    report = played(process)
    assert (report["images"], report["damaged"], report["ended"]) == (4, 2, "end")
    rig.stop(process)


def test_latched_messages_reach_who_comes_late(rig, tmp_path):
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
    from rosbags.rosbag2 import StoragePlugin, Writer

    zero = QosTime(0, 0)
    latched = Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, zero, zero,
        QosLiveliness.AUTOMATIC, zero, False,
    )  # fmt: skip
    messages = list(black(60))
    with Writer(tmp_path / "run", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {topic: msg.__msgtype__ for topic, _, msg in messages}
        connections = {
            topic: writer.add_connection(
                topic, kind, typestore=bags.STORE, offered_qos_profiles=[latched] if "info" in topic else []
            )
            for topic, kind in kinds.items()
        }
        for i, (topic, time_ns, msg) in enumerate(messages):
            if "info" not in topic or i < 2:
                writer.write(connections[topic], time_ns, bags.STORE.serialize_cdr(msg, msg.__msgtype__))
    images = rig.listen(Image, IMAGE, 10, raw=True)
    process = play(rig, tmp_path / "run", "rate:=0.1")
    rig.wait(lambda: len(images) > 3, "images")
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = rig.listen(CameraInfo, "/camera/camera_info", profile)
    rig.wait(lambda: infos, "the camera info that was sent long ago")
    assert process.returncode is None
    rig.stop(process)


def test_stepped_playing_has_every_image_answered(rig, bag, tmp_path):
    commands = [Command.SLOW, Command.PERSON, Command.PERSON] * 4
    slow = bags.write_bag(tmp_path / "slow", with_late_depth(12, commands.__getitem__))
    perception = Perception(rig, "use_sim_time:=true", remap={"depth": DEPTH})
    try:
        for path, n in ((bag, 40), (slow, 12)):
            begin = len(perception.people)
            process = play(rig, path, "mode:=stepped")
            rig.wait(lambda process=process: process.returncode is not None, "the end")
            report = played(process)
            assert (report["images"], report["answered"], report["timeouts"]) == (n, n, 0)
            rig.wait(lambda begin=begin, n=n: len(perception.people) == begin + n, "all people")
            stamps = [msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec for msg in perception.people[begin:]]
            assert stamps == [bags.BEGIN_NS + i * bags.STEP_NS for i in range(n)]
            sources = [msg.humans[0].metric_source for msg in perception.people[begin:]]
            if path is slow:  # two topics: DDS promises no order
                assert sources.count(Human.METRIC_DEPTH_CAMERA) >= n // 2
            rig.stop(process)
            perception.change("deactivate")
            perception.change("activate")
        bad = bags.write_bag(tmp_path / "bad", black(6, lambda i: Command.BAD_FRAME if i == 2 else Command.PERSON))
        process = play(rig, bad, "mode:=stepped", "answer_timeout_s:=2.0")
        rig.wait(lambda: process.returncode is not None, "the end")
        report = played(process)
        assert (report["images"], report["answered"], report["timeouts"]) == (6, 5, 1)
        rig.stop(process)
    finally:
        rig.stop(perception.process)
