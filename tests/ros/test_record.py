"""The recorder as a process beside a real perception node; what it wrote is read without ROS."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

import yaml
from harness import Perception, best_effort, image
from heeding import heed_signals
from hsr import convert
from hsr.images import image_to_compressed_msg
from hsr.processes import SESSION_NICE
from hsr.record_writer import Disk, JpegMaker
from hsr_msgs.msg import BodyModel, HumanArray
from rclpy.qos import DurabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, Image

from hsr_core.sources.bag import BagSource
from hsr_core.sources.bag_people import read_people
from hsr_core.sources.bag_reader import BagReader

JPEG = "/camera/image_raw/compressed"


def record(rig, path, *parameters: str, environ=None):
    arguments = ["--ros-args", "-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
    for pair in (f"path:={path}", "print_summary:=true", *parameters):
        arguments += ["-p", pair]
    process = rig.start("recorder", "hsr.record_node", *arguments, environ=environ)
    rig.wait(lambda: process.returncode is not None or "recording into" in process.tail(), "the recorder")
    return process


def summary_of(process) -> dict:
    return json.loads(process.tail(1))


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig)


HEARD = (
    *("/human/people", "/human/stats", "/human/body_model", "/human/joint_states", "/human/urdf"),
    *("/camera/camera_info", "images from"),
)


def hears(process) -> bool:
    """True once the recorder has had something of everything."""
    log = process.tail(100)
    return all(name in log for name in HEARD)


def play(perception, process, *, frames: int = 30) -> list[int]:
    """Feed the camera until the recorder has subscribed, and `frames` frames more; return the stamps of all of them."""
    stamps = []

    def make():
        msg = image(size=(64, 48))
        stamps.append(convert.stamp_to_ns(msg.header.stamp))
        return msg

    perception.feed(lambda: hears(process), "the recorder's subscription", make=make)
    perception.feed_until_more(perception.people, "people", n=frames, make=make)
    return stamps


@dataclass(frozen=True)
class Recorded:
    """A recording that was ended in order; the stamps of the images that were sent [ns], and what it printed."""

    path: Path
    stamps: list[int]
    summary: dict


@pytest.fixture(scope="module")
def recorded(rig, perception, tmp_path_factory) -> Recorded:
    path = tmp_path_factory.mktemp("recorded") / "run"
    process = record(rig, path)
    stamps = play(perception, process)
    rig.wait(lambda: perception.people[-1].header.stamp == perception.stats[-1].header.stamp, "the last statistics")
    assert rig.stop(process) == 0
    return Recorded(path, stamps, summary_of(process))


def test_inputs_and_outputs_are_recorded_as_they_were_sent(perception, recorded):
    sent = {convert.stamp_to_ns(msg.header.stamp): msg for msg in perception.people}
    assert recorded.summary["error"] == ""
    assert recorded.summary["dropped"] == {}

    with BagReader(recorded.path) as reader:
        assert not reader.unindexed
        counts = {topic.name: topic.count for topic in reader.topics.values()}
    assert counts == recorded.summary["messages"]
    for latched in ("/human/body_model", "/human/urdf"):  # once, maybe before the recorder came
        assert counts.pop(latched) == 1
    assert set(counts) == {
        "/human/people", "/human/stats", "/human/joint_states", "/tf", JPEG, "/camera/camera_info"
    }  # fmt: skip
    assert min(counts.values()) >= 10

    with read_people(recorded.path) as people:
        heard = [frame for frame in people if frame.stamp_ns in sent]  # a busy test may miss what the recorder has
    assert len(heard) >= 10
    for frame in heard:
        message = sent[frame.stamp_ns]
        assert (frame.seq, frame.frame_id) == (message.seq, message.header.frame_id)
        (person,) = frame.people
        np.testing.assert_array_equal(person.joints.reshape(-1), message.humans[0].joints)
        assert person.letters == message.humans[0].id

    with BagSource(recorded.path) as source:
        frames = list(source)
        assert source.diagnosis.problems() == {}
    assert {frame.stamp_ns for frame in frames} <= set(recorded.stamps)
    assert len(frames) == counts[JPEG]
    assert frames[0].camera is not None
    assert frames[0].image.max() <= 2  # the picture was black


def test_metadata_tells_the_publishers_quality_of_service(rig, recorded):
    data = yaml.safe_load((recorded.path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert data["compression_mode"] == ""
    profiles = {
        entry["topic_metadata"]["name"]: yaml.safe_load(entry["topic_metadata"]["offered_qos_profiles"])
        for entry in data["topics_with_message_count"]
    }
    (info,) = rig.node.get_publishers_info_by_topic("/human/body_model")
    assert info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profiles["/human/body_model"][0]["durability"] == int(DurabilityPolicy.TRANSIENT_LOCAL)
    assert profiles["/human/people"][0]["durability"] == int(DurabilityPolicy.VOLATILE)
    assert profiles["/human/people"][0]["reliability"] == 1


def test_recorded_bytes_are_what_ros_reads(recorded):
    with BagReader(recorded.path) as reader:
        ((_, people),) = reader.first("/human/people")
        assert deserialize_message(bytes(people), HumanArray).humans[0].track_id >= 0
        ((_, body),) = reader.first("/human/body_model")
        assert len(deserialize_message(bytes(body), BodyModel).joint_names) == 55
        ((_, jpeg),) = reader.first(JPEG)
        assert deserialize_message(bytes(jpeg), CompressedImage).format == "jpeg"


def test_a_reader_that_does_not_know_our_messages_shows_joints_and_frames(recorded):
    """One that takes every definition from the recording itself, and imports nothing of ROS."""
    with AnyReader([recorded.path]) as reader:
        first = {
            topic: reader.deserialize(data, connection.msgtype)
            for topic in ("/human/joint_states", "/tf", "/human/people")
            for connection, _, data in islice(reader.messages(reader.topics[topic].connections), 1)
        }
    joints, frames, people = first.values()
    assert len(joints.name) == len(joints.position) == 165
    assert frames.transforms[0].child_frame_id.startswith("body_")
    assert people.header.frame_id == frames.transforms[0].header.frame_id


def test_a_camera_that_sends_jpegs_is_recorded_as_it_sends_them(rig, tmp_path):
    publisher = rig.node.create_publisher(CompressedImage, "/jpeg/image_raw/compressed", 10)
    raw = rig.node.create_publisher(Image, "/jpeg/image_raw", best_effort())
    process = rig.start(
        "recorder", "hsr.record_node", "--ros-args", "-r", "image:=/jpeg/image_raw", "-p", f"path:={tmp_path / 'run'}",
        "-p", "print_summary:=true",
    )  # fmt: skip
    rig.wait(lambda: publisher.get_subscription_count() == 1, "the recorder")
    pictures = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(10)]
    msgs = [image_to_compressed_msg(pixels, time.time_ns() + i, "c_optical_frame") for i, pixels in enumerate(pictures)]
    for msg in msgs:
        publisher.publish(msg)
        rig.executor.spin_once(timeout_sec=0.02)
    assert raw.get_subscription_count() == 0
    rig.stop(process)
    assert summary_of(process)["messages"]["/jpeg/image_raw/compressed"] >= 8
    with BagReader(tmp_path / "run") as reader:
        for _, _, data in reader.messages(["/jpeg/image_raw/compressed"]):
            got = reader.decode("/jpeg/image_raw/compressed", data)
            assert bytes(got.data) in [bytes(msg.data) for msg in msgs]
    rig.node.destroy_publisher(publisher)
    rig.node.destroy_publisher(raw)


def test_what_was_flushed_before_the_recorder_is_killed_can_be_read(rig, perception, tmp_path):
    process = record(rig, tmp_path / "run")
    play(perception, process)
    last_ns = convert.stamp_to_ns(perception.people[-1].header.stamp)

    def on_the_disk() -> bool:
        """True once the files, as they are, hold the newest people; nothing but the time makes the recorder flush."""
        shutil.copytree(tmp_path / "run", tmp_path / "copy", dirs_exist_ok=True)
        with read_people(tmp_path / "copy") as people:
            return last_ns in [frame.stamp_ns for frame in people]

    rig.wait(on_the_disk, "the newest people on the disk")
    process.signal(signal.SIGKILL)
    rig.wait(lambda: process.returncode is not None, "its end")
    rig.stop(process)
    assert not (tmp_path / "run" / "metadata.yaml").exists()
    with BagSource(tmp_path / "run") as source:
        assert len(list(source)) >= 10
        assert source.diagnosis.unindexed
    with read_people(tmp_path / "run") as people:
        stamps = [frame.stamp_ns for frame in people]
    assert last_ns in stamps
    assert len(stamps) >= 10


def test_a_full_disk_ends_the_recorder_with_a_reason_and_nothing_else(rig, perception, tmp_path, monkeypatch):
    limited = tmp_path / "limited.py"
    limited.write_text(
        "import resource\nfrom hsr.record_node import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))\nmain()\n"
    )
    arguments = ["--ros-args", "-r", "image:=/camera/image_raw", "-p", f"path:={tmp_path / 'run'}"]
    environ = {"PYTHONPATH": f"{tmp_path}:{rig.environ['PYTHONPATH']}"}
    process = rig.start("recorder", "limited", *arguments, environ=environ)
    noise = np.random.default_rng(0)

    def make():
        return image(size=(64, 48), data=b"\0" + noise.bytes(64 * 48 * 3 - 1))

    perception.feed(lambda: process.returncode is not None, "the recorder's end", make=make)
    assert process.returncode == 1
    assert "has stopped" in process.tail()
    assert "Traceback" not in process.tail(100)
    with BagReader(tmp_path / "run") as reader:
        assert reader.topics["/human/people"].count > 3
    perception.works()
    rig.stop(process)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


REFUSED = {
    "transport:=fast": "transport must be one of auto, compressed, raw, not 'fast'",
    "jpeg_quality:=500": "parameter jpeg_quality",
    "flush_s:=1": "parameter flush_s takes a number with a decimal point",
    "path:=''": "set the parameter path",
}


@pytest.fixture(scope="module")
def refused(rig, tmp_path_factory):
    """A recorder and its folder for each parameter that is refused: they end side by side."""
    folder = tmp_path_factory.mktemp("refused")
    paths = {parameter: folder / str(number) for number, parameter in enumerate(REFUSED)}
    return {
        parameter: (
            rig.start("recorder", "hsr.record_node", "--ros-args", "-p", f"path:={path}", "-p", parameter), path
        )
        for parameter, path in paths.items()
    }  # fmt: skip


@pytest.mark.parametrize("parameter", REFUSED)
def test_a_wrong_setting_is_refused_before_anything_is_written(rig, refused, parameter):
    process, path = refused[parameter]
    rig.wait(lambda: process.returncode is not None, "its end")
    assert process.returncode == 1
    assert REFUSED[parameter] in process.tail()
    assert "Traceback" not in process.tail(100)
    assert not path.exists()
    rig.stop(process)


def test_whatever_ends_the_writing_is_told():
    class Broken:
        def write(self, *args):
            raise ValueError("no such type")

    ended = threading.Event()
    disk = Disk(Broken(), 0.5, 1000, ended.set)
    disk.put("/a", "x/msg/X", 1, b"data", [])
    assert ended.wait(10.0)
    assert disk.error == "ValueError: no such type"
    disk.put("/a", "x/msg/X", 2, b"data", [])
    assert disk.dropped == {"/a": 1}
    disk.close()


def test_raw_images_wait_for_their_jpegs_up_to_64_mb():
    """Of what is beyond that the oldest are dropped; small images, which take no memory, are not."""
    slow, made = threading.Event(), []

    def take(time_ns: int, data: bytes) -> None:
        slow.wait(20)
        made.append(time_ns)

    jpegs = JpegMaker(90, take)
    small, large = (bytes(serialize_message(image(size=size))) for size in ((64, 48), (2560, 2560)))  # 20 MB
    for time_ns in range(100):
        jpegs.put(time_ns, small)
    assert jpegs.dropped == 0
    for time_ns in range(100, 104):
        jpegs.put(time_ns, large)
    assert jpegs.dropped >= 99  # what was being made is not
    slow.set()
    jpegs.close()
    assert made[-3:] == [101, 102, 103]
    assert len(made) + jpegs.dropped == 104


def test_a_folder_that_exists_is_refused(rig, tmp_path):
    process = rig.start("recorder", "hsr.record_node", "--ros-args", "-p", f"path:={tmp_path}")
    rig.wait(lambda: process.returncode is not None, "its end")
    assert process.returncode == 1
    assert "record: cannot record into" in process.tail()
    rig.stop(process)


def test_more_topics_are_recorded_and_those_that_are_recorded_anyway_not_twice(rig, perception, tmp_path):
    process = record(rig, tmp_path / "run", "extra_topics:=['/human/skeleton', '/human/people', '/no/such']")
    perception.feed(lambda: "first message on /human/skeleton" in process.tail(100), "one of more topics")
    play(perception, process, frames=5)
    assert rig.stop(process) == 0
    assert summary_of(process)["messages"]["/human/skeleton"] > 0
    with read_people(tmp_path / "run") as people:
        stamps = [frame.stamp_ns for frame in people]
    assert len(stamps) == len(set(stamps)) > 0


def test_raw_images_become_jpegs_with_the_right_colours(rig, perception, tmp_path):
    process = record(rig, tmp_path / "run", "jpeg_quality:=95")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, 8:] = (200, 100, 50)  # rgb

    def make():
        return image(size=(64, 48), encoding="rgb8", data=pixels.tobytes())

    perception.feed(lambda: hears(process), "the recorder's subscription", make=make)
    perception.feed_until_more(perception.people, "people", n=10, make=make)
    rig.stop(process)
    with BagSource(tmp_path / "run") as source:
        frame = next(iter(source))
    bgr = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)[24, 40].astype(int)
    np.testing.assert_allclose(bgr, (200, 100, 50), atol=6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_ends_hsr_record_ends_the_recording_in_order(rig, perception, tmp_path, number):
    command = [
        sys.executable, "-m", "hsr_core.cli", "record", str(tmp_path / "run"), "--json", "--topic", "/human/skeleton",
    ]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, env=rig.environ, stdout=subprocess.PIPE, stderr=stderr, text=True, preexec_fn=heed_signals
        )
    try:
        file = tmp_path / "run" / "run.mcap"
        heard = (*HEARD, "/human/skeleton")
        perception.feed(lambda: all(name in log.read_text() for name in heard), "something of everything")
        perception.feed_until_more(perception.people, "people", n=20)
        perception.feed(lambda: file.stat().st_size > 10_000, "the first chunks")
        process.send_signal(number)
        out, _ = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0
    *_, told, summary = out.splitlines()
    assert told.startswith("recorded ")
    assert json.loads(summary)["messages"]["/human/skeleton"] > 0
    with BagReader(tmp_path / "run") as reader:
        assert not reader.unindexed
        assert reader.topics["/human/people"].count >= 5


def autogroup() -> list[str]:
    """Words of this process's session group; none where the kernel does not group sessions."""
    path = Path("/proc/self/autogroup")
    return path.read_text().split() if path.exists() else []


@pytest.mark.skipif(not autogroup(), reason="the kernel does not group sessions")
def test_only_a_session_of_its_own_is_made_nice():
    script = (
        "from hsr.processes import yield_to_other_sessions\n"
        "yield_to_other_sessions()\nprint(open('/proc/self/autogroup').read().split()[-1])"
    )
    command = [sys.executable, "-c", script]
    before = autogroup()[-1]
    alone = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    assert alone.stdout.strip() == str(SESSION_NICE)
    beside_others = subprocess.run(command, capture_output=True, text=True, check=True)
    assert beside_others.stdout.strip() == before


def test_hsr_record_ends_by_itself_after_its_time(rig, tmp_path):
    command = [sys.executable, "-m", "hsr_core.cli", "record", str(tmp_path / "run"), "--for", "0.5", "--json"]
    process = subprocess.run(command, env=rig.environ, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert summary["seconds"] >= 0.5
    assert summary["path"] == str(tmp_path / "run")
