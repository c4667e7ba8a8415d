"""Slicing, 6D rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hsr_core.regress.pear.decode import decode, rotmats_from_6d
from hsr_core.regress.pear.network import SIZES, PearNetwork, RawOutput


@pytest.mark.parametrize(
    ("six", "expected"),
    [
        ((1, 0, 0, 0, 1, 0), np.eye(3)),
        ((0, 1, 0, -1, 0, 0), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        ((1, 0, 0, 1, 1, 0), np.eye(3)),
        ((0, 0, 0, 0, 0, 0), np.zeros((3, 3))),
        ((1, 0, 0, -1, 0, 0), [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_known_rotations(six, expected):
    np.testing.assert_allclose(rotmats_from_6d(torch.tensor(six, dtype=torch.float32)), expected, atol=1e-7)


def test_any_six_numbers_give_a_rotation_and_the_columns_of_one_give_it_back():
    six = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    R = rotmats_from_6d(six).numpy()
    np.testing.assert_allclose(np.swapaxes(R, 1, 2) @ R, np.broadcast_to(np.eye(3), R.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
    truth = Rotation.random(500, random_state=1).as_matrix()
    columns = np.concatenate([truth[..., 0], truth[..., 1]], -1)
    np.testing.assert_allclose(rotmats_from_6d(torch.from_numpy(columns)), truth, atol=1e-12)


@pytest.fixture
def counting():
    """The raw output of a head whose pose read-out is its column's number and whose mean is 1000."""
    head = PearNetwork(SIZES["tiny"]).head.requires_grad_(False)
    for name in ("smplx_poses_decoder", "smplx_scale_decoder", "flame_poses_decoder", "cam_decoder"):
        linear = getattr(head, name)
        linear.weight.zero_()
        linear.bias.copy_(torch.arange(len(linear.bias), dtype=torch.float32))
    head.init_body_pose.fill_(1000.0)
    return head(torch.randn(1, 192, 64))


def test_the_mean_is_added_to_root_and_body_only(counting):
    expected = np.arange(312) + np.where(np.arange(312) < 132, 1000, 0)
    np.testing.assert_array_equal(counting.pose[0], expected)


def test_everything_is_where_it_belongs(counting):
    out = decode(counting)
    six = counting.pose.view(52, 6)
    for part in (slice(0, 1), slice(1, 22), slice(22, 37), slice(37, 52)):
        np.testing.assert_array_equal(out.rotmats[0, part], rotmats_from_6d(six[part]))
    assert six[22, 0] == 132  # the left hand begins at column 132, the right one at 222
    assert six[37, 0] == 222
    np.testing.assert_array_equal(out.head_scale[0], [3, 4, 5])
    np.testing.assert_array_equal(out.eye_pose[0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(out.jaw_pose[0], [9, 10, 11])
    np.testing.assert_array_equal(out.eyelids[0], [12, 13])
    np.testing.assert_array_equal(out.camera[0], [0, 1, 3.5])


def test_zeros_are_never_nan():
    zeros = RawOutput(*(torch.zeros(1, n) for n in (312, 6, 200, 50, 14, 300, 50, 3)))
    assert all(torch.isfinite(value).all() for value in decode(zeros))
