"""Recordings that are cut off keep what was flushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from bags import BEGIN_NS, STEP_NS, STORE, camera, storage_file
from mcap.reader import make_reader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader

from hsr_core.errors import ConfigError
from hsr_core.sources.bag import BagSource
from hsr_core.sources.bag_reader import BagReader
from hsr_core.sources.bag_writer import Recording

FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 4, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER, FOREVER,
    QosLiveliness.AUTOMATIC, FOREVER, False,
)  # fmt: skip


def serialised(n):
    for topic, time_ns, msg in camera(n):
        yield topic, msg.__msgtype__, time_ns, bytes(STORE.serialize_cdr(msg, msg.__msgtype__))


def test_what_is_written_is_read_by_two_other_readers_with_metadata(tmp_path):
    recording = Recording(tmp_path / "bag")
    messages = list(serialised(30))
    for i, (topic, kind, time_ns, data) in enumerate(messages):
        recording.write(topic, kind, time_ns, data, [LATCHED])
        if i % 10 == 9:
            recording.flush()
    recording.close()
    with Reader(tmp_path / "bag") as reader:
        assert [(c.topic, c.msgtype, t, bytes(d)) for c, t, d in reader.messages()] == messages
        assert [connection.ext.offered_qos_profiles for connection in reader.connections] == [[LATCHED]] * 2
    with storage_file(tmp_path / "bag").open("rb") as file:
        reader = make_reader(file)
        found = [(c.topic, s.name, m.log_time, m.data) for s, c, m in reader.iter_messages()]
        assert found == messages
        chunks = reader.get_summary().chunk_indexes
        assert len(chunks) >= 6
        assert {chunk.compression for chunk in chunks} == {"zstd"}
    data = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert data["version"] == 8
    assert data["storage_identifier"] == "mcap"
    assert data["message_count"] == 60
    assert data["relative_file_paths"] == [storage_file(tmp_path / "bag").name]
    (entry,) = [t for t in data["topics_with_message_count"] if t["topic_metadata"]["name"] == "/camera/image_raw"]
    assert entry["message_count"] == 30
    assert entry["topic_metadata"]["type"] == "sensor_msgs/msg/Image"
    profile = yaml.safe_load(entry["topic_metadata"]["offered_qos_profiles"])[0]
    assert profile["durability"] == 1  # transient local


def test_an_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(ConfigError, match="exists"):
        Recording(tmp_path)
    with pytest.raises(ConfigError, match="cannot record into"):
        Recording("/proc/nowhere/bag")


_RECORD = """
import os, signal, sys
from test_bag_writer import serialised
from hsr_core.sources.bag_writer import Recording
recording = Recording(sys.argv[1])
for i, (topic, kind, time_ns, data) in enumerate(serialised(100)):
    recording.write(topic, kind, time_ns, data)
    if i == 99:
        recording.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(script, *arguments):
    """Run a script in a process of its own, which may end as it likes."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environ)


def test_a_killed_process_leaves_what_was_flushed(tmp_path):
    assert run(_RECORD, tmp_path / "bag").returncode == -9
    assert not (tmp_path / "bag" / "metadata.yaml").exists()
    with BagSource(tmp_path / "bag") as source:
        frames = list(source)
        assert source.diagnosis.unindexed
    assert len(frames) >= 50
    assert [frame.stamp_ns for frame in frames] == [BEGIN_NS + i * STEP_NS for i in range(len(frames))]


_FILL = """
import json, os, resource, sys
from test_bag_writer import serialised
from hsr_core.sources.bag_writer import Recording, RecordingStopped
recording = Recording(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    for i, (topic, kind, time_ns, data) in enumerate(serialised(3000)):
        recording.write(topic, kind, time_ns, bytes([i % 251]) * 3 + os.urandom(len(data)))
        if i % 20 == 19:
            recording.flush()
            kept = i + 1
except RecordingStopped as error:
    print(json.dumps([kept, str(error)]))
recording.close()
"""


def test_a_disk_that_fills_keeps_what_was_flushed_and_says_so(tmp_path):
    out = run(_FILL, tmp_path / "bag", 400_000)
    assert not out.stderr
    kept, text = json.loads(out.stdout)
    assert "has stopped" in text
    assert "are kept" in text
    file = storage_file(tmp_path / "bag")
    assert 200_000 < file.stat().st_size <= 400_000
    with BagReader(tmp_path / "bag") as reader:
        assert sum(topic.count for topic in reader.topics.values()) == kept
        assert reader.unindexed
