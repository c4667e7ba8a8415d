"""Records that cross module borders."""

from __future__ import annotations

import numpy as np
import pytest

from hsr_core.errors import InvalidIntrinsics, ShapeError
from hsr_core.types import Camera, Frame, HumanParams, IntrinsicsSource

K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])


def with_entry(row: int, column: int, value: float) -> np.ndarray:
    changed = K.copy()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.eye(4), "shape"),
        (with_entry(0, 0, 0), "positive"),
        (with_entry(1, 1, -5), "positive"),
        (with_entry(0, 0, np.nan), "finite"),
        (with_entry(0, 2, np.inf), "finite"),
        (with_entry(0, 0, 1500), "fx/fy"),
        (with_entry(0, 2, 900), "outside"),
        (with_entry(1, 2, -3), "outside"),
    ],
)
def test_impossible_intrinsics_are_refused(bad, message):
    with pytest.raises(InvalidIntrinsics, match=message):
        Camera(bad, (480, 640))


def test_distortion_that_is_not_a_number_is_refused():
    with pytest.raises(InvalidIntrinsics, match="finite"):
        Camera(K, (480, 640), np.array([np.nan, 0, 0, 0, 0]))


def test_a_field_of_view_spans_the_image_edges():
    camera = Camera.from_hfov(90, (480, 640))
    assert camera.source is IntrinsicsSource.ASSUMED_FOV
    edge = np.array([-0.5, 639.5])  # pixel edges, centres being at integers
    np.testing.assert_allclose((edge - camera.K[0, 2]) / camera.K[0, 0], [-1, 1])


def test_scaling_keeps_rays_through_pixel_edges():
    small = Camera(K, (480, 640)).scaled((120, 160))
    for edge, axis in ((-0.5, 0), (-0.5, 1)):
        full = (edge - K[axis, 2]) / K[axis, axis]
        assert (edge - small.K[axis, 2]) / small.K[axis, axis] == pytest.approx(full)
    assert Camera(K, (480, 640)).scaled((480, 640)).K is not None
    with pytest.raises(InvalidIntrinsics, match="320x480"):
        Camera(K, (480, 640)).scaled((480, 320))


def test_parameters_check_their_shapes():
    HumanParams(betas=np.zeros(3), expression=np.zeros(50))
    with pytest.raises(ShapeError, match=r"body_pose must have shape \(21, 3\), not \(23, 3\)"):
        HumanParams(body_pose=np.zeros((23, 3)))
    with pytest.raises(ShapeError, match="transl"):
        HumanParams(transl=np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["transl", "betas", "left_hand_pose", "head_scale"])
def test_one_nan_anywhere_is_noticed(name):
    values = np.array(getattr(HumanParams(), name))
    values.flat[-1] = np.nan
    assert HumanParams().finite()
    assert not HumanParams(**{name: values}).finite()


def test_people_share_no_default_arrays():
    assert HumanParams().transl is not HumanParams().transl


def test_a_frame_knows_its_size():
    assert Frame(np.zeros((48, 64), np.uint8), 0, "mono").image_hw == (48, 64)
