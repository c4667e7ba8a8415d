"""Images and camera infos that are wrong: counted or said, the node lives, and good input works again."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from harness import FRAME_ID, Perception, best_effort, camera_info, image, level
from hsr_msgs.msg import HumanArray
from rclpy.qos import QoSProfile
from scripted_node import Command
from sensor_msgs.msg import CompressedImage, Image


@pytest.fixture(scope="module")
def perception(rig):
    node = Perception(rig)
    node.works()
    return node


# fields of `image`: the bytes are all PERSON (0) unless given
BAD = {
    "zero size": {"size": (0, 0)},
    "one row": {"size": (64, 1)},
    "huge size with no data": {"size": (20000, 20000), "step": 0, "data": b""},
    "step shorter than a row": {"step": 64},
    "less data than rows": {"data": b"\0" * 100},
    "no data": {"data": b""},
    "unknown encoding": {"encoding": "rgb12packed"},
    "empty encoding": {"encoding": ""},
    "float image": {"encoding": "32FC1", "channels": 4},
    "float colour": {"encoding": "32FC3", "channels": 12},
    "depth": {"encoding": "16UC1", "channels": 2},
    "odd width of yuv": {"encoding": "yuv422_yuy2", "channels": 2, "size": (65, 48)},
    "what the library refuses": {"command": Command.BAD_FRAME},
    "what makes the library raise": {"command": Command.RAISE},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_image_is_counted_and_the_next_good_one_works(perception, what):
    perception.works()
    bad = perception.counted("dropped_bad")
    # In turn: the counters come with the next frame that is processed.
    turn = itertools.cycle((lambda: image(**BAD[what]), image))
    perception.feed(
        lambda: perception.counted("dropped_bad") > bad, f"the count of {what}", make=lambda: next(turn)(),
        info=lambda msg: camera_info(),
    )  # fmt: skip
    perception.works()


GOOD = {
    "bgr8": {}, "rgb8": {"encoding": "rgb8"}, "bgra8": {"encoding": "bgra8", "channels": 4},
    "rgba8": {"encoding": "rgba8", "channels": 4}, "mono8": {"encoding": "mono8", "channels": 1},
    "mono16": {"encoding": "mono16", "channels": 2}, "8UC1": {"encoding": "8UC1", "channels": 1},
    "8UC3": {"encoding": "8UC3"}, "bayer_rggb8": {"encoding": "bayer_rggb8", "channels": 1},
    "bayer_bggr8": {"encoding": "bayer_bggr8", "channels": 1}, "yuv422": {"encoding": "yuv422", "channels": 2},
    "yuv422_yuy2": {"encoding": "yuv422_yuy2", "channels": 2}, "uyvy": {"encoding": "uyvy", "channels": 2},
    "bgr16": {"encoding": "bgr16", "channels": 6}, "padded rows": {"step": 256},
    "nv12": {"encoding": "nv12", "channels": 1, "data": bytes(64 * 48 * 3 // 2)},
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_an_accepted_encoding_is_processed(perception, name):
    size = (64, 48)
    stamps = set()

    def make():
        msg = image(**GOOD[name])
        stamps.add((msg.header.stamp.sec, msg.header.stamp.nanosec))
        return msg

    begin = len(perception.people)
    perception.feed(
        lambda: any((p.header.stamp.sec, p.header.stamp.nanosec) in stamps for p in perception.people[begin:]),
        f"people from {name}", make=make, info=lambda msg: camera_info(size),
    )  # fmt: skip


def test_each_unknown_encoding_is_named_once_with_the_accepted_ones(perception):
    bad = perception.counted("dropped_bad")
    turn = itertools.cycle(("not_known_8", "bgr8"))
    perception.feed(
        lambda: perception.counted("dropped_bad") > bad + 3, "the count", make=lambda: image(encoding=next(turn))
    )
    lines = [line for line in perception.log().splitlines() if "not_known_8" in line]
    assert len(lines) == 1
    assert "rgb8" in lines[0]


K_BAD = {
    "NaN": (0, np.nan), "zero focal length": (0, 0.0), "negative focal length": (4, -50.0),
    "principal point outside": (2, 500.0), "fx and fy far apart": (0, 1e4),
}  # fmt: skip


@pytest.mark.parametrize("what", K_BAD)
def test_camera_info_that_cannot_be_used_is_refused_by_name_and_a_good_one_is_taken_again(perception, what):
    perception.works()
    index, value = K_BAD[what]

    def broken(msg):
        info = camera_info()
        info.k[index] = value
        return info

    begin = len(perception.people)
    perception.feed(
        lambda: [p for p in perception.people[begin:] if p.intrinsics_source == HumanArray.ASSUMED_FOV],
        "people with an assumed field of view", info=broken,
    )  # fmt: skip
    status = perception.wait_status("camera", lambda s: "refused" in s.message, "the refusal in the diagnostics")
    assert level(status) >= 1
    perception.feed(
        lambda: perception.people[-1].intrinsics_source == HumanArray.CAMERA_INFO, "people with camera info again"
    )


def test_camera_info_of_a_resized_picture_is_scaled_and_of_another_shape_refused(perception):
    def begin_with(info_size):
        begin = len(perception.people)
        perception.feed(lambda: len(perception.people) > begin + 5, "people", info=lambda msg: camera_info(info_size))
        return perception.people[-1]

    scaled = begin_with((128, 96))
    assert scaled.intrinsics_source == HumanArray.CAMERA_INFO
    assert scaled.k[0] == pytest.approx(camera_info((128, 96)).k[0] / 2)
    assert (scaled.image_width, scaled.image_height) == (64, 48)
    assert begin_with((64, 64)).intrinsics_source == HumanArray.ASSUMED_FOV
    assert begin_with((64, 48)).intrinsics_source == HumanArray.CAMERA_INFO


def test_changed_intrinsics_are_used_from_the_next_frame_on(perception):
    perception.works()
    wide = camera_info(hfov_deg=100).k[0]
    perception.feed(
        lambda: perception.people[-1].k[0] == pytest.approx(wide), "the new K",
        info=lambda msg: camera_info(hfov_deg=100),
    )  # fmt: skip
    perception.works()


def test_images_without_any_camera_info_start_after_two_seconds_and_say_so(rig, perception):
    images = perception.images

    def send_alone():
        images.publish(image(frame_id="other_optical_frame"))
        return [p for p in perception.people if p.header.frame_id == "other_optical_frame"]

    people = rig.wait(send_alone, "people without camera info")
    assert people[0].intrinsics_source == HumanArray.ASSUMED_FOV
    assert "no camera info" in perception.log()
    perception.feed(lambda: perception.people[-1].header.frame_id == FRAME_ID, "the first camera again")


def test_of_two_cameras_on_one_topic_the_first_is_used_until_it_is_silent(rig, perception):
    perception.works()
    other = rig.node.create_publisher(Image, "/camera/image_raw", 1)
    bad, begin = perception.counted("dropped_bad"), len(perception.people)

    others = itertools.cycle((True, False))

    def in_turn():
        if next(others):  # not at once: the last of two images that come together is the only one that is kept
            other.publish(image(size=(80, 60)))
            return None
        return image()

    def dropped() -> bool:  # the counter may still tell of the last test's drops, the log's size does not
        return perception.counted("dropped_bad") > bad + 10 and "dropping 80x60" in perception.log()

    perception.feed(dropped, "drops of the second camera", make=in_turn)
    assert all(p.image_width == 64 for p in perception.people[begin:])
    status = perception.wait_status("camera", lambda s: "different cameras" in s.message, "the mix in the diagnostics")
    assert level(status) >= 1
    # These also where both look the same.
    perception.wait_status("camera", lambda s: "2 nodes publish on /camera/image_raw: /tester" in s.message, "both")
    rig.wait(lambda: "several publish on /camera/image_raw: /tester" in perception.log(), "both in the log")
    rig.node.destroy_publisher(other)
    perception.feed(
        lambda: perception.people[-1].image_width == 80, "the second camera, once the first is silent",
        make=lambda: image(size=(80, 60)),
    )  # fmt: skip
    perception.feed(lambda: perception.people[-1].image_width == 64, "the first camera again")


def test_reliability_follows_the_publishers(rig, perception):
    """A best-effort camera instead of a reliable one, and back: people keep coming."""
    reliable = perception.images
    perception.works()

    def values():
        status = perception.status("camera")
        return {v.key: v.value for v in status.values}["reliability"] if status else ""

    rig.node.destroy_publisher(reliable)
    perception.images = rig.node.create_publisher(Image, "/camera/image_raw", best_effort())
    perception.works()
    perception.feed(lambda: values() == "best effort", "a best-effort subscription")
    assert "incompatible" not in perception.log()  # nothing is to be done about what is followed
    rig.node.destroy_publisher(perception.images)
    perception.images = rig.node.create_publisher(Image, "/camera/image_raw", QoSProfile(depth=1))
    perception.feed(lambda: values() == "reliable", "a reliable subscription")
    perception.works()


def _compressed(data: bytes, kind: str = "jpeg") -> CompressedImage:
    msg = CompressedImage(format=kind, data=data)
    msg.header = image().header
    return msg


def test_compressed_images_are_taken_where_there_are_no_raw_ones(tmp_path_factory):
    from harness import Rig

    rig = Rig(tmp_path_factory.mktemp("compressed"))
    try:
        perception = Perception(rig)
        raw, perception.images = perception.images, None
        rig.node.destroy_publisher(raw)
        publisher = rig.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", 1)
        picture = np.zeros((48, 64, 3), np.uint8)

        def feed(kind, data, until, what):
            def step():
                perception.infos.publish(camera_info())
                publisher.publish(_compressed(data, kind))
                rig.executor.spin_once(timeout_sec=0.02)
                return until()

            rig.wait(step, what)

        for extension in ("jpeg", "png"):
            begin = len(perception.people)
            data = cv2.imencode(f".{extension}", picture)[1].tobytes()
            feed(extension, data, lambda: len(perception.people) > begin, f"people from {extension}")  # noqa: B023
        for garbage in (b"", b"\xff\xd8 not a picture", data[: len(data) // 2]):
            before = perception.status("camera")
            feed("jpeg", garbage, lambda: perception.status("camera") is not before, "diagnostics")  # noqa: B023
        begin = len(perception.people)
        feed("png", data, lambda: len(perception.people) > begin, "people after garbage")
        feed("png", data, lambda: perception.counted("dropped_bad") >= 3, "the count of garbage")
        perception.images = rig.node.create_publisher(Image, "/camera/image_raw", 1)

        def topic():
            status = perception.status("camera")
            return next(v.value for v in status.values if v.key == "topic") if status else ""

        assert topic() == "/camera/image_raw/compressed"
        perception.feed(lambda: topic() == "/camera/image_raw", "raw images, now that there are some")
        perception.works()
        rig.node.destroy_publisher(perception.images)
        begin = len(perception.people)
        feed("png", data, lambda: len(perception.people) > begin + 3, "compressed ones again")
        assert perception.process.returncode is None
    finally:
        rig.close()
