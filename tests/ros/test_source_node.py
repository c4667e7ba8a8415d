"""The source node: a clip, a drawn figure or nothing usable, as a camera."""

from __future__ import annotations

import time

import av
import numpy as np
import pytest
from hsr import convert
from sensor_msgs.msg import CameraInfo, Image

from hsr_core.sources import DEFAULT_CLIP


def play(rig, source, *parameters: str):
    arguments = ["--ros-args", "-p", f"source:={source}"]
    for pair in parameters:
        arguments += ["-p", pair]
    return rig.start("source", "hsr.source_node", *arguments)


@pytest.fixture
def camera(rig):
    """What arrives on the camera's topics during one test."""
    images, infos = [], []
    subscriptions = [
        rig.node.create_subscription(Image, "/camera/image_raw", images.append, 20),
        rig.node.create_subscription(CameraInfo, "/camera/camera_info", infos.append, 20),
    ]
    yield images, infos
    for subscription in subscriptions:
        rig.node.destroy_subscription(subscription)


def write_video(path, frames: int = 20, fps: int = 50) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        rng = np.random.default_rng(0)
        for i in range(frames):
            picture = np.full((240, 320, 3), i * 10, np.uint8)
            picture[:40] = rng.integers(0, 255, (40, 320, 3))
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_a_drawn_figure_plays_at_its_rate_with_rising_stamps_of_now(rig, camera):
    images, infos = camera
    begin_ns = time.time_ns()
    process = play(rig, "synthetic", "hfov_deg:=60.0")
    rig.wait(lambda: len(images) >= 30 and infos, "a second of images")
    stamps = np.array([convert.stamp_to_ns(msg.header.stamp) for msg in images])
    assert (np.diff(stamps) > 0).all()
    assert begin_ns < stamps[0] < stamps[-1] <= time.time_ns()
    # Where the computer has no time for some of them they come later, not sooner.
    assert 0.9 / 30 < np.median(np.diff(stamps)) * 1e-9 < 4 / 30
    msg = images[-1]
    assert (msg.encoding, msg.width, msg.height, msg.step) == ("bgr8", 640, 480, 1920)
    assert len(msg.data) == msg.step * msg.height
    assert msg.header.frame_id == infos[-1].header.frame_id
    assert infos[-1].k[0] == pytest.approx(320 / np.tan(np.radians(30)))
    assert rig.stop(process) == 0


def test_the_bundled_clip_brings_its_camera_and_its_true_pictures(rig, camera):
    images, infos = camera
    process = play(rig, "clip")
    rig.wait(lambda: len(images) >= 3 and infos, "the clip")
    assert (images[0].width, images[0].height) == (infos[0].width, infos[0].height) == (1768, 994)
    assert infos[0].k[0] == pytest.approx(2520.09)
    received = np.frombuffer(images[0].data, np.uint8).reshape(994, 1768, 3).astype(int)
    with av.open(str(DEFAULT_CLIP)) as container:
        errors = [
            np.abs(frame.to_ndarray(format="bgr24").astype(int) - received).mean()
            for frame in container.decode(video=0)
        ]
    assert min(errors) < 1
    assert rig.stop(process) == 0


@pytest.mark.parametrize("cache_mb", ["1024.0", "0.0"])
def test_a_clip_loops_without_a_pause_in_memory_and_from_the_file(rig, camera, tmp_path, cache_mb):
    images, infos = camera
    write_video(tmp_path / "short.mkv")
    process = play(rig, tmp_path / "short.mkv", f"cache_mb:={cache_mb}")
    rig.wait(lambda: len(images) >= 50, "more images than the clip holds")
    assert not infos  # nothing is known of this camera
    levels = np.array([msg.data[-1] for msg in images], int)
    begins = np.diff(levels) < -100
    assert begins.any()  # it began again
    stamps = np.array([convert.stamp_to_ns(msg.header.stamp) for msg in images])
    assert np.diff(stamps)[begins].min() < 0.5e9
    assert rig.stop(process) == 0


def test_a_clip_played_back_and_forth_has_no_cut(rig, camera, tmp_path):
    images, _ = camera
    write_video(tmp_path / "short.mp4")
    process = play(rig, tmp_path / "short.mp4", "back_and_forth:=true")
    rig.wait(lambda: len(images) >= 50, "more images than the clip holds")
    levels = np.array([msg.data[-1] for msg in images], int)
    steps = np.diff(levels)
    assert {-1, 1} <= set(np.sign(steps))
    ends = np.isin(levels, [levels.min(), levels.max()])
    assert (steps[ends[1:] & ends[:-1]] != 0).all()  # neither end twice in a row
    # The whole clip is 190 levels. A busy computer may lose half of it once; a cut would come twice in 50 images.
    assert (np.abs(steps) >= 100).sum() < 2
    assert rig.stop(process) == 0


def test_a_clip_that_is_not_kept_in_memory_cannot_play_backwards(rig, tmp_path):
    write_video(tmp_path / "short.mp4")
    process = play(rig, tmp_path / "short.mp4", "back_and_forth:=true", "cache_mb:=0.0")
    rig.wait(lambda: process.returncode is not None, "the end")
    assert "back_and_forth needs a clip of known length that fits into cache_mb=0" in process.tail()
    rig.stop(process)


def test_a_clip_that_is_not_to_loop_ends_well(rig, camera, tmp_path):
    write_video(tmp_path / "short.mkv")
    process = play(rig, tmp_path / "short.mkv", "loop:=false")
    rig.wait(lambda: process.returncode is not None, "the end")
    assert rig.stop(process) == 0


def test_a_truncated_video_plays_what_it_has_and_says_so(rig, camera, tmp_path):
    images, _ = camera
    write_video(tmp_path / "whole.mkv", frames=60)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    process = play(rig, tmp_path / "cut.mkv")
    rig.wait(lambda: len(images) >= 40, "images of the first half, again and again")
    assert process.returncode is None
    assert max(msg.data[-1] for msg in images) < 255
    assert rig.stop(process) == 0


@pytest.mark.parametrize("kind", ["missing", "empty", "noise", "webcam:97"])
def test_a_source_that_cannot_be_read_ends_with_a_reason(rig, tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    if kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    process = play(rig, kind if kind.startswith("webcam") else path)
    rig.wait(lambda: process.returncode is not None, "the end")
    assert process.returncode == 1
    assert "source: " in process.tail()
    assert "Traceback" not in process.tail(100)
    rig.stop(process)
