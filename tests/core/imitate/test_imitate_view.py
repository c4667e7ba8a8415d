"""Where the robot is seen from moves with the camera's pose: another world, the same picture."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from export_people import CAMERA, write_recording
from scipy.spatial.transform import Rotation

from hsr_core.export.inputs import read_input
from hsr_core.export.motion import LEVEL_CAMERA, Motion
from hsr_core.geometry.camera import project
from hsr_core.imitate.follow import follow
from hsr_core.imitate.framing import windows
from hsr_core.imitate.person import joints_in_camera
from hsr_core.imitate.run import teleop_settings
from hsr_core.imitate.side_by_side import PANEL_HW, Shown, _Right
from hsr_core.retarget import load_robot

N = 20


@cache
def g1(mode):
    return load_robot("g1", mode)


def seen(tmp_path, body, mode, T):
    """Return joint positions, and the robot's base as pixels of its panel, for a camera at T (None: not known)."""
    folder = tmp_path / ("level" if T is None else "world")
    folder.mkdir()
    path = write_recording(folder / "people.npz", body, N, T_world_cam=T)
    motion = Motion(read_input(str(path), folder).chosen("1")[0], "zero-phase")
    followed = follow(motion, g1(mode), teleop_settings())
    scene = SimpleNamespace(height_m=1.3, sole_m=-0.75)
    shown = Shown(SimpleNamespace(), motion, followed, g1(mode), scene, CAMERA, None, 30.0)
    joints = joints_in_camera(motion, slice(0, N))
    right, cuts = _Right(shown, joints[:, 0]), windows(joints, CAMERA, PANEL_HW, 30.0)
    base = followed.motion.base
    points = []
    for i in range(N):
        of_model = (0.1, 0.2, 0, 1) if base is None else (*base[i, :3], 1)
        view = right._view(i, cuts[i])
        points.append(project(view.of((right._T_world_model @ of_model)[:3]), view.camera))
    return followed.motion.position, np.array(points)


@pytest.mark.parametrize("mode", ["whole_body", "upper_body"])
def test_another_world_gives_the_same_joints_and_the_same_picture(tmp_path, open_body, mode):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", 130, degrees=True).as_matrix() @ LEVEL_CAMERA[:3, :3]
    T[:3, 3] = (3, -2, 1.4)
    (q, level), (same_q, moved) = (seen(tmp_path, open_body, mode, pose) for pose in (None, T))
    np.testing.assert_allclose(same_q, q, atol=1e-5)
    np.testing.assert_allclose(moved, level, atol=0.05)
    middle = np.array(PANEL_HW[::-1]) / 2
    assert np.abs(level - middle).max() < 200
