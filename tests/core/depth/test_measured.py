"""The depth camera's provider: pairing by stamp, refusals that are counted, and registration with tf."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from analytic_scenes import camera, plane_depth, scene_depth, view

from hsr_core.depth.base import DepthSettings
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
    assert frame.sigma_at(3.0) == pytest.approx(0.0225)
    assert (frame.stamp_ns, frame.frame_id) == (100 * MS, "color")


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
