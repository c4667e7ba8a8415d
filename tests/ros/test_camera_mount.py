"""A camera's mount in numbers that a person can measure becomes the pose that perception needs."""

from __future__ import annotations

import numpy as np
import pytest
from hsr.camera_mount import CAMERA, LEVEL, WORLD, mount_of, parse_mount
from scipy.spatial.transform import Rotation

from hsr_core.errors import ConfigError


def T(text: str, frame: str = CAMERA) -> np.ndarray:
    pose, out = parse_mount(text, frame), np.eye(4)
    out[:3, :3], out[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
    return out


def test_a_level_camera_sees_ahead_and_its_down_is_down() -> None:
    level = T("1 2 1.4 0 0 0")
    np.testing.assert_allclose(level @ [0, 0, 3, 1], [4, 2, 1.4, 1], atol=1e-12)  # 3 m ahead
    np.testing.assert_allclose(level @ [0, 1, 0, 1], [1, 2, 0.4, 1], atol=1e-12)  # 1 m down in the image
    np.testing.assert_allclose(level @ [1, 0, 0, 1], [1, 1, 1.4, 1], atol=1e-12)  # 1 m to the right of the image


def test_a_positive_pitch_looks_down_and_a_positive_yaw_to_the_left() -> None:
    ahead = np.array([0, 0, 1, 0])
    down, left = T("0 0 1.4 0 30 0") @ ahead, T("0, 0, 1.4, 0, 0, 90") @ ahead
    np.testing.assert_allclose(down[:3], [np.cos(np.pi / 6), 0, -0.5], atol=1e-12)
    np.testing.assert_allclose(left[:3], [0, 1, 0], atol=1e-12)
    turned = T("0 0 1.4 20 30 40")  # roll about x first, then pitch, then yaw, about fixed axes
    by_hand = np.linalg.multi_dot([rotation(axis, angle) for axis, angle in (("z", 40), ("y", 30), ("x", 20))])
    np.testing.assert_allclose(turned[:3, :3] @ [0, 0, 1], by_hand @ [1, 0, 0], atol=1e-12)


def rotation(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    R = np.eye(3)
    R[i, i] = R[j, j] = c
    R[i, j], R[j, i] = -s, s
    return R


def test_a_frame_of_the_body_has_no_optical_axes() -> None:
    np.testing.assert_allclose(T("0 0 1 0 0 0", "camera_link")[:3, :3], np.eye(3), atol=1e-12)


@pytest.mark.parametrize("text", ["", "0 0 1", "0 0 1 0 0 up", "0 0 nan 0 0 0", "1 2 3 4 5 6 7"])
def test_anything_else_is_refused_with_the_form(text) -> None:
    with pytest.raises(ConfigError, match="x y z"):
        parse_mount(text)


def test_no_camera_is_taken_as_level_unless_its_calibration_is() -> None:
    assert mount_of("clip", "", "") == (LEVEL["clip"], WORLD)
    assert mount_of("webcam:0", "0 0 1 0 0 0", "") == ("0 0 1 0 0 0", WORLD)
    assert mount_of("", "", "odom") == ("", "odom")
    assert mount_of("clip", "", "odom") == ("", "odom")
    for source in ("", "webcam:0", "walk.mp4"):
        with pytest.raises(ConfigError, match="where is the camera"):
            mount_of(source, "", "")
