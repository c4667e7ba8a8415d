"""The URDF of 165 joints shows the pose exactly, by pinocchio's kinematics."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from poses import local_rotations, posed, random_pose, rest

from hsr_core.body.joints import JOINT_NAMES
from hsr_core.skeleton.ball_joints import JOINT_STATE_NAMES, joint_angles, local_rotmats
from hsr_core.skeleton.rep155 import body_frame
from hsr_core.skeleton.smplx_urdf import smplx_urdf

pinocchio = pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget]'")

ID = "vwxyz"


def test_the_165_names_are_unique_in_order_and_those_of_the_urdf() -> None:
    assert len(set(JOINT_STATE_NAMES)) == len(JOINT_STATE_NAMES) == 165
    model = pinocchio.buildModelFromXML(smplx_urdf(rest(), ID))
    assert model.nq == model.nv == 165
    assert set(model.names) - {"universe"} == set(JOINT_STATE_NAMES)
    robot = ET.fromstring(smplx_urdf(rest(), ID))
    assert [j.get("name") for j in robot.findall("joint") if j.get("type") == "revolute"] == JOINT_STATE_NAMES


def test_kinematics_of_the_joint_states_give_the_joints_of_1000_poses() -> None:
    model = pinocchio.buildModelFromXML(smplx_urdf(rest(), ID))
    data = model.createData()
    at = [model.joints[model.getJointId(name)].idx_q for name in JOINT_STATE_NAMES]
    links = [model.getFrameId(f"human_{ID}/{name}") for name in JOINT_NAMES]
    worst_m = worst_turn = 0.0
    for seed in range(1000):
        joints, rotmats = random_pose(seed)
        angles = joint_angles(local_rotmats(rotmats)).reshape(-1)
        assert np.isfinite(angles).all()
        q = np.zeros(165)
        q[at] = angles
        pinocchio.framesForwardKinematics(model, data, q)
        frame = body_frame(joints, rotmats)
        found = np.stack([data.oMf[link].translation for link in links]) @ frame.rotmat.T + frame.origin
        turned = frame.rotmat @ np.stack([data.oMf[link].rotation for link in links])
        worst_m = max(worst_m, np.abs(found - joints).max())
        worst_turn = max(worst_turn, np.abs(turned - rotmats).max())
    assert worst_m < 1e-6  # asked is 1 mm
    assert worst_turn < 1e-6


@pytest.mark.parametrize(("height", "width"), [(0.55, 0.6), (1.2, 0.9), (0.95, 1.6)])
def test_people_of_several_shapes_are_trees_with_one_root(height, width) -> None:
    robot = ET.fromstring(smplx_urdf(rest(height, width), ID))
    links = [link.get("name") for link in robot.findall("link")]
    children = [joint.find("child").get("link") for joint in robot.findall("joint")]
    assert len(set(links)) == len(links) == len(children) + 1 == 167
    assert set(links) - set(children) == {f"body_{ID}"}
    joints, rotmats = posed(rest(height, width), local_rotations(np.random.default_rng(1)))
    model = pinocchio.buildModelFromXML(smplx_urdf(rest(height, width), ID))
    data = model.createData()
    q = np.zeros(165)
    q[[model.joints[model.getJointId(n)].idx_q for n in JOINT_STATE_NAMES]] = joint_angles(
        local_rotmats(rotmats)
    ).reshape(-1)
    pinocchio.framesForwardKinematics(model, data, q)
    frame = body_frame(joints, rotmats)
    tip = data.oMf[model.getFrameId(f"human_{ID}/left_index3")].translation
    wanted = (joints[JOINT_NAMES.index("left_index3")] - frame.origin) @ frame.rotmat
    np.testing.assert_allclose(tip, wanted, atol=1e-6)
