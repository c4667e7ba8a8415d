"""Motion on the stage: one turn, the stated amplitudes, feet on the floor; parameters moved as a rigid body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.geometry.rigid import moved
from hsr_core.synth.motion import Motion, body_pose, stage_params, turned_about
from hsr_core.types import HumanParams


@pytest.fixture(scope="module")
def clip(body):
    return stage_params(body, HumanParams(), Motion(), 40, 0.85)


@pytest.fixture(scope="module")
def posed(body, clip):
    return [body.pose_one(p) for p in clip]


def test_the_lowest_point_of_the_skin_is_on_the_floor(posed):
    np.testing.assert_allclose([p.vertices[:, 1].max() for p in posed], 0.85, atol=1e-5)


def test_people_make_one_full_turn_and_start_facing_the_camera(posed):
    forward = np.stack([p.joint_rotmats[0] @ [0, 0, 1] for p in posed])
    np.testing.assert_allclose(forward[0], [0, 0, -1], atol=1e-6)
    yaw = np.unwrap(np.arctan2(forward[:, 0], -forward[:, 2]))
    np.testing.assert_allclose(np.abs(np.diff(yaw)), 2 * np.pi / 40, atol=1e-5)
    np.testing.assert_allclose(forward[:, 1], 0, atol=1e-6)


def test_the_pelvis_sways_by_a_quarter_metre_in_depth_alone(posed):
    pelvis = np.stack([p.joints[0] for p in posed])
    np.testing.assert_allclose([pelvis[:, 2].min(), pelvis[:, 2].max()], [2.75, 3.25], atol=1e-4)
    np.testing.assert_allclose(pelvis[:, 0], 0, atol=1e-6)
    assert np.ptp(pelvis[:, 1]) < 0.08  # steps


def test_limbs_swing_and_bend_as_stated(body):
    """Upper arms +-20 degrees about the side axis; knees and elbows bend one way only."""
    shape = HumanParams()
    angles, knees, elbows = [], [], []
    for stride in np.linspace(0, 2 * np.pi, 40, endpoint=False):
        p = body.pose_one(replace(shape, body_pose=body_pose(stride, np.radians(20))), vertices=False)
        spine = p.joint_rotmats[J["left_collar"]].T
        arm = spine @ (p.joints[J["left_elbow"]] - p.joints[J["left_shoulder"]])
        angles.append(np.degrees(np.arctan2(arm[2], -arm[1])))
        shin = p.joint_rotmats[J["left_hip"]].T @ (p.joints[J["left_ankle"]] - p.joints[J["left_knee"]])
        knees.append(np.degrees(np.arctan2(-shin[2], -shin[1])))
        fore = p.joint_rotmats[J["left_shoulder"]].T @ (p.joints[J["left_wrist"]] - p.joints[J["left_elbow"]])
        elbows.append(np.degrees(np.arctan2(fore[2], fore[0])))
    assert np.ptp(angles) == pytest.approx(40, abs=1)
    assert min(knees) > 0  # the shank goes back, never forward
    assert np.ptp(knees) > 25
    assert min(elbows) > 0  # the forearm comes forward
    assert np.ptp(elbows) > 25


def test_the_two_sides_mirror_each_other_half_a_stride_later(body):
    """Left at one time is right half a stride later, seen in the mirror x -> -x; the neck has a rhythm of its own."""
    a = body.pose_one(replace(HumanParams(), body_pose=body_pose(0.4, 0.3)), vertices=False).joints
    b = body.pose_one(replace(HumanParams(), body_pose=body_pose(0.4 + np.pi, 0.3)), vertices=False).joints
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
        left, right = a[J[f"left_{part}"]], b[J[f"right_{part}"]]
        np.testing.assert_allclose(left, right * [-1, 1, 1], atol=3e-3)  # the template is symmetric to 1 mm


def test_moved_parameters_give_the_rigidly_moved_mesh(body, clip):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0.4, -2.0, 1.0]).as_matrix()
    T[:3, 3] = [0.3, -0.2, 1.1]
    rest_pelvis = body.rest(clip[3])[1][0]
    before = body.pose_one(clip[3]).vertices
    after = body.pose_one(moved(clip[3], T, rest_pelvis)).vertices
    np.testing.assert_allclose(after, before @ T[:3, :3].T + T[:3, 3], atol=2e-5)


def test_a_turn_about_a_point_keeps_the_point_and_the_vertical():
    point = np.array([0.3, -0.1, 3.0])
    T = turned_about(point, 0.7)
    np.testing.assert_allclose(T[:3, :3] @ point + T[:3, 3], point, atol=1e-12)
    np.testing.assert_allclose(T[:3, :3] @ [0, 1, 0], [0, 1, 0], atol=1e-12)
    assert Rotation.from_matrix(T[:3, :3]).magnitude() == pytest.approx(0.7)
