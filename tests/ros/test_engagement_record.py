"""Recordings of engagements, read by two other libraries; disks that are full, slow or gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from hsr import engagement_record, retarget_record
from hsr.engagement_record import EngagementRecorder
from hsr.stamps import header as stamped
from hsr_msgs.msg import Human, HumanArray
from mcap.reader import make_reader
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import JointState

from hsr_core.engagement import METADATA_NAME, engagements_of, read_header
from hsr_core.retarget.command import State
from hsr_core.sources.bag_people import read_people
from hsr_core.sources.bag_reader import BagReader
from hsr_core.sources.mcap_file import McapFile, definitions

BEGIN_NS, STEP_NS = 1_763_784_605_250_000_000, 10_000_000
PEOPLE, COMMAND = "/human/people", "/human/retarget/joint_command"
HEADER = {
    "format": "hsr-engagement/1", "robot": "g1", "joint_names": ["elbow", "wrist"], "settings": {"rate_hz": 100.0},
    "topics": {"people": PEOPLE, "command": COMMAND},
}  # fmt: skip


@cache
def messages(count: int) -> list[tuple[str, str, bytes, int]]:
    """Return (topic, type, serialised, stamp) as a node has them: commands, and people at a tenth of their rate."""
    return list(_messages(count))  # kept: what fills the gaps between the fields is another each time


def _messages(count: int):
    for i in range(count):
        now = BEGIN_NS + i * STEP_NS
        command = JointState(header=stamped(now, ""), name=["elbow", "wrist"], position=[0.01 * i, -0.02 * i])
        yield COMMAND, "sensor_msgs/msg/JointState", serialize_message(command), now
        if i % 10 == 0:
            joints = [float(i)] * 165
            person = Human(track_id=3, state=Human.TRACKED, metric_source=Human.METRIC_ASSUMED_HEIGHT, joints=joints,
                           joint_quats_xyzw=[0.5] * 220, joint_score=[1.0] * 55, keypoints2d=[0.0] * 165)  # fmt: skip
            everybody = HumanArray(header=stamped(now - STEP_NS, "camera"), seq=i, source=2, humans=[person])
            yield PEOPLE, "hsr_msgs/msg/HumanArray", serialize_message(everybody), now


def recorded(folder: Path, count: int = 100, **options) -> tuple[Path, dict]:
    recorder = EngagementRecorder(folder, HEADER, **options)
    recorder.begin(BEGIN_NS, operator=3, model_id="open:1")
    for message in messages(count):
        recorder.write(*message)
    recorder.end()
    recorder.close()
    (path,) = engagements_of(folder)
    return path, recorder.status()


def wait(condition, what: str) -> None:
    assert _wait_for(condition), f"waited in vain for {what}"


def _wait_for(condition, limit_s: float = 60.0) -> bool:
    pause = threading.Event()
    for _ in range(round(limit_s / 0.01)):
        if condition():
            return True
        pause.wait(0.01)
    return False


def test_it_is_read_by_two_other_libraries_without_our_definitions(tmp_path):
    decoders = pytest.importorskip("mcap_ros2.decoder", reason="pip install mcap-ros2-support")
    path, status = recorded(tmp_path)
    assert path.name == "20251122T041005.250Z_operator-3.mcap"
    sent = messages(100)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[decoders.DecoderFactory()])
        found = [(c.topic, s.name, bytes(m.data), m.log_time) for s, c, m in reader.iter_messages()]
        assert [(*one[:2], one[3]) for one in found] == [(*one[:2], one[3]) for one in sent]
        decoded = [one.decoded_message for one in reader.iter_decoded_messages(topics=[PEOPLE])]
        assert [one.seq for one in decoded] == list(range(0, 100, 10))
        assert decoded[3].humans[0].joints[0] == 30.0
        assert {chunk.compression for chunk in reader.get_summary().chunk_indexes} == {"zstd"}
        (metadata,) = reader.iter_metadata()
    assert metadata.name == "hsr-engagement"
    assert metadata.metadata["robot"] == "g1"
    assert json.loads(metadata.metadata["operator"]) == 3
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(path) as reader:
        for connection in reader.connections:
            types = get_types_from_msg(connection.msgdef.data, connection.msgtype)
            store.register({name: fields for name, fields in types.items() if name not in store.types})
        read = [store.deserialize_cdr(data, connection.msgtype) for connection, _, data in reader.messages()]
    assert len(read) == len(sent)
    assert max(one.position[0] for one in read if one.__msgtype__.endswith("JointState")) == 0.99
    assert (status["files"], status["failed"], status["dropped"], status["lost"], status["error"]) == (1, 0, 0, 0, "")


def test_the_library_reads_its_header_and_its_people(tmp_path):
    path, _ = recorded(tmp_path)
    header = read_header(path)
    assert header["settings"] == {"rate_hz": 100.0}
    assert header["joint_names"] == ["elbow", "wrist"]
    assert (header["operator"], header["begin_ns"], header["model_id"]) == (3, BEGIN_NS, "open:1")
    with read_people(path) as people:
        assert [frame.stamp_ns for frame in people] == [BEGIN_NS - STEP_NS + i * STEP_NS for i in range(0, 100, 10)]
    assert read_header(tmp_path / "no.mcap") == {}
    (tmp_path / "other.mcap").write_bytes(b"no mcap")
    assert read_header(tmp_path / "other.mcap") == {}
    facts = {"format": "hsr-engagement/1", "topics": "{}"}  # of which joints it does not say
    McapFile(tmp_path / "less.mcap", definitions(), METADATA_NAME, facts).close()
    assert read_header(tmp_path / "less.mcap") == {}


def test_each_engagement_has_a_file_and_between_them_nothing_is_written(tmp_path):
    recorder = EngagementRecorder(tmp_path / "deep" / "er", HEADER)
    sent = messages(30)
    recorder.write(*sent[0])
    for first in (0, 10, 20):  # the second begins where the first is not ended; all have the same time
        recorder.begin(BEGIN_NS, operator=first)
        for message in sent[first : first + 10]:
            recorder.write(*message)
        if first:
            recorder.end()
            recorder.write(*sent[0])
    recorder.begin(BEGIN_NS, operator=0)
    recorder.close()
    recorder.write(*sent[0])
    paths = list(engagements_of(tmp_path / "deep" / "er"))
    assert sorted(path.name[20:] for path in paths) == [
        "_operator-0.mcap", "_operator-0_2.mcap", "_operator-10.mcap", "_operator-20.mcap",
    ]  # fmt: skip
    for path in paths:
        with BagReader(path) as reader:
            assert not reader.unindexed
            assert sum(topic.count for topic in reader.topics.values()) == (0 if "_2" in path.name else 10)
    assert recorder.status()["files"] == 4


def whole_records(data: bytes) -> bool:
    """Return whether a file ends where a record does."""
    at = 8  # behind the magic
    while at < len(data):
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return at == len(data)


def test_a_hold_stays_in_the_recording_and_another_operator_begins_one(tmp_path, monkeypatch):
    monkeypatch.setattr(retarget_record, "engagement_header", lambda *args: HEADER)
    governor = SimpleNamespace(state=State.READY, operator=3)
    session = SimpleNamespace(governor=governor, robot=None, settings=None)
    now = iter(range(BEGIN_NS, BEGIN_NS + 10**9, 1000))
    recorder = retarget_record.Recorder(str(tmp_path), session, HEADER["topics"], lambda: next(now))
    data = messages(1)[0][2]
    for operator, state, sent in (
        (3, State.READY, False), (3, State.ENGAGING, True), (3, State.TRACKING, True), (None, State.HOLD, True),
        (3, State.ENGAGING, True), (None, State.HOLD, True), (7, State.HOLD, True), (7, State.ENGAGING, True),
        (7, State.STOPPED, True), (7, State.STOPPED, False), (7, State.DISARMED, False),
    ):  # fmt: skip
        governor.operator, governor.state = operator, state
        recorder.follow(sent, "open:1")
        recorder.write("command", data)
    recorder.close()
    counts = {}
    for path in engagements_of(tmp_path):
        with BagReader(path) as reader:
            counts[read_header(path)["operator"]] = reader.topics[COMMAND].count
    assert counts == {3: 6, 7: 2}


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, which may end as it likes."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environ)


_KILLED = """
import os, signal, sys, threading
from test_engagement_record import BEGIN_NS, HEADER, messages, wait
from hsr.engagement_record import EngagementRecorder
recorder = EngagementRecorder(sys.argv[1], HEADER, flush_s=0.01)
recorder.begin(BEGIN_NS, operator=3)
for message in messages(3000):
    recorder.write(*message)
wait(lambda: recorder.status()["queued_bytes"] == 0, "an empty queue")
size = recorder._file.path.stat().st_size
wait(lambda: recorder._file.kept_bytes >= size, "a flush")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_before_a_kill_is_read(tmp_path):
    out = run(_KILLED, tmp_path)
    assert out.returncode == -9, out.stderr
    (path,) = engagements_of(tmp_path)
    assert path.name.endswith("_operator-3.partial.mcap")
    assert read_header(path)["robot"] == "g1"
    with BagReader(path) as reader:
        assert reader.unindexed
        kept = [(topic, stamp) for topic, stamp, _ in reader.messages([PEOPLE, COMMAND])]
    sent = [(topic, stamp) for topic, _, _, stamp in messages(3000)]
    assert kept == sent[: len(kept)]
    assert sum(len(data) for _, _, data, _ in messages(3000)[len(kept) :]) < 64 << 10  # what was in no whole chunk


_FULL = """
import json, os, resource, sys
from test_engagement_record import BEGIN_NS, HEADER, wait
from hsr.engagement_record import EngagementRecorder
recorder = EngagementRecorder(sys.argv[1], HEADER, flush_s=0.01)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
kind = "std_msgs/msg/String"
recorder.begin(BEGIN_NS, operator=1)
for i in range(500):
    recorder.write("/noise", kind, b"\\0\\1\\0\\0" + (4000).to_bytes(4, "little") + os.urandom(4000), BEGIN_NS + i)
wait(lambda: recorder.status()["queued_bytes"] == 0, "an empty queue")
full = recorder.status()
recorder.end()
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
recorder.begin(BEGIN_NS, operator=2)
recorder.write("/noise", kind, b"\\0\\1\\0\\0\\0\\0\\0\\0", BEGIN_NS)
recorder.close()
print(json.dumps([full, recorder.status()]))
"""


def test_a_full_disk_is_told_and_the_next_engagement_tries_again(tmp_path):
    out = run(_FULL, tmp_path)
    assert not out.stderr
    full, later = json.loads(out.stdout)
    assert "has stopped" in full["error"]
    assert (full["failed"], full["files"], full["file"], full["dropped"]) == (1, 0, "", 0)
    assert 400 < full["lost"] < 500
    assert (later["failed"], later["files"], later["error"]) == (1, 1, "")
    paths = {path.name.partition("Z_")[2]: path for path in engagements_of(tmp_path)}
    assert set(paths) == {"operator-1.partial.mcap", "operator-2.mcap"}
    assert 150_000 < paths["operator-1.partial.mcap"].stat().st_size <= 300_000
    with BagReader(paths["operator-1.partial.mcap"]) as reader:
        assert reader.topics["/noise"].count == 500 - full["lost"]
    assert whole_records(paths["operator-1.partial.mcap"].read_bytes())


def test_a_folder_that_cannot_be_written_is_told_before_and_after(tmp_path):
    (tmp_path / "file").touch()
    recorder = EngagementRecorder(tmp_path / "file" / "folder", HEADER)
    assert "cannot record into" in recorder.status()["error"]
    recorder.begin(BEGIN_NS)
    for message in messages(10):
        recorder.write(*message)
    recorder.end()
    recorder.close()
    status = recorder.status()
    assert (status["failed"], status["lost"], status["files"]) == (1, 11, 0)
    assert "has stopped" in status["error"]


def test_a_disk_that_does_not_answer_costs_messages_and_nobody_waits(tmp_path, monkeypatch):
    answers = threading.Event()

    class Slow(engagement_record.McapFile):
        def write(self, *args):
            assert answers.wait(60.0)
            super().write(*args)

    monkeypatch.setattr(engagement_record, "McapFile", Slow)
    recorder = EngagementRecorder(tmp_path, HEADER, queue_bytes=20_000)
    recorder.begin(BEGIN_NS)
    sent = messages(300)
    for message in sent:  # would wait here for ever
        recorder.write(*message)
    recorder.end()
    status = recorder.status()
    assert status["dropped"] > 200
    assert 10_000 < status["queued_bytes"] <= 20_000
    answers.set()
    recorder.close()
    (path,) = engagements_of(tmp_path)
    with BagReader(path) as reader:
        assert sum(topic.count for topic in reader.topics.values()) == len(sent) - status["dropped"]


def test_the_thread_that_writes_is_not_nice(tmp_path):
    """The control loop waits for the interpreter's lock, and would wait while a nice thread that has it may not run."""
    before = set(threading.enumerate())
    recorder = EngagementRecorder(tmp_path, HEADER)
    (thread,) = set(threading.enumerate()) - before
    recorder.begin(BEGIN_NS)
    wait(lambda: recorder.status()["file"], "a file")
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == os.getpriority(os.PRIO_PROCESS, 0)
    recorder.close()


def test_a_type_that_is_not_known_costs_its_topic_alone(tmp_path):
    recorder = EngagementRecorder(tmp_path, HEADER)
    recorder.begin(BEGIN_NS)
    for message in messages(5):
        recorder.write(*message)
        recorder.write("/odd", "odd_msgs/msg/Odd", b"\0\1\0\0", BEGIN_NS)
    recorder.close()
    status = recorder.status()
    assert (status["lost"], status["failed"], status["files"]) == (6, 0, 1)
    assert "/odd is not recorded" in status["error"]
    (path,) = engagements_of(tmp_path)
    with BagReader(path) as reader:
        assert set(reader.topics) == {PEOPLE, COMMAND}
