"""The robot is seen as the camera would see it: left is left, the ground is where it stands."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hsr_core.imitate.scene import RobotScene, View
from hsr_core.retarget import load_robot
from hsr_core.types import Camera

CAMERA = Camera(np.array([[400.0, 0, 159.5], [0, 400, 119.5], [0, 0, 1]]), (240, 320))
T_FRONT = np.array([[0.0, 1, 0, 0], [0, 0, -1, 0.8], [-1, 0, 0, 4], [0, 0, 0, 1]])
"""A camera four metres in front of a robot that looks along x, 0.8 m high: it sees the robot's left at its right."""


@cache
def g1():
    return load_robot("g1", "upper_body")


@pytest.fixture(scope="module")
def scene():
    return RobotScene(g1())


def body_pixels(picture):
    return np.abs(picture.astype(int) - 244).max(axis=2) > 60


def on_the_ground(scene):
    T = np.eye(4)
    T[2, 3] = -scene.sole_m
    return T


def test_a_raised_left_arm_is_at_the_right_of_a_camera_in_front(scene):
    robot = g1()
    q = robot.neutral.copy()
    shoulder = robot.model.joints[robot.model.getJointId("left_shoulder_roll_joint")].idx_q
    q[shoulder] = 1.5
    pixels = body_pixels(scene.draw(q, on_the_ground(scene), View(CAMERA, T_FRONT), idle=False))
    columns = np.flatnonzero(pixels.any(axis=0))
    assert 159.5 - columns.min() < 0.7 * (columns.max() - 159.5)


def test_it_stands_on_the_grid_with_its_height(scene):
    pixels = body_pixels(scene.draw(g1().neutral, on_the_ground(scene), View(CAMERA, T_FRONT), idle=False))
    rows = np.flatnonzero(pixels.any(axis=1))
    assert rows.max() == pytest.approx(119.5 + 400 * 0.8 / 4, abs=3)  # the ground, 0.8 m below the camera
    assert np.ptp(rows) == pytest.approx(400 * scene.height_m / 4, abs=4)


def test_what_has_no_command_is_pale(scene):
    draw = [scene.draw(g1().neutral, on_the_ground(scene), View(CAMERA, T_FRONT), idle=idle) for idle in (False, True)]
    middle = [picture[100:110, 155:165].mean() for picture in draw]
    assert middle[1] > middle[0] + 20
