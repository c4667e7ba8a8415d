"""165 joint angles: names, exact rotations, continuity, the hold near 90 degrees."""

from __future__ import annotations

import numpy as np
import pytest
from hsr.convert import body_id
from hsr.joint_states import AXIS_ORDERS, JOINT_STATE_NAMES, JointStateBuilder, joint_angles, local_rotmats
from scipy.spatial.transform import Rotation
from test_wire_convert import person

from hsr_core.body.joints import JOINT_NAMES, PARENTS, J

S = 1_000_000_000


def rebuilt(angles: np.ndarray) -> np.ndarray:
    """The rotations that scipy makes of the angles; capital letters are its intrinsic axes."""
    out = np.empty((55, 3, 3))
    for order in set(AXIS_ORDERS):
        joints = [j for j, other in enumerate(AXIS_ORDERS) if other == order]
        out[joints] = Rotation.from_euler(order.upper(), angles[joints]).as_matrix()
    return out


def globals_of(local: np.ndarray) -> np.ndarray:
    out = local.copy()
    for j in range(1, len(PARENTS)):
        out[j] = out[PARENTS[j]] @ local[j]
    return out


def random_local(rng: np.random.Generator, limit_rad: float) -> np.ndarray:
    """Rotations whose middle angle stays within the limit; the pelvis stays put."""
    angles = rng.uniform(-np.pi, np.pi, (55, 3))
    angles[:, 1] = rng.uniform(-limit_rad, limit_rad, 55)
    angles[0] = 0
    return rebuilt(angles)


def test_names_are_unique_and_in_order() -> None:
    assert len(set(JOINT_STATE_NAMES)) == 165
    assert [name.rsplit("_", 1)[0] for name in JOINT_STATE_NAMES[::3]] == list(JOINT_NAMES)
    for joint, order in {
        "left_shoulder": "yxz", "right_collar": "yxz", "left_elbow": "yzx", "right_hip": "xyz", "left_knee": "xyz",
        "right_foot": "xyz", "left_ankle": "xyz", "spine2": "yzx", "neck": "yzx", "head": "yzx", "jaw": "yzx",
        "left_wrist": "zyx", "right_pinky2": "zyx", "left_thumb1": "zyx", "left_eye_smplhf": "yxz",
    }.items():  # fmt: skip
        assert JOINT_STATE_NAMES[3 * J[joint] : 3 * J[joint] + 3] == [f"{joint}_{axis}" for axis in order]


def test_angles_rebuild_every_rotation() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000):
        local = random_local(rng, np.radians(79))
        angles = joint_angles(local)
        np.testing.assert_allclose(rebuilt(angles), local, atol=1e-7)
        assert np.isfinite(angles).all()
        assert np.abs(angles[:, 1]).max() <= np.pi / 2


def test_forward_kinematics_of_the_message_gives_the_joints() -> None:
    """Rotations of the message down the chain with the bone offsets: the joints, to 1 mm."""
    rng = np.random.default_rng(2)
    offsets = rng.normal(scale=0.2, size=(55, 3))
    for _ in range(100):
        local = random_local(rng, np.radians(75))
        R = globals_of(local)
        msg = JointStateBuilder().to_msg(person(joint_rotmats=R.astype(np.float32)), S)
        R_msg = globals_of(rebuilt(np.array(msg.position).reshape(55, 3)))
        joints = np.zeros((2, 55, 3))
        for j in range(1, 55):
            for i, rotmats in enumerate((R, R_msg)):
                joints[i, j] = joints[i, PARENTS[j]] + rotmats[PARENTS[j]] @ offsets[j]
        assert np.abs(joints[0] - joints[1]).max() < 1e-3


def test_local_rotations_undo_the_chain() -> None:
    local = random_local(np.random.default_rng(3), 1.0)
    turned = Rotation.from_rotvec([0.3, 2.0, -1.0]).as_matrix() @ globals_of(local)
    np.testing.assert_allclose(local_rotmats(turned), local, atol=1e-7)


def elbow(angles: tuple[float, float, float]) -> np.ndarray:
    local = np.tile(np.eye(3), (55, 1, 1))
    j = J["left_elbow"]
    local[j] = Rotation.from_euler(AXIS_ORDERS[j].upper(), angles).as_matrix()
    return globals_of(local)


def test_angles_are_unwrapped_through_a_full_turn() -> None:
    builder, j = JointStateBuilder(), J["left_elbow"]
    turn = np.linspace(0, 4 * np.pi, 100)
    positions = [
        np.array(builder.to_msg(person(joint_rotmats=elbow((a, 0.3, -a))), S + i).position).reshape(55, 3)[j]
        for i, a in enumerate(turn)
    ]
    np.testing.assert_allclose(positions, np.stack([turn, np.full(100, 0.3), -turn], axis=1), atol=1e-5)


def test_the_first_angle_is_held_near_the_singularity() -> None:
    """Past 80 degrees the outer axes line up: noise there must not swing them, and the rotation stays right."""
    rng = np.random.default_rng(4)
    builder, j = JointStateBuilder(), J["left_elbow"]
    before = builder.to_msg(person(joint_rotmats=elbow((0.2, np.radians(79), 0.1))), S)
    first = np.array(before.position).reshape(55, 3)[j, 0]
    for i in range(50):
        noisy = elbow((0.2, np.radians(rng.uniform(86, 94)), 0.1 + rng.normal(scale=0.01)))
        noisy[j] = noisy[j] @ Rotation.from_rotvec(rng.normal(scale=0.005, size=3)).as_matrix()
        angles = np.array(builder.to_msg(person(joint_rotmats=noisy), S + i + 1).position).reshape(55, 3)
        assert angles[j, 0] == pytest.approx(first, abs=1e-6)
        error = Rotation.from_matrix(rebuilt(angles)[j].T @ noisy[J["left_elbow"]]).magnitude()
        assert error < np.radians(2)
        assert np.abs(angles[j] - (0.2, np.pi / 2, 0.1)).max() < 0.2


def test_velocities_are_slopes_and_missing_when_unknown() -> None:
    builder, j = JointStateBuilder(), J["left_elbow"]

    def state(angle: float, at_s: float, track_id: int = 3):
        return builder.to_msg(person(track_id, joint_rotmats=elbow((angle, 0.0, 0.0))), round(at_s * S))

    assert len(state(0.0, 1.0).velocity) == 0
    velocity = np.array(state(0.1, 1.05).velocity).reshape(55, 3)
    assert velocity[j, 0] == pytest.approx(2.0, rel=1e-4)
    assert len(state(0.2, 2.0).velocity) == 0  # after a gap
    assert len(state(0.2, 2.05, track_id=4).velocity) == 0  # somebody else
    builder.reset()
    assert len(state(0.2, 2.1, track_id=4).velocity) == 0


def test_the_message_has_no_pelvis_angles_and_names_the_root_link() -> None:
    source = person(5, joint_rotmats=np.tile(Rotation.from_rotvec([3.0, 0, 0]).as_matrix(), (55, 1, 1)))
    msg = JointStateBuilder().to_msg(source, 7 * S + 9)
    np.testing.assert_allclose(msg.position, 0, atol=1e-12)
    assert msg.header.frame_id == f"body_{body_id(5)}"
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (7, 9)
    assert msg.name == JOINT_STATE_NAMES
    assert len(msg.effort) == 0
