"""Frames of a person: what REP-103 and REP-155 say of them, and pinocchio's kinematics of the two URDFs."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pinocchio
import pytest
from poses import posed, random_pose, rest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import JOINT_NAMES, PARENTS, J
from hsr_core.skeleton.ball_joints import JOINT_STATE_NAMES, joint_angles, local_rotmats
from hsr_core.skeleton.frames import CAMERA, MODES, FaceFrames, person_frames
from hsr_core.skeleton.proportions import proportions, rest_joints
from hsr_core.skeleton.rep155 import JOINTS, Rep155Angles
from hsr_core.skeleton.rep155_body import Rep155Body
from hsr_core.skeleton.rep155_urdf import rep155_urdf
from hsr_core.skeleton.smplx_urdf import smplx_urdf

ID = "abcde"
FACING_CAMERA = np.diag([1.0, -1.0, -1.0])
"""An upright person who looks into the camera: R_cam_pelvis, SMPL's axes (x left, y up, z forward)."""
RIGHT, UP, TO_CAMERA = np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, -1.0])


def composed(frames, poses) -> dict[str, np.ndarray]:
    """T_cam_frame of every frame, from what is published alone."""
    out = {CAMERA: np.eye(4)}
    for (parent, child), pose in zip(frames.names, poses, strict=True):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
        out[child] = out[parent] @ T
    return out


def pose_of(turns: dict[str, tuple[str, float]], R_cam_pelvis: np.ndarray):
    """A person 3 m in front of the camera with some joints turned: an axis of SMPL's and degrees."""
    local = np.tile(np.eye(3), (55, 1, 1))
    for name, (axis, degrees) in turns.items():
        local[J[name]] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    local[0] = R_cam_pelvis
    return posed(rest(), local, (0.5, 0.2, 3.0))


ON_THE_BACK = np.column_stack([-RIGHT, TO_CAMERA, UP])
"""Head towards the camera, the face up: the own left is the camera's."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("turns", "R_cam_pelvis", "x", "z"),
    [
        ({}, FACING_CAMERA, TO_CAMERA, UP),
        ({"left_shoulder": ("z", 80), "right_shoulder": ("y", 60)}, FACING_CAMERA, TO_CAMERA, UP),
        ({}, ON_THE_BACK, UP, TO_CAMERA),
    ],
    ids=["rest", "arms raised", "on the back"],
)
def test_the_body_is_at_mid_hips_with_x_forward_and_z_up_the_trunk(mode, turns, R_cam_pelvis, x, z) -> None:
    joints, rotmats = pose_of(turns, R_cam_pelvis)
    frames = person_frames(mode, ID)
    T = composed(frames, frames.poses(joints, rotmats))[f"body_{ID}"]
    np.testing.assert_allclose(T[:3, 3], (joints[J["left_hip"]] + joints[J["right_hip"]]) / 2, atol=1e-12)
    assert np.linalg.norm(T[:3, 3] - joints[0]) > 0.05  # which is not the pelvis
    np.testing.assert_allclose(T[:3, :3], np.column_stack([x, np.cross(z, x), z]), atol=1e-12)


@pytest.mark.parametrize("mode", ["root", "full"])
def test_the_head_is_between_the_eyes_with_x_out_of_the_face(mode) -> None:
    joints, rotmats = pose_of({"neck": ("y", 30), "head": ("y", 40)}, FACING_CAMERA)
    frames = person_frames(mode, ID)
    T = composed(frames, frames.poses(joints, rotmats))[f"head_{ID}"]
    eyes = joints[J["left_eye_smplhf"]], joints[J["right_eye_smplhf"]]
    np.testing.assert_allclose(T[:3, 3], (eyes[0] + eyes[1]) / 2, atol=1e-12)
    np.testing.assert_allclose(T[:3, 1], (eyes[0] - eyes[1]) / np.linalg.norm(eyes[0] - eyes[1]), atol=1e-12)
    looks = np.sin(np.radians(70)) * RIGHT + np.cos(np.radians(70)) * TO_CAMERA  # 70 degrees to the own left
    np.testing.assert_allclose(T[:3, 0], looks, atol=1e-12)


def test_all_joints_are_where_they_are_and_the_chain_is_that_of_the_skeleton() -> None:
    frames = person_frames("full", ID)
    for seed in range(20):
        joints, rotmats = random_pose(seed)
        found = composed(frames, frames.poses(joints.astype(np.float32), rotmats.astype(np.float32)))
        for j, name in enumerate(JOINT_NAMES):
            T = found[f"human_{ID}/{name}"]
            np.testing.assert_allclose(T[:3, 3], joints[j], atol=1e-5)  # float32 in
            np.testing.assert_allclose(T[:3, :3], rotmats[j], atol=1e-5)
    parents = {child: parent for parent, child in frames.names}
    assert parents[f"human_{ID}/pelvis"] == f"body_{ID}"
    for j in range(1, 55):
        assert parents[f"human_{ID}/{JOINT_NAMES[j]}"] == f"human_{ID}/{JOINT_NAMES[PARENTS[j]]}"


@pytest.mark.parametrize("mode", MODES)
def test_every_frame_has_one_parent_that_comes_before_it_and_names_of_its_own(mode) -> None:
    names = [person_frames(mode, body_id).names for body_id in ("abcde", "fghij")]
    children = [child for person in names for _, child in person]
    assert len(set(children)) == len(children)
    for person in names:
        known = {CAMERA}
        for parent, child in person:
            assert parent in known
            known.add(child)
        assert [child for parent, child in person if parent == CAMERA] == [person[0][1]]
        assert {f"{part}_{person[0][1][5:]}" for part in ("body", "head")} <= known
    assert all(re.fullmatch(r"[a-z_0-9/]+", child) for child in children)
    assert len(names[0]) == {"root": 2, "rep155": 27, "full": 57}[mode]


def kinematics(urdf: str, names: list[str], angles: np.ndarray) -> dict[str, np.ndarray]:
    """T_root_link of every link."""
    model = pinocchio.buildModelFromXML(urdf)
    data, q = model.createData(), np.zeros(model.nq)
    for name, angle in zip(names, angles, strict=True):
        q[model.joints[model.getJointId(name)].idx_q] = angle
    pinocchio.framesForwardKinematics(model, data, q)
    return {frame.name: data.oMf[i].homogeneous for i, frame in enumerate(model.frames)}


REP155_JOINTS = {
    f"{letter}_{link}": f"{side}_{joint}"
    for letter, side in (("l", "left"), ("r", "right"))
    for link, joint in (("shoulder", "shoulder"), ("elbow", "elbow"), ("wrist", "wrist"), ("hip", "hip"),
                        ("knee", "knee"), ("ankle", "ankle"))
} | {"p_head": "head"}  # fmt: skip


def check_rep155_frames(found: dict, joints: np.ndarray, expected: dict) -> None:
    """Rotations and legs are the URDF's forward kinematics; trunk, arms and head lie where the person has them."""
    T_cam_body = found[f"body_{ID}"]
    assert {link for link in found if link != CAMERA} <= expected.keys()
    for link, T in found.items():
        if link == CAMERA:
            continue
        T_cam_link = T_cam_body @ expected[link]
        np.testing.assert_allclose(T[:3, :3], T_cam_link[:3, :3], atol=1e-9, err_msg=link)
        if link in (f"body_{ID}", f"waist_{ID}") or "hip" in link or "knee" in link or "ankle" in link:
            np.testing.assert_allclose(T[:3, 3], T_cam_link[:3, 3], atol=1e-9, err_msg=link)
    shoulders = joints[[J["left_shoulder"], J["right_shoulder"]]]
    np.testing.assert_allclose(found[f"torso_{ID}"][:3, 3], shoulders.mean(axis=0), atol=1e-9)


def test_rep155_frames_are_the_urdfs_with_trunk_arms_and_head_in_their_places() -> None:
    frames, angles_of = person_frames("rep155", ID), Rep155Angles()
    for seed, size in itertools.product(range(4), (1.0, 1.2)):
        joints, rotmats = random_pose(seed)
        joints = joints * size  # somebody else: the links get longer with the URDF
        urdf = rep155_urdf(proportions(rest_joints(joints, rotmats)), ID)
        expected = kinematics(urdf, [f"{name}_{ID}" for name in JOINTS], angles_of(joints, rotmats))
        found = composed(frames, frames.poses(joints, rotmats))
        check_rep155_frames(found, joints, expected)
        eyes = joints[[J["left_eye_smplhf"], J["right_eye_smplhf"]]]
        np.testing.assert_allclose(found[f"head_{ID}"][:3, 3], eyes.mean(axis=0), atol=1e-9)
        for link, joint in REP155_JOINTS.items():
            bend_is_small = 0.03 if link.endswith(("wrist", "ankle")) else 1e-9  # a limb bent by less than 5 degrees
            np.testing.assert_allclose(found[f"{link}_{ID}"][:3, 3], joints[J[joint]], atol=bend_is_small, err_msg=link)


def arm_down(azimuth_deg: float, away_deg: float):
    """A person whose left upper arm is so far from hanging along the trunk, to that side of it."""
    body, local = rest(), np.tile(np.eye(3), (55, 1, 1))
    a, b = (body[[J[f"left_{part}"], J[f"right_{part}"]]].mean(axis=0) for part in ("shoulder", "hip"))
    upright = Rotation.align_vectors([a - b], [(0, 1, 0)])[0]
    way = upright.apply(Rotation.from_euler("zy", [away_deg, azimuth_deg], degrees=True).apply((0, -1, 0)))
    bone = body[J["left_elbow"]] - body[J["left_shoulder"]]
    local[J["left_shoulder"]] = Rotation.align_vectors([way], [bone])[0].as_matrix()
    return posed(body, local)


def test_who_asks_for_angles_later_gets_those_of_the_frames() -> None:
    """While an arm hangs its first angle is what it was before: one memory for frames, joint states and URDF."""
    person = Rep155Body()
    frames = person_frames("rep155", ID, person)
    frames.poses(*arm_down(-40, 12))
    joints, rotmats = arm_down(-170, 3)
    joints = joints * 1.01  # too little for another URDF
    found = composed(frames, frames.poses(joints, rotmats))
    urdf = rep155_urdf(person.proportions(joints, rotmats), ID)
    names = [f"{name}_{ID}" for name in JOINTS]
    expected = kinematics(urdf, names, person.angles(joints, rotmats))
    check_rep155_frames(found, joints, expected)
    afresh = kinematics(urdf, names, Rep155Angles()(joints, rotmats))
    assert np.abs(afresh[f"l_wrist_{ID}"] - expected[f"l_wrist_{ID}"]).max() > 0.01


def test_all_joints_are_the_forward_kinematics_of_joint_states_too() -> None:
    """The URDF with 165 joints under `body_<id>` has the same links at the same places."""
    frames = person_frames("full", ID)
    joints, rotmats = random_pose(3)
    urdf = smplx_urdf(rest_joints(joints, rotmats), ID)
    expected = kinematics(urdf, JOINT_STATE_NAMES, joint_angles(local_rotmats(rotmats)).reshape(-1))
    found = composed(frames, frames.poses(joints, rotmats))
    for name in JOINT_NAMES:
        link = f"human_{ID}/{name}"
        np.testing.assert_allclose(found[link], found[f"body_{ID}"] @ expected[link], atol=1e-7, err_msg=link)


def test_a_face_looks_out_of_itself_and_its_gaze_where_the_eyes_do() -> None:
    """REP-155: x of the face forward, z up; of the gaze z forward, x right, y down."""
    frames = FaceFrames("fghij")
    assert frames.names == ((CAMERA, "face_fghij"), ("face_fghij", "gaze_fghij"))
    joints, rotmats = pose_of({}, FACING_CAMERA)
    found = composed(frames, frames.poses(joints, rotmats))
    face, gaze = found["face_fghij"], found["gaze_fghij"]
    # The own left is the camera's right.
    np.testing.assert_allclose(face[:3, :3], np.column_stack([TO_CAMERA, RIGHT, UP]), atol=1e-9)
    np.testing.assert_allclose(gaze[:3, :3], np.column_stack([-RIGHT, -UP, TO_CAMERA]), atol=1e-9)
    head = composed(person_frames("root", ID), person_frames("root", ID).poses(joints, rotmats))[f"head_{ID}"]
    np.testing.assert_allclose(face, head, atol=1e-9)
    np.testing.assert_allclose(gaze[:3, 3], face[:3, 3])
    turns = {f"{side}_eye_smplhf": ("y", 20 + squint) for side, squint in (("left", -4), ("right", 4))}
    found = composed(frames, frames.poses(*pose_of(turns, FACING_CAMERA)))
    way = Rotation.from_euler("y", -20, degrees=True).apply(TO_CAMERA)  # to the own left
    np.testing.assert_allclose(found["gaze_fghij"][:3, 2], way, atol=1e-6)
    np.testing.assert_allclose(found["face_fghij"][:3, 0], TO_CAMERA, atol=1e-9)


def test_another_mode_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="root, rep155, full, not 'none'"):
        person_frames("none", ID)
