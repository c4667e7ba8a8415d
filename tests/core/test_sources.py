"""Frame sources and camera files."""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from hsr_core.errors import BadFile, InvalidIntrinsics, MissingFile, SourceError
from hsr_core.sources import DEFAULT_CLIP, open_source
from hsr_core.sources.calibration import CalibratedCamera, load_camera, load_cameras
from hsr_core.sources.images import ImageFolderSource
from hsr_core.sources.synthetic import SyntheticSource
from hsr_core.sources.video import VideoSource
from hsr_core.sources.webcam import MAX_MISSES, WebcamSource
from hsr_core.types import Camera, IntrinsicsSource
from hsr_core.viz.video import VideoWriter

STAMPS_NS = [0, 33_000_000, 100_000_000, 133_000_000, 400_000_000, 433_000_000]


def quarters(height: int = 96, width: int = 128) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right (BGR)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 0, 0, 255
    image[: height // 2, width // 2 :] = 0, 255, 0
    image[height // 2 :, : width // 2] = 255, 0, 0
    image[height // 2 :, width // 2 :] = 255
    return image


@pytest.fixture
def video(tmp_path):
    """Six frames with uneven stamps."""
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 30) as writer:
        for stamp in STAMPS_NS:
            writer.write(quarters(), stamp)
    return path


def corners(image: np.ndarray) -> list[tuple[int, ...]]:
    """Which of B, G, R is bright in the middle of each quarter."""
    h, w = image.shape[:2]
    return [tuple(int(c > 128) for c in image[y, x]) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def test_the_bundled_clip_is_a_whole_calibrated_video():
    with open_source("clip") as source:
        frames = [(frame.stamp_ns, frame.index, frame.image.shape, frame.camera) for frame in source]
        assert source.frame_count == len(frames) == 114
        assert not source.truncated
        assert source.skipped == 0
    stamps = np.array([stamp for stamp, *_ in frames])
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 30, atol=1)
    assert [index for _, index, *_ in frames] == list(range(114))
    assert frames[0][2] == (994, 1768, 3)
    assert frames[0][3].source is IntrinsicsSource.PARAMETER
    assert DEFAULT_CLIP.stat().st_size < 2_000_000
    assert "BSD 3-Clause" in (DEFAULT_CLIP.parent / "LICENSE.walking.txt").read_text()


def test_the_clip_by_its_path_has_its_camera_too():
    with open_source(str(DEFAULT_CLIP)) as source:
        assert next(iter(source)).camera is not None


def test_stamps_are_the_containers_and_colours_are_right(video):
    with open_source(str(video)) as source:
        frames = list(source)
    assert len(frames) == 6
    np.testing.assert_allclose([frame.stamp_ns for frame in frames], STAMPS_NS, atol=12_000)  # ticks of 1/90000 s
    assert frames[0].order == "bgr"
    assert corners(frames[0].image) == [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)]


def test_a_video_can_be_rewound(video):
    with VideoSource(video) as source:
        rounds = []
        for _ in range(3):
            rounds.append([(frame.index, frame.stamp_ns) for frame in source])
            source.rewind()
        next(iter(source))
        source.rewind()  # in the middle
        rounds.append([(frame.index, frame.stamp_ns) for frame in source])
    assert len(rounds[0]) == 6
    assert all(one == rounds[0] for one in rounds)


def test_frames_outlive_the_source(video):
    with open_source(str(video)) as source:
        image = next(iter(source)).image
        copy = image.copy()
    np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        # (a, b, c, d) of the track header's matrix; the result is how a player must show the picture.
        ((0, 1, -1, 0), [(1, 0, 0), (0, 0, 1), (1, 1, 1), (0, 1, 0)]),  # a quarter turn clockwise
        ((-1, 0, 0, -1), [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]),
        ((0, -1, 1, 0), [(0, 1, 0), (1, 1, 1), (0, 0, 1), (1, 0, 0)]),
    ],
)
def test_rotation_metadata_turns_the_picture_upright(video, matrix, expected):
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of flags, times, id, duration, volume
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(data)
    with open_source(str(video)) as source:
        frame = next(iter(source))
        assert corners(frame.image) == expected
        assert source.image_hw == frame.image.shape[:2] == ((128, 96) if a == 0 else (96, 128))


@pytest.mark.parametrize("content", [b"", b"not a video at all", None])
def test_missing_empty_and_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "video.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"video\.mp4"):
        open_source(str(path))


def test_a_truncated_video_gives_what_it_has_and_says_so(tmp_path, caplog):
    path = tmp_path / "short.mp4"
    whole = DEFAULT_CLIP.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with caplog.at_level(logging.WARNING), open_source(str(path)) as source:
        frames = sum(1 for _ in source)
        assert 20 < frames < 60
        assert source.truncated
    assert "ends before" in caplog.text


def test_damaged_packets_are_skipped_and_counted(tmp_path, caplog):
    path = tmp_path / "damaged.mp4"
    data = bytearray(DEFAULT_CLIP.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        frames = sum(1 for _ in source)
    assert frames >= 60  # the rest is still there


def test_a_video_without_a_picture_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(SourceError, match="no video stream"):
        VideoSource(path)


def test_an_unknown_source_lists_what_there_is():
    with pytest.raises(SourceError, match="webcam:N"):
        open_source("no/such/thing")
    with pytest.raises(SourceError, match="webcam:0"):
        open_source("webcam:front")


# Images


def test_images_come_in_natural_order_and_bad_ones_are_skipped(tmp_path, caplog):
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), np.full((20, 30, 3), number, np.uint8))
    (tmp_path / "frame_3.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not an image")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
        assert source.skipped == 1
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    np.testing.assert_allclose([frame.stamp_ns * 30 / 1e9 for frame in frames], [0, 1, 3], atol=1e-6)


def test_16_bit_and_grey_images_become_8_bit_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30), 128 * 256, np.uint16))
    frame = next(iter(ImageFolderSource(tmp_path)))
    assert frame.image.shape == (20, 30, 3)
    assert frame.image.dtype == np.uint8
    assert abs(int(frame.image[0, 0, 0]) - 128) <= 1


def test_an_image_folder_without_images_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no image that decodes"):
        open_source(str(tmp_path))


# Webcam


class Capture:
    """A camera that delivers `good` pictures and then nothing."""

    def __init__(self, good: int, opened: bool = True):
        self.good, self.opened, self.released = good, opened, False

    def isOpened(self):
        return self.opened

    def read(self):
        self.good -= 1
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.good >= 0 else (False, None)

    def get(self, what):
        return 1000.0

    def set(self, what, value): ...

    def release(self):
        self.released = True


def test_a_webcam_stamps_with_the_clock_and_ends_when_unplugged():
    capture = Capture(good=4)
    with WebcamSource(0, open_capture=lambda device: capture) as source:
        stamps = [frame.stamp_ns for frame in source]
        assert source.skipped == MAX_MISSES
        assert source.truncated
    assert len(stamps) == 3  # the first picture only told the size
    assert stamps == sorted(stamps)
    assert capture.released


@pytest.mark.parametrize("capture", [Capture(0), Capture(5, opened=False)])
def test_an_absent_webcam_is_an_error_and_leaves_nothing_open(capture):
    with pytest.raises(SourceError, match="camera 3"):
        WebcamSource(3, open_capture=lambda device: capture)
    assert capture.released


# Synthetic


def test_the_synthetic_figure_is_the_same_every_time_and_moves():
    first, second = (list(SyntheticSource(frame_count=5)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert np.any(first[0].image != first[4].image)


def test_closing_ends_the_iteration():
    source = SyntheticSource(frame_count=None)
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None


# Camera files

K = [[1000.0, 0, 543.5], [0, 1000, 959.5], [0, 0, 1]]


def write(path, *cameras):
    path.write_text(json.dumps({"cameras": list(cameras)}))
    return path


def test_json_cameras_and_their_names(tmp_path):
    path = write(tmp_path / "c.json", {"name": "left", "K": K, "dist": [0.1, 0, 0, 0, 0]}, {"name": "right", "K": K})
    assert list(load_cameras(path)) == ["left", "right"]
    camera = load_camera(path, "left").camera((1920, 1088))
    np.testing.assert_array_equal(camera.K, K)
    assert camera.distorted
    with pytest.raises(InvalidIntrinsics, match="left, right"):
        load_camera(path, "middle")
    with pytest.raises(InvalidIntrinsics, match="left, right"):
        load_camera(path)


def test_toml_cameras_of_sports2d(tmp_path):
    path = tmp_path / "calibration.toml"
    path.write_text(
        '[demo]\nname = "demo"\nsize = [ 1768, 994]\n'
        "matrix = [[2520.0, 0.0, 884.0], [0.0, 2520.0, 497.0], [0.0, 0.0, 1.0]]\n"
        "distortions = [0.1, 0.0, 0.0, 0.0]\nrotation = [0.0, 0.0, 1.5707963]\ntranslation = [1.0, 2.0, 3.0]\n"
        "fisheye = false\n\n[metadata]\nerror = 0.0\n"
    )
    camera = load_camera(path)
    assert camera.size_hw == (994, 1768)
    np.testing.assert_allclose(camera.R_cam_world @ [1, 0, 0], [0, 1, 0], atol=1e-6)
    assert camera.camera((994, 1768)).K[0, 0] == 2520


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"cameras": []}', '{"cameras": [{"name": "a"}]}', '{"cameras": [{"name": "a", "K": [1]}]}'],
)
def test_bad_camera_files_are_named(tmp_path, text):
    path = tmp_path / "cameras.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"cameras\.json"):
        load_cameras(path)


def test_a_missing_camera_file_is_named(tmp_path):
    with pytest.raises(MissingFile, match=r"none\.json"):
        load_cameras(tmp_path / "none.json")


def calibrated(**changes) -> CalibratedCamera:
    return replace(CalibratedCamera("cam", np.array(K), np.zeros(5), size_hw=(1920, 1088)), **changes)


def test_a_resized_picture_scales_the_camera():
    camera = calibrated().camera((960, 544))
    np.testing.assert_allclose(camera.K, [[500, 0, 271.5], [0, 500, 479.5], [0, 0, 1]])


def test_another_shape_of_picture_is_refused():
    with pytest.raises(InvalidIntrinsics, match="not the same picture"):
        calibrated().camera((1080, 1920))


def test_missing_columns_are_a_cut_or_a_shrunk_picture_between_bars():
    """A line of the calibrated picture is drawn where each story puts it, and must be found there by the camera."""
    rng = np.random.default_rng(0)
    whole = rng.integers(60, 200, (1920, 1088, 3), dtype=np.uint8)
    cut = whole[:, :1080]
    shrunk = np.zeros((1920, 1080, 3), np.uint8)
    shrunk[7:1913] = cv2.resize(whole, (1080, 1906), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(calibrated().camera((1920, 1080), cut).K, K)
    camera = calibrated().camera((1920, 1080), shrunk)
    # The calibrated picture's corner edges (-0.5) lie at the bars' inner edges.
    scale = 1080 / 1088
    assert camera.K[0, 0] == pytest.approx(1000 * scale)
    ray = (np.array([-0.5, -0.5]) - [543.5, 959.5]) / 1000
    corner = camera.K[[0, 1], [0, 1]] * ray + camera.K[:2, 2]
    np.testing.assert_allclose(corner, [-0.5, (1920 - 1920 * scale) / 2 - 0.5], atol=1e-9)


def test_a_dark_picture_is_not_taken_for_bars():
    dark = np.full((1920, 1080, 3), 5, np.uint8)
    np.testing.assert_array_equal(calibrated().camera((1920, 1080), dark).K, K)


def test_a_plain_camera_is_scaled_to_the_source(video):
    camera = Camera(np.array([[200.0, 0, 127.5], [0, 200, 95.5], [0, 0, 1]]), (192, 256))
    with open_source(str(video), camera=camera) as source:
        assert next(iter(source)).camera.K[0, 0] == 100
    wrong = Camera(np.array([[200.0, 0, 100], [0, 200, 100], [0, 0, 1]]), (200, 200))
    with pytest.raises(InvalidIntrinsics):
        open_source(str(video), camera=wrong)


def test_written_videos_have_even_sizes_and_rising_stamps(tmp_path):
    path = tmp_path / "odd.mp4"
    with VideoWriter(path, 30) as writer:
        for stamp in (0, 33_000_000, 33_000_000, 20_000_000, 66_000_000):
            writer.write(np.full((49, 65, 3), 100, np.uint8), stamp)
    with VideoSource(path) as source:
        assert source.image_hw == (48, 64)
        assert len(list(source)) == 3


def test_a_video_into_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="cannot write"):
        VideoWriter(tmp_path / "none" / "a.mp4", 30)
