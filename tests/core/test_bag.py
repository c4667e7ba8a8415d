"""Recordings as frame sources: what is read is what was written, whole or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from bags import BEGIN_NS, HW, STEP_NS, camera, compressed, image, info, picture, storage_file, write_bag

from hsr_core.errors import InvalidIntrinsics, MissingFile, SourceError
from hsr_core.sources import open_source
from hsr_core.sources.bag import BagSource
from hsr_core.sources.bag_people import read_people
from hsr_core.sources.bag_reader import BagReader, is_bag
from hsr_core.synth.bag import BEGIN_NS as BAG_BEGIN_NS
from hsr_core.types import Camera

DEPTH = "/camera/depth/image_raw"


def frames_of(path, **options):
    with BagSource(path, **options) as source:
        return list(source), source.diagnosis


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "bag", camera(20))


@pytest.mark.parametrize("kind", ["folder", "mcap", "sqlite folder", "db3", "no metadata", "mcap without index"])
def test_every_form_of_a_recording_gives_the_same_frames(tmp_path, kind):
    path = write_bag(tmp_path / "bag", camera(8), sqlite="sqlite" in kind or kind == "db3")
    if kind in ("mcap", "db3"):
        path = storage_file(path)
    if kind == "no metadata":
        (path / "metadata.yaml").unlink()
    if kind == "mcap without index":
        path = storage_file(path)
        data = path.read_bytes()
        path.write_bytes(data[:-8])  # the end magic of a file that was not finished
    assert is_bag(path)
    with open_source(str(path)) as source:
        assert source.image_hw == HW
        assert source.fps == pytest.approx(30, rel=1e-3)
        assert source.frame_count == 8
        frames = list(source)
        assert source.diagnosis.unindexed == (kind in ("no metadata", "mcap without index"))
        assert source.skipped == 0
    assert [frame.stamp_ns for frame in frames] == [BEGIN_NS + i * STEP_NS for i in range(8)]
    assert [frame.index for frame in frames] == list(range(8))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(i))
        assert frame.order == "bgr"
        assert frame.camera.K[0, 0] == 50.0


def test_messages_are_those_that_the_mcap_library_reads(bag):
    mcap_ros2 = pytest.importorskip("mcap_ros2.reader", reason="pip install mcap-ros2-support")
    expected = list(mcap_ros2.read_ros2_messages(str(storage_file(bag)), topics=["/camera/image_raw"]))
    frames, _ = frames_of(bag)
    assert len(frames) == len(expected) == 20
    for frame, message in zip(frames, expected, strict=True):
        ros = message.ros_msg
        assert frame.stamp_ns == ros.header.stamp.sec * 10**9 + ros.header.stamp.nanosec
        assert frame.frame_id == ros.header.frame_id
        assert frame.image.tobytes() == bytes(ros.data)


def test_depth_that_image_transport_compressed_is_no_camera(tmp_path):
    """Its formats are "ENCODING; CODEC compressed ENCODING", whatever the order of the channels in the file is."""

    def messages():
        for name, pixels, kind, fmt in (
            ("color", picture(0), "jpeg", "rgb8; jpeg compressed bgr8"),
            ("depth", np.full(HW, 1000, np.uint16), "png", "16UC1; png compressed "),
        ):
            msg = compressed(pixels, BEGIN_NS, kind)
            yield f"/{name}/image_raw/compressed", BEGIN_NS, replace(msg, format=fmt)
            yield f"/{name}/camera_info", BEGIN_NS, info(BEGIN_NS)

    (frame,), found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert found.image_topic == "/color/image_raw/compressed"
    np.testing.assert_allclose(frame.image.astype(int), picture(0), atol=6)


def test_16_bit_images_look_the_same_raw_and_compressed(tmp_path):
    grey = np.linspace(0, 1023, HW[0] * HW[1]).reshape(HW).astype(np.uint16)  # ten bits of sixteen

    def messages():
        yield "/a/image_raw", BEGIN_NS, image(grey, BEGIN_NS, "mono16")
        msg = compressed(grey, BEGIN_NS, "png")
        yield "/b/image_raw/compressed", BEGIN_NS, replace(msg, format="mono16; png compressed mono16")

    path = write_bag(tmp_path / "bag", messages())
    (raw,), _ = frames_of(path, image_topic="/a/image_raw")
    (png,), _ = frames_of(path, image_topic="/b/image_raw/compressed")
    assert raw.image.max() == 255
    for channel in np.moveaxis(png.image.astype(int), 2, 0):
        np.testing.assert_allclose(channel, raw.image, atol=1)  # halves are rounded either way


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_images_are_decoded(tmp_path, kind):
    def messages():
        for i in range(4):
            stamp_ns = BEGIN_NS + i * STEP_NS
            yield "/camera/image_raw/compressed", stamp_ns, compressed(picture(i), stamp_ns, kind)
            yield "/camera/camera_info", stamp_ns, info(stamp_ns)

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert found.image_topic == "/camera/image_raw/compressed"
    assert found.encodings == {kind: 4}
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.image.astype(int), picture(i), atol=0 if kind == "png" else 6)
        assert frame.camera is not None


def test_raw_is_read_where_both_were_recorded(tmp_path):
    def messages():
        for i in range(3):
            stamp_ns = BEGIN_NS + i * STEP_NS
            yield "/cam/image_raw/compressed", stamp_ns, compressed(picture(i), stamp_ns)
            yield "/cam/image_raw", stamp_ns, image(picture(i), stamp_ns)

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert found.image_topic == "/cam/image_raw"
    assert found.raw_and_compressed
    assert len(frames) == 3
    assert found.no_camera == 3
    assert found.problems() == {"raw_and_compressed": True, "no_camera": 3}


def test_depth_is_paired_by_stamp_in_metres(tmp_path):
    def messages():
        for i in range(6):
            stamp_ns = BEGIN_NS + i * STEP_NS
            yield "/camera/camera_info", stamp_ns, info(stamp_ns)
            yield "/camera/depth/camera_info", stamp_ns, info(stamp_ns)
            if i == 0:  # received before its image, the others after the next image
                yield DEPTH, stamp_ns, image(np.full(HW, 1000, "<u2"), stamp_ns + 1_000_000, "16UC1")
            yield "/camera/image_raw", stamp_ns + 1, image(picture(i), stamp_ns)
            if i >= 2:
                late = stamp_ns - STEP_NS
                offset = 4_000_000 if i != 4 else 16_000_000  # the one of image 3 is too far away in time
                yield DEPTH, stamp_ns + 2, image(np.full(HW, 999 + i, "<u2"), late + offset, "16UC1")

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert found.depth_topic == DEPTH
    given = [None if frame.depth_m is None else round(float(frame.depth_m[0, 0]), 4) for frame in frames]
    assert given == [1.0, 1.001, 1.002, None, 1.004, None]
    assert found.depth_unpaired == 2
    frames, found = frames_of(tmp_path / "bag", depth_topic="")
    assert all(frame.depth_m is None for frame in frames)
    assert found.depth_topic == ""


def test_depth_in_metres_and_of_another_size(tmp_path):
    def messages():
        for i, pixels in enumerate((np.full(HW, 2.5, "<f4"), np.full((10, 20), 2.5, "<f4"))):
            stamp_ns = BEGIN_NS + i * STEP_NS
            yield "/camera/depth/camera_info", stamp_ns, info(stamp_ns)
            yield DEPTH, stamp_ns, image(pixels, stamp_ns, "32FC1")
            yield "/camera/image_raw", stamp_ns, image(picture(i), stamp_ns)

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert frames[0].depth_m[3, 3] == 2.5
    assert frames[1].depth_m is None
    assert found.depth_refused == 1
    assert "20x10" in found.last_error


def test_compressed_depth_is_read_where_no_raw_depth_was_recorded(tmp_path):
    millimetres = np.arange(HW[0] * HW[1], dtype=np.uint16).reshape(HW) + 500

    def messages(damaged=False, raw=False):
        yield "/camera/camera_info", BEGIN_NS, info(BEGIN_NS)
        yield "/camera/depth/camera_info", BEGIN_NS, info(BEGIN_NS)
        msg = compressed(millimetres, BEGIN_NS, "png")
        data = np.concatenate([np.zeros(12, np.uint8), msg.data[: 30 if damaged else None]])
        msg = replace(msg, data=data, format="16UC1; compressedDepth png")
        yield f"{DEPTH}/compressedDepth", BEGIN_NS, msg
        if raw:
            yield DEPTH, BEGIN_NS, image(np.full(HW, 1234, "<u2"), BEGIN_NS, "16UC1")
        yield "/camera/image_raw", BEGIN_NS, image(picture(0), BEGIN_NS)

    (frame,), found = frames_of(write_bag(tmp_path / "good", messages()))
    assert found.depth_topic == f"{DEPTH}/compressedDepth"
    np.testing.assert_allclose(frame.depth_m, millimetres * 1e-3, rtol=1e-6)
    (frame,), found = frames_of(write_bag(tmp_path / "damaged", messages(damaged=True)))
    assert frame.depth_m is None
    assert (found.depth_refused, found.depth_unpaired) == (1, 0)
    (frame,), found = frames_of(write_bag(tmp_path / "both", messages(raw=True)))
    assert found.depth_topic == DEPTH
    assert frame.depth_m[0, 0] == pytest.approx(1.234)


def test_depth_of_another_camera_is_refused(tmp_path):
    def messages():
        yield "/camera/depth/camera_info", BEGIN_NS, info(BEGIN_NS)
        yield DEPTH, BEGIN_NS, image(np.full(HW, 1000, "<u2"), BEGIN_NS, "16UC1", frame_id="camera_depth_optical_frame")
        yield "/camera/image_raw", BEGIN_NS, image(picture(0), BEGIN_NS)

    (frame,), found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert frame.depth_m is None
    assert found.depth_refused == 1
    assert "camera_depth_optical_frame" in found.last_error


def test_a_camera_info_that_comes_after_the_first_image_counts_for_it_and_changes_take_effect(tmp_path):
    def messages():
        for i in range(6):
            stamp_ns = BEGIN_NS + i * STEP_NS
            yield "/camera/image_raw", stamp_ns, image(picture(i), stamp_ns)
            if i in (1, 3):
                yield "/camera/camera_info", stamp_ns + 1, info(stamp_ns, focal=50.0 + i)

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert [frame.camera.K[0, 0] for frame in frames] == [51, 51, 51, 51, 53, 53]
    assert frames[0].camera is frames[1].camera  # nothing is made again for each frame
    assert found.no_camera == 0


def test_a_camera_given_by_the_user_comes_first(bag):
    frames, _ = frames_of(bag, camera=Camera.from_hfov(90, (2 * HW[0], 2 * HW[1])))
    assert frames[0].camera.K[0, 0] == pytest.approx(HW[1] / 2)
    with pytest.raises(InvalidIntrinsics):
        BagSource(bag, camera=Camera.from_hfov(90, (100, 100)))


def test_a_part_of_the_recording(bag):
    frames, _ = frames_of(bag, start_ns=BEGIN_NS + 5 * STEP_NS, stop_ns=BEGIN_NS + 9 * STEP_NS)
    assert [round((f.stamp_ns - BEGIN_NS) / STEP_NS) for f in frames] == [5, 6, 7, 8]
    assert all(f.camera is not None for f in frames)


def test_a_part_knows_the_camera_that_was_described_once_at_the_beginning(tmp_path):
    messages = [message for i, message in enumerate(camera(200)) if i == 0 or message[0] == "/camera/image_raw"]
    path = write_bag(tmp_path / "bag", messages)
    whole, _ = frames_of(path)
    part, found = frames_of(path, start_ns=BEGIN_NS + 100 * STEP_NS)
    assert len(part) == 100
    assert found.problems() == {}
    np.testing.assert_array_equal(part[0].camera.K, whole[100].camera.K)


@pytest.mark.parametrize("sqlite", [False, True])
def test_a_truncated_recording_is_read_up_to_the_damage(tmp_path, sqlite):
    path = write_bag(tmp_path / "bag", camera(300), sqlite=sqlite)
    file = storage_file(path)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    frames, found = frames_of(path)
    assert found.truncated
    assert found.unindexed
    assert file.name in found.damage
    assert 100 < len(frames) < 250  # chunks of 1 MiB are lost whole
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image[0], picture(i)[0])
    (path / "metadata.yaml").unlink()
    again, found = frames_of(path)
    assert len(again) == len(frames)
    assert found.truncated


def test_damage_in_the_middle_of_a_file_with_an_index_keeps_what_lies_before(tmp_path):
    path = write_bag(tmp_path / "bag", camera(300), compress=True)
    file = storage_file(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    file.write_bytes(data)
    frames, found = frames_of(path)
    assert found.truncated
    assert 0 < len(frames) < 300


def test_an_empty_recording_is_refused_with_a_reason(tmp_path):
    write_bag(tmp_path / "none", [])
    with pytest.raises(SourceError, match="holds no message"):
        BagSource(tmp_path / "none")
    (tmp_path / "zero.mcap").touch()
    with pytest.raises(SourceError, match="empty"):
        BagSource(tmp_path / "zero.mcap")
    (tmp_path / "noise.mcap").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(SourceError, match="cannot be read as a bag"):
        BagSource(tmp_path / "noise.mcap")
    (tmp_path / "noise.db3").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(SourceError, match="cannot be read as a bag"):
        BagSource(tmp_path / "noise.db3")
    with pytest.raises(SourceError, match="no bag"):
        BagSource(tmp_path / "nowhere")


def test_missing_topics_and_wrong_types_are_refused_with_a_list(bag):
    with pytest.raises(SourceError, match=r"no topic /other; it has: .*/image_raw \(sensor_msgs/msg/Image, 20\)"):
        BagSource(bag, image_topic="/other")
    with pytest.raises(SourceError, match=r"is of type sensor_msgs/msg/CameraInfo.*/camera/image_raw"):
        BagSource(bag, image_topic="/camera/camera_info")
    with pytest.raises(SourceError, match="no topic /depth"):
        BagSource(bag, depth_topic="/depth")


def test_a_recording_without_images_lists_what_it_has(tmp_path):
    path = write_bag(tmp_path / "bag", [("/camera/camera_info", BEGIN_NS, info(BEGIN_NS))])
    with pytest.raises(SourceError, match=r"holds no images; its topics: /camera/camera_info"):
        BagSource(path)


def test_two_cameras_on_two_topics_must_be_chosen(tmp_path):
    def messages():
        for side in ("left", "right"):
            yield f"/{side}/image_raw", BEGIN_NS, image(picture(len(side)), BEGIN_NS)
            yield f"/{side}/camera_info", BEGIN_NS, info(BEGIN_NS)

    path = write_bag(tmp_path / "bag", messages())
    with pytest.raises(SourceError, match=r"choose one .*: /left/image_raw, /right/image_raw"):
        BagSource(path)
    with open_source(f"{path}#/right/image_raw") as source:
        assert next(iter(source)).image[0, 0, 0] == 5


def edited(messages, edit):
    """Yield messages with `edit(i, image message)` applied to every image; None leaves it out."""
    i = -1
    for topic, time_ns, msg in messages:
        if topic.endswith("image_raw"):
            i += 1
            msg = edit(i, msg)
            if msg is None:
                continue
        yield topic, time_ns, msg


def restamp(msg, stamp_ns):
    stamp = replace(msg.header.stamp, sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return replace(msg, header=replace(msg.header, stamp=stamp))


def stamp(i):
    return BEGIN_NS + i * STEP_NS


CASES = {
    "duplicate_stamps": (lambda i, m: restamp(m, stamp(4)) if i == 5 else m, 1, 19),
    "stamps_back": (lambda i, m: restamp(m, stamp(2)) if i in (5, 9) else m, 2, 18),
    "zero_stamps": (lambda i, m: restamp(m, 0), 20, 20),
    "gaps": (lambda i, m: restamp(m, stamp(i) + (2 * 10**9 if i >= 10 else 0)), 1, 20),
    "undecodable": (lambda i, m: replace(m, encoding="mystery") if i in (0, 7) else m, 2, 18),
    "other_cameras": (lambda i, m: replace(m, header=replace(m.header, frame_id="b")) if i in (3, 4) else m, 2, 18),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_images_are_named_and_counted_and_the_rest_is_given(tmp_path, name):
    edit, count, given = CASES[name]
    frames, found = frames_of(write_bag(tmp_path / "bag", edited(camera(20), edit)))
    assert getattr(found, name) == count
    assert set(found.problems()) <= {name, "last_error", "mixed_encodings"}
    assert len(frames) == found.frames == given
    assert found.skipped == 20 - given
    stamps = np.array([frame.stamp_ns for frame in frames])
    assert (np.diff(stamps) > 0).all()
    if name == "zero_stamps":
        assert stamps[0] == BEGIN_NS + 2_000_000  # the time of receipt


def test_mixed_encodings_and_sizes(tmp_path):
    def edit(i, msg):
        return image(picture(i)[..., ::-1], stamp(i), "rgb8") if i % 2 else msg

    frames, found = frames_of(write_bag(tmp_path / "bag", edited(camera(6), edit)))
    assert found.mixed_encodings
    assert found.encodings == {"bgr8": 3, "rgb8": 3}
    for i, frame in enumerate(frames):
        bgr = frame.image if frame.order == "bgr" else frame.image[..., ::-1]
        np.testing.assert_array_equal(bgr, picture(i))
    small = write_bag(
        tmp_path / "small", edited(camera(6), lambda i, m: image(picture(i, (24, 32)), stamp(i)) if i == 2 else m)
    )
    frames, found = frames_of(small)
    assert found.other_cameras == 1
    assert len(frames) == 5


def test_a_recording_that_was_played_in_a_loop_goes_on_after_the_jump(tmp_path):
    path = write_bag(tmp_path / "bag", edited(camera(60), lambda i, m: restamp(m, stamp(i % 30))))
    frames, found = frames_of(path)
    assert found.jumps == 1
    assert found.stamps_back + found.duplicate_stamps == 9
    assert len(frames) == 51


def test_impossible_intrinsics_are_refused_and_counted(tmp_path):
    def messages():
        for topic, time_ns, msg in camera(3):
            yield topic, time_ns, replace(msg, k=np.zeros(9)) if topic.endswith("info") else msg

    frames, found = frames_of(write_bag(tmp_path / "bag", messages()))
    assert [frame.camera for frame in frames] == [None] * 3
    assert found.camera_infos_refused == 1
    assert found.no_camera == 3


def test_several_files_of_one_recording_are_read_in_order(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    messages = list(camera(9))
    for k in range(3):
        one = write_bag(tmp_path / f"part{k}", messages[6 * k : 6 * k + 6])
        shutil.move(storage_file(one), folder / f"split_{9 + k}.mcap")
    frames, found = frames_of(folder)
    assert [frame.index for frame in frames] == list(range(9))
    assert found.unindexed
    assert not found.truncated


def test_a_topic_that_changes_its_type_is_read_as_the_first_one(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for k, make in enumerate((image, compressed)):
        one = write_bag(
            tmp_path / f"part{k}", [("/cam", stamp(5 * k + i), make(picture(i), stamp(i))) for i in range(5)]
        )
        shutil.move(storage_file(one), folder / f"split_{k}.mcap")
    frames, found = frames_of(folder)
    assert len(frames) == 5
    assert found.undecodable == 5
    assert "/cam cannot be read as sensor_msgs/msg/Image" in found.last_error


def edit_database(path: Path, *statements: str) -> sqlite3.Connection:
    database = sqlite3.connect(storage_file(path))
    for statement in statements:
        database.execute(statement)
    database.commit()
    return database


@pytest.mark.parametrize("name", ["NULL", "x'00ff'", "7"])
def test_a_damaged_name_of_a_topic_leaves_the_others(tmp_path, name):
    path = write_bag(tmp_path / "bag", camera(4), sqlite=True)
    (path / "metadata.yaml").unlink()
    edit_database(
        path,
        "CREATE TABLE loose(id INTEGER PRIMARY KEY, name, type, serialization_format, offered_qos_profiles, "
        "type_description_hash)",
        "INSERT INTO loose SELECT * FROM topics",
        "DROP TABLE topics",
        "ALTER TABLE loose RENAME TO topics",
        f"UPDATE topics SET name={name} WHERE name='/camera/camera_info'",
    ).close()
    frames, found = frames_of(path)
    assert len(frames) == found.no_camera == 4


def test_messages_that_sqlite_had_not_merged_are_told_of(tmp_path):
    path = write_bag(tmp_path / "bag", camera(4), sqlite=True)
    database = edit_database(
        path,
        "PRAGMA journal_mode=WAL",
        "INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, 1, data FROM messages",
    )
    killed = shutil.copytree(path, tmp_path / "killed")
    database.close()
    _, found = frames_of(killed)
    assert found.truncated
    assert "wal_checkpoint" in found.damage


_MEASURE = """
import resource, sys
from hsr_core.sources.bag import BagSource
with BagSource(sys.argv[1]) as source:
    n = sum(1 for frame in source)
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("unindexed", [False, True])
def test_memory_does_not_grow_with_the_recording(tmp_path, unindexed):
    def peak(n: int) -> float:
        path = write_bag(tmp_path / f"bag{n}", camera(n))
        if unindexed:
            (path / "metadata.yaml").unlink()
            file = storage_file(path)
            file.write_bytes(file.read_bytes()[:-8])
        out = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True)
        count, kilobytes = map(int, out.stdout.split())
        assert count == n
        return kilobytes

    assert peak(6000) < 1.1 * peak(600)


# --- people ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    from hsr_core.refine.frames import read_folder
    from hsr_core.synth.command import write_scene
    from hsr_core.synth.scene import SceneOptions

    out = tmp_path_factory.mktemp("synth") / "clip"
    write_scene(SceneOptions(frames=2, image_hw=(72, 96)), out, bag=True)
    return read_folder(out), out / "bag"


@pytest.mark.parametrize(("topic", "name"), [("/synth/truth", "truth"), ("/synth/initial", "params")])
def test_the_truth_of_a_synthetic_recording_comes_back(scene, topic, name):
    from hsr_core.body import load_body

    written, bag = scene
    body = load_body("")
    with read_people(bag, topic) as people:
        assert people.count == len(written)
        read = list(people)
    for frame, got in zip(written, read, strict=True):
        assert got.stamp_ns == frame.stamp_ns + BAG_BEGIN_NS
        assert len(got.people) == 1
        person = got.people[0]
        assert person.track_id == 1
        for field, value in vars(getattr(frame, name)).items():
            np.testing.assert_array_equal(getattr(person.params, field), value, err_msg=field)
        np.testing.assert_allclose(person.joints, body.pose_one(person.params).joints, atol=1e-5)
        np.testing.assert_array_equal(got.camera.K, frame.K)
        assert got.T_world_cam is None


def test_a_synthetic_recording_is_a_source_with_depth(scene):
    written, bag = scene
    frames, found = frames_of(bag)
    assert found.image_topic == "/camera/image_raw"
    assert found.depth_topic == DEPTH
    for frame, got in zip(written, frames, strict=True):
        np.testing.assert_array_equal(got.image, np.rint(frame.image * 255).astype(np.uint8))
        valid = frame.depth_m > 0
        np.testing.assert_allclose(got.depth_m[valid], frame.depth_m[valid], atol=0.0006)


def test_people_are_chosen_by_topic_with_a_list(scene, bag):
    with pytest.raises(SourceError, match=r"choose a topic; it has: /synth/initial .*, /synth/truth"):
        read_people(scene[1])
    with pytest.raises(SourceError, match="no topic /human/people"):
        read_people(scene[1], "/human/people")
    with pytest.raises(SourceError, match="is of type sensor_msgs/msg/Image"):
        read_people(scene[1], "/camera/image_raw")
    with pytest.raises(SourceError, match="no recorded people; it has: /camera/camera_info"):
        read_people(bag)


def test_our_messages_are_read_by_the_definitions_in_the_recording(scene, monkeypatch):
    def missing():
        raise MissingFile("not here")

    monkeypatch.setattr("hsr_core.sources.bag_reader.message_folder", missing)
    with read_people(scene[1], "/synth/truth") as people:
        assert len(list(people)) == 2


def test_nothing_is_left_open(bag):
    with BagReader(bag) as reader:
        assert reader.topics["/camera/image_raw"].count == 20
    frames_of(bag)
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not any(str(bag) in path for path in held)
