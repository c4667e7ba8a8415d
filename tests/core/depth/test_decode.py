"""Depth images of drivers: units, invalid values, layout, and units that cannot be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hsr_core.depth.decode import RawDepth, check_plausible, to_metres
from hsr_core.errors import BadFrame

SCENE_MM = np.array([[1500, 2500, 0], [800, 6500, 3001]], np.uint16)


def raw(values: np.ndarray, encoding: str, **more) -> RawDepth:
    return RawDepth(values.tobytes(), values.shape, values.strides[0], encoding, "cam", 0, **more)


def test_millimetres_and_metres_of_one_scene_are_equal():
    in_mm = to_metres(raw(SCENE_MM, "16UC1"))
    in_m = to_metres(raw((SCENE_MM / 1000).astype(np.float32), "32FC1"))
    np.testing.assert_allclose(in_mm, in_m, atol=1e-6)
    assert in_mm.dtype == in_m.dtype == np.float32
    assert in_mm[0, 2] == 0


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf, -1.0])
def test_what_is_not_a_depth_becomes_zero(bad):
    np.testing.assert_array_equal(to_metres(raw(np.array([[bad, 2.0]], np.float32), "32FC1")), [[0, 2]])


def test_row_padding_and_byte_order_are_respected():
    padded = np.zeros((2, 5), np.uint16)
    padded[:, :3] = SCENE_MM
    padded[:, 3:] = 9999
    record = RawDepth(padded.byteswap().tobytes(), (2, 3), 10, "16UC1", "cam", 0, big_endian=True)
    np.testing.assert_allclose(to_metres(record), SCENE_MM / 1000, atol=1e-6)


def test_mono16_is_a_drivers_name_for_millimetres():
    assert to_metres(raw(np.full((2, 3), 1500, np.uint16), "mono16"))[0, 0] == pytest.approx(1.5)


def test_another_unit_can_be_given():
    np.testing.assert_allclose(to_metres(raw(SCENE_MM, "16UC1"), 1e-4), SCENE_MM * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "64FC1", ""])
def test_other_encodings_are_refused_with_those_that_work(encoding):
    with pytest.raises(BadFrame, match="accepted: 16UC1"):
        to_metres(raw(SCENE_MM, encoding))


def test_short_data_and_short_steps_are_refused():
    record = raw(SCENE_MM, "16UC1")
    with pytest.raises(BadFrame, match="take 12"):
        to_metres(replace(record, data=record.data[:-1]))
    with pytest.raises(BadFrame, match="step 4 is too short"):
        to_metres(replace(record, step=4))


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_an_image_without_depth_is_refused(value):
    depth_m = to_metres(raw(np.full((8, 8), value, np.float32), "32FC1"))
    with pytest.raises(BadFrame, match="every pixel is zero or not finite"):
        check_plausible(depth_m)


@pytest.mark.parametrize(
    ("factor", "hint"), [(1000, "millimetres taken as metres"), (0.001, "metres taken as millimetres")]
)
def test_a_wrong_unit_is_refused_with_the_one_that_fits(factor, hint):
    depth_m = np.full((40, 40), 2.5 * factor, np.float32)
    with pytest.raises(BadFrame, match=f"{hint}.*depth.unit_scale"):
        check_plausible(depth_m)
    check_plausible(np.full((40, 40), 2.5, np.float32))
