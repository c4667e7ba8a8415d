"""The depth camera's provider: pairing by stamp, refusals that are counted, and registration with tf."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from analytic_scenes import camera, plane_depth, scene_depth, view

from hsr_core.depth.base import DepthFrame, DepthSettings
from hsr_core.depth.compressed import CompressedDepth
from hsr_core.depth.decode import RawDepth
from hsr_core.depth.measured import MeasuredDepth
from hsr_core.pairing import StampRing
from hsr_core.types import MetricSource

COLOR = camera()
MS = 1_000_000


def image_mm(depth_m: np.ndarray, stamp_ns: int, frame_id: str = "color") -> RawDepth:
    values = np.round(depth_m * 1000).astype(np.uint16)
    return RawDepth(values.tobytes(), values.shape, values.strides[0], "16UC1", frame_id, stamp_ns)


def test_the_scene_comes_back_to_the_millimetre():
    provider = MeasuredDepth(DepthSettings())
    provider.put(image_mm(scene_depth(COLOR), 100 * MS))
    frame = provider.depth_for(view(COLOR, stamp_ns=100 * MS))
    np.testing.assert_allclose(frame.depth_m, scene_depth(COLOR), atol=5.1e-4)
    assert frame.metric_source is MetricSource.DEPTH_CAMERA
    assert frame.weight == 2.0
    assert (frame.sigma_m, frame.sigma_per_m) == (0, 0.0025)
    assert (frame.stamp_ns, frame.frame_id) == (100 * MS, "color")


def test_the_least_reliable_tenth_of_a_person_is_left_out():
    region = np.zeros((10, 20), bool)
    region[:, :10] = True
    ranks = np.arange(200, dtype=np.float32).reshape(10, 20)
    depth = DepthFrame(np.full((10, 20), 2, np.float32), np.eye(3), 0, "c", MetricSource.MONO_DEPTH, 0.05, 0.015)
    assert depth.reliable(region) is depth.depth_m
    kept = replace(depth, rank_unc=ranks).reliable(region)
    assert (kept[:9] == 2).all()
    assert (kept[9, :10] == 0).all()  # the hundred ranks of the region end with this row
    assert (kept[9, 10:] == 2).all()
    assert (replace(depth, rank_unc=ranks).reliable(~region & region) == 2).all()


def test_the_nearest_of_the_last_images_within_15_ms_is_taken():
    provider = MeasuredDepth(DepthSettings())
    for i, z in enumerate((1.0, 2.0, 3.0, 4.0, 5.0)):
        provider.put(image_mm(np.full(COLOR.image_hw, z), i * 33 * MS))
    assert provider.depth_for(view(COLOR, stamp_ns=80 * MS)).depth_m[0, 0] == pytest.approx(3.0)  # 66 is 14 ms away
    assert provider.depth_for(view(COLOR, stamp_ns=82 * MS + MS // 2)) is None  # 16 and 17 ms
    assert "ms away" in provider.status
    assert provider.depth_for(view(COLOR, stamp_ns=0)) is None  # the fifth before last is gone
    assert provider.counts == {"used": 1, "unpaired": 2}


@pytest.mark.parametrize(
    ("depth_m", "said"),
    [
        (np.zeros(COLOR.image_hw), "every pixel is zero"),
        (np.full(COLOR.image_hw, 0.003), "unit_scale"),
        (np.full((100, 100), 2.0), "not registered"),
    ],
)
def test_bad_images_are_counted_and_the_provider_lives(depth_m, said):
    provider = MeasuredDepth(DepthSettings())
    provider.put(image_mm(depth_m, 0))
    assert provider.depth_for(view(COLOR)) is None
    assert said in provider.status
    provider.put(image_mm(plane_depth(COLOR), 1))
    assert provider.depth_for(view(COLOR, stamp_ns=1)) is not None
    assert provider.counts == {"refused": 1, "used": 1}


def test_not_a_number_everywhere_is_no_depth():
    provider = MeasuredDepth(DepthSettings())
    values = np.full(COLOR.image_hw, np.nan, np.float32)
    provider.put(RawDepth(values.tobytes(), values.shape, values.strides[0], "32FC1", "color", 0))
    assert provider.depth_for(view(COLOR)) is None
    assert "not finite" in provider.status


def test_depth_of_another_camera_is_refused_until_registration_is_on_and_its_pose_known():
    other = camera(width=280, height=200, fx=260.0, fy=258.0, cx=141.0, cy=97.5, frame_id="depth")
    raw = image_mm(plane_depth(other), 0, "depth")
    off = MeasuredDepth(DepthSettings())
    off.put(raw)
    assert off.depth_for(view(COLOR)) is None
    assert "depth.register" in off.status

    on = MeasuredDepth(replace(DepthSettings(), register=True))
    on.put(raw)
    assert on.depth_for(view(COLOR)) is None
    assert "depth_info" in on.status
    on.set_camera(other)
    assert on.depth_for(view(COLOR)) is None
    assert "tf" in on.status
    on.set_extrinsics(np.eye(4))
    depth_m = on.depth_for(view(COLOR)).depth_m
    seen = depth_m > 0
    assert seen.mean() > 0.9
    np.testing.assert_allclose(depth_m[seen], plane_depth(COLOR)[seen], atol=4e-3)


def test_depth_that_came_with_the_frame_is_used_as_it_is():
    depth_m = plane_depth(COLOR).astype(np.float32)
    depth_m[:50] = np.nan
    frame = MeasuredDepth(DepthSettings()).depth_for(view(COLOR, depth_m=depth_m))
    assert not frame.valid[:50].any()
    np.testing.assert_array_equal(frame.depth_m[50:], depth_m[50:])
    assert MeasuredDepth(DepthSettings()).depth_for(view(COLOR, depth_m=depth_m[::2])) is None


def test_a_clock_set_back_forgets_what_came_before():
    ring: StampRing[str] = StampRing()
    ring.put(10_000_000_000, "old run")
    ring.put(9_990_000_000, "late")
    assert ring.nearest(9_990_000_000, 0.001) == (9_990_000_000, "late")
    ring.put(0, "new run")
    assert ring.nearest(10_000_000_000, 0.1) is None
    assert ring.newest_ns() == 0


def test_the_ring_is_safe_between_two_threads():
    ring: StampRing[int] = StampRing()
    errors: list[Exception] = []

    def ask() -> None:
        try:
            for stamp in range(3000):
                ring.nearest(stamp, 1.0)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for stamp in range(3000):
        ring.put(stamp, stamp)
    thread.join()
    assert errors == []


def test_registered_depth_of_another_size_is_used_where_its_info_says_how():
    half = COLOR.scaled((120, 160))
    provider = MeasuredDepth(DepthSettings())
    provider.set_camera(COLOR.scaled((240, 320)))  # an info of the full size describes the half one as well
    provider.put(image_mm(scene_depth(half), 0))
    native = provider.depth_at(0, COLOR, "color")
    assert native.depth_m.shape == (120, 160)
    np.testing.assert_allclose(native.K, half.K)
    grown = provider.depth_for(view(COLOR))
    assert grown.depth_m.shape == COLOR.image_hw
    inside = np.abs(grown.depth_m - scene_depth(COLOR)) < 0.02  # outlines shift by a pixel
    assert inside.mean() > 0.97
    provider.set_camera(None)
    assert provider.depth_at(0, COLOR, "color") is None
    assert "depth_info is missing" in provider.status
    provider.set_camera(replace(half, K=half.K * np.array([[1.1], [1.1], [1]])))
    assert provider.depth_at(0, COLOR, "color") is None
    assert "intrinsics differ" in provider.status


def test_compressed_depth_is_decoded_when_it_is_used_and_not_before():
    values = np.round(scene_depth(COLOR) * 1000).astype(np.uint16)
    png = b"\0" * 12 + cv2.imencode(".png", values)[1].tobytes()
    provider = MeasuredDepth(DepthSettings())
    provider.put(CompressedDepth(png[:40], "16UC1; compressedDepth png", "color", 0))
    provider.put(CompressedDepth(png, "16UC1; compressedDepth png", "color", 40 * MS))
    np.testing.assert_allclose(provider.depth_at(40 * MS, COLOR, "color").depth_m, values / 1000, atol=1e-6)
    assert provider.depth_at(0, COLOR, "color") is None
    assert "does not decode" in provider.status


def test_depth_that_has_stopped_is_told_from_depth_that_is_a_little_off():
    provider = MeasuredDepth(DepthSettings())
    provider.put(image_mm(scene_depth(COLOR), 0))
    assert provider.depth_at(30 * MS, COLOR, "color") is None
    assert "stopped" not in provider.status
    assert provider.depth_at(500 * MS, COLOR, "color") is None
    assert "-500 ms away: depth has stopped" in provider.status


def test_a_part_of_the_pixels_is_enough_to_register_a_scene():
    """The depth camera stands 5 cm beside the colour camera; the plane comes back where that one has it."""
    T = np.eye(4)
    T[0, 3] = 0.05
    behind = replace(COLOR, frame_id="depth")
    for pixels in (0, 9000):
        provider = MeasuredDepth(DepthSettings(register=True), registered_pixels=pixels)
        provider.set_camera(behind)
        provider.set_extrinsics(T)
        provider.put(image_mm(np.full(COLOR.image_hw, 2.0), 0, "depth"))
        frame = provider.depth_at(0, COLOR, "color")
        assert (frame.depth_m.shape == COLOR.image_hw) is (pixels == 0)
        seen = frame.depth_m[:, frame.depth_m.shape[1] // 8 :]  # what lies beside the depth camera's view is not there
        assert (seen > 0).mean() > 0.95
        np.testing.assert_allclose(seen[seen > 0], 2.0, atol=1e-5)
        np.testing.assert_allclose(frame.K[0, 0], COLOR.K[0, 0] * frame.depth_m.shape[1] / COLOR.image_hw[1])


class Clock:
    """Monotonic time of `hsr_core.pairing`, which the test sets."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("hsr_core.pairing.time.monotonic", lambda: self.now)


@pytest.fixture
def stream(monkeypatch):
    """Thirty depth images a second, each 20 ms after its stamp."""
    ring, clock = StampRing(), Clock(monkeypatch)
    for i in range(10):
        clock.now = 100.0 + i / 30 + 0.02
        ring.put(round(i * 1e9 / 30), i)
    return ring, clock


@pytest.mark.parametrize(
    ("frames_on", "age_s", "most_s", "waits"),
    [
        (1, 0.005, 0.03, True),  # due in 15 ms
        (1, 0.005, 0.01, False),  # longer than allowed
        (2, 0.01, 0.03, True),  # one was lost
        (1, 0.06, 0.03, False),  # it should have been here
        (4, 0.005, 0.03, False),  # it has stopped
        (1.5, 0.005, 0.03, False),  # no depth image belongs to this moment
    ],
)
def test_only_what_is_about_to_come_is_waited_for(stream, frames_on, age_s, most_s, waits):
    ring, clock = stream
    stamp_ns = round((9 + frames_on) * 1e9 / 30)
    clock.now = 100.0 + stamp_ns * 1e-9 + age_s
    waited = []
    ring._lock.wait_for = lambda condition, timeout: waited.append(timeout)
    assert ring.nearest(stamp_ns, 0.015, most_s) is None
    assert [0 < t <= most_s for t in waited] == [True] * waits


def test_the_image_that_was_waited_for_is_returned(stream):
    ring, clock = stream
    stamp_ns = round(10 * 1e9 / 30)
    clock.now = 100.0 + 10 / 30 + 0.005
    ring._lock.wait_for = lambda condition, timeout: (ring._items.append((stamp_ns, "new")), condition())
    assert ring.nearest(stamp_ns, 0.015, 0.03) == (stamp_ns, "new")


def test_a_stream_of_which_little_is_known_is_not_waited_for():
    ring = StampRing()
    ring._lock.wait_for = lambda condition, timeout: pytest.fail("waited")
    assert ring.nearest(0, 0.015, 1.0) is None
    for stamp_ns in (0, 0, 0, 0, 0, 0, 0, 0, 0):  # a driver without stamps
        ring.put(stamp_ns, None)
    assert ring.nearest(20 * MS, 0.015, 1.0) is None


def test_depth_of_an_image_in_work_stays_however_much_comes_meanwhile():
    """A regression of 200 ms beside a depth camera of 60 Hz: a dozen images come after the one that is wanted."""
    ring: StampRing[int] = StampRing()
    for i in range(4):
        ring.put(i * 16 * MS, i)
    ring.hold(48 * MS)
    for i in range(4, 16):
        ring.put(i * 16 * MS, i)
    assert ring.nearest(48 * MS, 0.001) == (48 * MS, 3)
    assert [ring.nearest(i * 16 * MS, 0.001) is not None for i in range(4, 16)] == [False] * 9 + [True] * 3
    ring.hold(300 * MS)  # the next image, before its depth
    for i in range(16, 32):
        ring.put(i * 16 * MS, i)
    assert ring.nearest(48 * MS, 0.001) is None
    assert ring.nearest(300 * MS, 0.008)[1] == 19


def test_depth_that_comes_after_it_was_asked_for_is_counted_as_late(monkeypatch):
    clock = Clock(monkeypatch)
    provider = MeasuredDepth(DepthSettings())
    depth_m = np.full(COLOR.image_hw, 2.0)
    for stamp_ns in (0, 100 * MS):
        assert provider.depth_at(stamp_ns, COLOR, "color") is None
    clock.now += 0.03
    provider.put(image_mm(depth_m, 100 * MS + 1))
    provider.put(image_mm(depth_m, 100 * MS + 2))  # not of another image that was missed
    assert (provider.counts["late"], provider.counts["unpaired"]) == (1, 2)
    assert provider.late_s == pytest.approx(0.03)
    clock.now += 0.5
    provider.put(image_mm(depth_m, 0))  # that much later is no matter of waiting
    assert provider.counts["late"] == 1
