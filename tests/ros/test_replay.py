"""Recordings through the real node in processes: what is reported is what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

import bags
from harness import HERE, Perception, image
from hsr import convert
from hsr.bag_topics import bag_topics
from hsr.replay import spread
from hsr.replay_meter import BY_CAMERA_INFO, BY_PLAYER, ProcessUse, ReplayMeter, node_processes
from hsr_msgs.msg import FrameStats, Human, HumanArray
from scripted_node import Command
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Int64MultiArray

IMAGE = "/camera/image_raw"


def write(path, n: int, command=lambda i: Command.PERSON, *, depth: bool = False):
    """A recording of 30 images a second whose bytes are commands of the scripted node."""

    def messages():
        for i in range(n):
            stamp_ns = bags.BEGIN_NS + i * bags.STEP_NS
            yield "/camera/camera_info", stamp_ns, bags.info(stamp_ns)
            yield IMAGE, stamp_ns, bags.image(np.full((*bags.HW, 3), command(i), np.uint8), stamp_ns)
            if depth:
                yield "/camera/depth/camera_info", stamp_ns, bags.info(stamp_ns)
                yield "/camera/depth/image_raw", stamp_ns, bags.image(np.full(bags.HW, 2500, "<u2"), stamp_ns, "16UC1")

    return bags.write_bag(path, messages())


@pytest.fixture
def replay(ros_domain, tmp_path):
    def run(bag, *arguments: str, perception: str = "scripted_node") -> tuple[int, dict, str]:
        command = [
            sys.executable, "-m", "hsr.replay", str(bag), "--json", "--log-dir", str(tmp_path / "logs"),
            "--perception-module", perception, *arguments,
        ]  # fmt: skip
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))}
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return done.returncode, json.loads(lines[-1]) if lines else {}, done.stdout + done.stderr

    return run


def test_a_paced_replay_tells_rate_drops_and_latency(replay, tmp_path):
    bag = write(tmp_path / "slow", 60, lambda i: Command.SLOW)  # 100 ms each, at 30 Hz
    code, result, text = replay(bag)
    assert code == 0, text
    (run,) = result["runs"]
    assert run["sent"] == 60
    assert 10 < run["sent_hz"] < 33  # the last image may be late
    assert run["answered_hz"] < 11
    assert run["answered"] + sum(run["drops"].values()) == 60
    assert sum(run["drops"].values()) > 20
    assert run["drop_rate"] == pytest.approx(1 - run["answered"] / 60)
    assert run["latency_clock"] == BY_PLAYER
    assert run["latency_ms"]["count"] == run["answered"]
    assert 100 < run["latency_ms"]["p50_ms"] <= run["latency_ms"]["p99_ms"] <= run["latency_ms"]["max_ms"]
    assert run["availability"] == pytest.approx(run["answered"] / 60)
    assert {"perception", "player", "meter"} <= set(run["processes"])
    assert all(use["rss_mb_max"] > 10 for use in run["processes"].values())
    assert run["mean_people"] == 1
    assert result["returncodes"] == {"perception": 0, "player0": 0}


def test_stepped_replays_answer_every_image_and_repeat_themselves(replay, tmp_path):
    bag = write(tmp_path / "run", 30, lambda i: Command.SLOW if i % 10 == 0 else Command.PERSON, depth=True)
    code, result, text = replay(bag, "--mode", "stepped", "--repeat", "2")
    assert code == 0, text
    assert len(result["runs"]) == 2
    for run in result["runs"]:
        assert (run["sent"], run["answered"], run["drops"], run["drop_rate"]) == (30, 30, {}, 0)
        assert run["player"]["answered"] == 30
        assert run["player"]["timeouts"] == 0
        assert run["player"]["messages"] == 120  # depth and its camera infos among them
    assert result["spread"]["drop_rate"] == {"median": 0, "min": 0, "max": 0}


def test_the_nodes_listen_to_what_was_recorded(tmp_path):
    begin = bags.BEGIN_NS
    depth = bags.image(np.full(bags.HW, 2500, "<u2"), begin, "16UC1")
    found = bag_topics(str(write(tmp_path / "apart", 2, depth=True)))
    assert found.inputs() == {
        "image": IMAGE, "camera_info": "/camera/camera_info",
        "depth": "/camera/depth/image_raw", "depth_info": "/camera/depth/camera_info",
    }  # fmt: skip
    assert set(found.camera) == {*found.inputs().values()} == set(found.recorded)
    messages = [
        ("/a/image/compressed", begin, bags.compressed(bags.picture(0), begin)),
        ("/a/depth", begin, depth),
        ("/a/camera_info", begin, bags.info(begin)),
        ("/tf", begin, bags.transforms(begin, ("base", "camera"))),
        ("/odom_info", begin, bags.info(begin)),
    ]
    together = bag_topics(str(bags.write_bag(tmp_path / "together", messages)), "/a/image")
    assert together.inputs() == {
        "image": "/a/image", "camera_info": "/a/camera_info", "depth": "/a/depth", "depth_info": "/a/camera_info",
    }  # fmt: skip
    assert together.camera == ("/a/image/compressed", "/a/camera_info", "/a/depth", "/tf")
    assert (together.transport, found.transport, together.people) == ("compressed", "raw", False)


@pytest.mark.slow
def test_bad_images_are_drops_by_decoding(replay, tmp_path):
    bag = write(tmp_path / "bad", 30, lambda i: Command.BAD_FRAME if i in (5, 6, 7) else Command.PERSON)
    code, result, text = replay(bag, "--mode", "stepped", "--timeout", "0.3")
    assert code == 0, text
    (run,) = result["runs"]
    assert run["drops"] == {"decode": 3}
    assert run["answered"] == 27
    assert run["player"]["timeouts"] == 3


def test_a_recording_that_cannot_be_replayed_is_refused_before_anything_starts(replay, tmp_path):
    path = bags.write_bag(tmp_path / "none", [("/other/camera_info", bags.BEGIN_NS, bags.info(bags.BEGIN_NS))])
    code, result, text = replay(path)
    assert code == 2
    assert "holds no images; its topics: /other/camera_info" in text
    assert not result
    assert not (tmp_path / "logs").exists()


def test_what_was_recorded_is_replayed_and_gives_the_same_people(rig, replay, tmp_path):
    perception = Perception(rig)
    path = tmp_path / "recorded"
    arguments = ["--ros-args", "-r", f"image:={IMAGE}", "-r", "camera_info:=/camera/camera_info", "-p", f"path:={path}"]
    recorder = rig.start("recorder", "hsr.record_node", *arguments)
    perception.feed(lambda: "images from" in recorder.tail(), "the recorder", make=lambda: image(size=(64, 48)))
    perception.feed_until_more(perception.people, "people", n=40, make=lambda: image(size=(64, 48)))
    assert rig.stop(recorder) == 0
    rig.stop(perception.process)
    code, result, text = replay(path, "--mode", "stepped")
    assert code == 0, text
    (run,) = result["runs"]
    assert result["image"] == f"{IMAGE}/compressed"
    assert run["sent"] >= 10
    assert run["answered"] == run["sent"]
    assert run["mean_people"] == 1
    assert bag_topics(str(path)).people


def test_the_meter_as_a_node_ends_with_the_player_and_writes_its_result(rig, tmp_path):
    bag = write(tmp_path / "run", 30)
    perception = Perception(rig, "use_sim_time:=true")
    meter = rig.start(
        "meter", "hsr.replay_meter", "--ros-args", "-r", f"image:={IMAGE}", "-p", f"out:={tmp_path / 'out.json'}"
    )
    rig.wait(lambda: "ready" in meter.tail(100), "the meter sees the perception node")
    player = rig.start("player", "hsr.play_node", "--ros-args", "-p", f"path:={bag}")
    rig.wait(lambda: meter.returncode is not None, "the meter's end")
    assert meter.returncode == 0, meter.tail()
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["sent"] == 30 == result["answered"] + sum(result["drops"].values())
    assert result["answered"] > 0, "on a busy computer many are replaced by newer ones"
    assert result == json.loads(meter.tail(1))
    assert {"meter", "play"} <= set(result["processes"])
    for process in (player, meter, perception.process):
        rig.stop(process)


def test_a_result_that_cannot_be_written_is_printed(rig, tmp_path):
    arguments = ["--ros-args", "-r", "__ns:=/alone", "-p", f"out:={tmp_path / 'nowhere' / 'out.json'}"]
    meter = rig.start("meter", "hsr.replay_meter", *arguments)
    perception = rclpy.create_node("perception", context=rig.context)
    perception.create_subscription(Image, "/alone/image", lambda msg: None, 1)
    rig.wait(lambda: "ready" in meter.tail(100), "the meter sees who takes images")
    perception.destroy_node()
    assert rig.stop(meter) == 1
    *_, result, reason = meter.tail().splitlines()
    assert json.loads(result)["sent"] == 0
    assert "the result is only printed above" in reason


def message(stamp_ns: int, state: int = Human.TRACKED, primary: bool = True) -> HumanArray:
    return HumanArray(header=convert.header(stamp_ns, "c"), humans=[Human(state=state, primary=primary)])


def test_figures_by_hand(rig):
    """Five images sent, three answered, one of them without the followed person; the node says why one is missing."""
    meter = ReplayMeter(rig.node, "/m/camera_info")
    for i in range(5):
        meter._on_sent(Int64MultiArray(data=[100 + i, i * 1_000_000_000]))
    meter.received_ns = {100: 10_000_000, 102: 2_030_000_000, 104: 4_020_000_000}
    meter._locked = {100, 104}
    meter.stats = FrameStats(dropped_busy=1)
    result = meter.result()
    assert (result["sent"], result["answered"]) == (5, 3)
    assert result["drops"] == {"busy": 1, "queue": 1}
    assert result["drop_rate"] == pytest.approx(0.4)
    assert result["availability"] == pytest.approx(0.4)
    assert result["latency_ms"]["p50_ms"] == pytest.approx(20)
    assert result["latency_ms"]["max_ms"] == pytest.approx(30)
    assert result["longest_gap_s"] == pytest.approx(2.02)
    assert result["gaps"] == 2
    assert result["first_result_s"] == pytest.approx(0.01)
    assert (result["sent_hz"], result["answered_hz"]) == (1.0, pytest.approx(2 / 4.01, abs=0.01))
    assert not meter.complete()
    meter.close()


def test_without_our_player_the_camera_info_tells_when_an_image_was_sent(rig):
    meter = ReplayMeter(rig.node, "/m/camera_info")
    infos = rig.node.create_publisher(CameraInfo, "/m/camera_info", 10)
    people = rig.node.create_publisher(HumanArray, "people", 10)
    rig.wait(lambda: infos.get_subscription_count() and people.get_subscription_count(), "the meter")
    for i in range(1, 4):
        infos.publish(CameraInfo(header=convert.header(i, "c")))
        rig.wait(lambda i=i: len(meter._info_ns) == i, "the info")
        people.publish(message(i))
        rig.wait(lambda i=i: len(meter.received_ns) == i, "the people")
    result = meter.result()
    assert (result["sent"], result["answered"], result["latency_clock"]) == (3, 3, BY_CAMERA_INFO)
    assert result["latency_ms"]["p50_ms"] > 0
    meter.close()
    for publisher in (infos, people):
        rig.node.destroy_publisher(publisher)


def test_use_of_a_busy_process_is_one_core_and_of_an_idle_one_none():
    script = "import sys, time\nprint(1, flush=True)\n"
    busy = subprocess.Popen([sys.executable, "-c", script + "while True: pass"], stdout=subprocess.PIPE)
    idle = subprocess.Popen([sys.executable, "-c", script + "time.sleep(60)"], stdout=subprocess.PIPE)
    try:
        busy.stdout.readline(), idle.stdout.readline()
        use = ProcessUse(lambda: {"busy": busy.pid, "idle": idle.pid})
        use.sample(now=True)
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            use.sample()
            busy.poll()
            time.sleep(0.05)
        use.sample(now=True)
    finally:
        busy.kill(), idle.kill()
        busy.wait(), idle.wait()
    result = use.result()
    assert result["idle"]["cpu_percent"] < 2 < result["busy"]["cpu_percent"] <= 110
    assert result["idle"]["rss_mb_max"] > 3


def test_processes_are_found_by_domain(rig):
    process = rig.start("source", "hsr.source_node", "--ros-args", "-p", "source:=synthetic")
    rig.wait(lambda: node_processes(str(rig.domain)).get("source") == process.pid, "the node's process")
    assert "source" not in node_processes("9999")
    rig.stop(process)


def test_spread_over_runs():
    latency = {"p50_ms": 1.0, "max_ms": 9.0, "count": 5}
    base = dict.fromkeys(("answered_hz", "drop_rate", "availability", "longest_gap_s", "interval_jitter_ms"), 0.5)
    runs = [{**base, "answered_hz": hz, "latency_ms": latency} for hz in (10, 30, 20)]
    assert spread(runs)["answered_hz"] == {"median": 20, "min": 10, "max": 30}
    assert spread(runs)["latency_max_ms"]["max"] == 9.0
    assert spread([]) == {}
