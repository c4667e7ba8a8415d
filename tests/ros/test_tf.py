"""Frames of two moving people with the real open body, over DDS: one tree, and the same people as everything else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pinocchio
import pytest
from harness import FRAME_ID, Perception, image
from hsr.convert import body_id, human_params_from_msg, stamp_to_ns
from hsr.marker import decode_marker
from hsr_msgs.msg import Human
from rclpy.qos import QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker

from hsr_core.body import load_body
from hsr_core.body.joints import JOINT_NAMES, J
from hsr_core.skeleton.smplx_urdf import smplx_urdf

FRAMES = 12
MM = 1e-3


def matrix(position, quaternion) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([quaternion.x, quaternion.y, quaternion.z, quaternion.w]).as_matrix()
    T[:3, 3] = position.x, position.y, position.z
    return T


@dataclass
class Recording:
    """What was heard, by stamp."""

    people: dict = field(default_factory=dict)
    tf: dict = field(default_factory=dict)
    joint_states: dict = field(default_factory=dict)
    meshes: dict = field(default_factory=dict)
    tf_sent_ns: dict = field(default_factory=dict)
    mesh_sent_ns: dict = field(default_factory=dict)
    images: set = field(default_factory=set)

    def whole(self) -> list[int]:
        """Stamps of which everything of two people is there."""
        return [
            stamp
            for stamp, people in self.people.items()
            if stamp in self.tf and stamp in self.joint_states and len(self.meshes.get(stamp, ())) == 2
            and sum(human.state != Human.LOST for human in people.humans) == 2
        ]  # fmt: skip

    def composed(self, stamp: int) -> dict[str, np.ndarray]:
        """T_cam_frame of every frame, from TF alone."""
        transforms = {entry.child_frame_id: entry for entry in self.tf[stamp]}

        def place(frame: str) -> np.ndarray:
            if frame == FRAME_ID:
                return np.eye(4)
            entry = transforms[frame]
            return place(entry.header.frame_id) @ matrix(entry.transform.translation, entry.transform.rotation)

        return {frame: place(frame) for frame in transforms}


@pytest.fixture(scope="module")
def recording(rig) -> Recording:
    """A few moments of two people in all outputs."""
    out = Recording()
    profile = QoSProfile(depth=100)

    def on_tf(message: TFMessage, info: dict) -> None:
        stamp = stamp_to_ns(message.transforms[0].header.stamp)
        assert stamp not in out.tf  # one message a frame
        out.tf[stamp], out.tf_sent_ns[stamp] = message.transforms, info["source_timestamp"]

    def on_mesh(data: bytes, info: dict) -> None:
        marker = decode_marker(data) if data else None
        if marker is not None and marker.action == Marker.ADD:
            out.meshes.setdefault(marker.stamp_ns, {})[marker.id] = marker.points.copy()
            out.mesh_sent_ns.setdefault(marker.stamp_ns, info["source_timestamp"])

    def on_joint_states(message: JointState) -> None:
        out.joint_states[stamp_to_ns(message.header.stamp)] = message

    rig.node.create_subscription(TFMessage, "/tf", on_tf, profile)
    rig.node.create_subscription(Marker, "/human/mesh", on_mesh, profile, raw=True)
    rig.node.create_subscription(JointState, "/human/joint_states", on_joint_states, profile)
    node = Perception(
        rig, "people.max:=2", "tf.mode:=full", "marker.max_rate_hz:=0.0", "people.min_height_px:=16",
        "input.max_age_s:=0.0", module="posed_node",
    )  # fmt: skip

    def whole() -> bool:
        out.people = {stamp_to_ns(message.header.stamp): message for message in node.people}
        return len(out.whole()) >= FRAMES

    def make():
        msg = image(size=(320, 240))
        out.images.add(stamp_to_ns(msg.header.stamp))
        return msg

    node.feed(whole, "two people in every output", make=make, hz=20.0, limit_s=60)
    node.change("deactivate")
    return out


@pytest.fixture(scope="module")
def body():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HSR_BODY_MODELS", raising=False)
        return load_body()


def test_two_people_make_one_tree_in_which_every_frame_has_one_parent(recording) -> None:
    links = {(t.header.frame_id, t.child_frame_id) for message in recording.tf.values() for t in message}
    children = [child for _, child in links]
    assert len(set(children)) == len(children)
    ids = {human.id for message in recording.people.values() for human in message.humans}
    assert len(ids) == 2
    assert {child for parent, child in links if parent == FRAME_ID} == {f"body_{letters}" for letters in ids}
    assert len(links) == 2 * 57
    for stamp, message in recording.tf.items():
        assert {stamp_to_ns(entry.header.stamp) for entry in message} == {stamp}
        recording.composed(stamp)  # a circle or a gap would raise


def test_frames_are_of_the_images_stamps_and_go_out_before_the_meshes(recording) -> None:
    assert set(recording.tf) <= recording.images
    assert len(recording.whole()) >= FRAMES
    for stamp in recording.whole():
        assert recording.tf_sent_ns[stamp] < recording.mesh_sent_ns[stamp]


def test_joints_from_tf_alone_are_those_of_people_and_of_the_mesh(recording, body) -> None:
    for stamp in recording.whole():
        found = recording.composed(stamp)
        for human in recording.people[stamp].humans:
            at = {name: found[f"human_{human.id}/{name}"] for name in JOINT_NAMES}
            joints = np.reshape(human.joints, (55, 3)).astype(float)
            rotations = Rotation.from_quat(np.reshape(human.joint_quats_xyzw, (55, 4))).as_matrix()
            places = np.array([T[:3, 3] for T in at.values()])
            assert np.abs(places - joints).max() < 0.01 * MM
            assert np.abs([T[:3, :3] for T in at.values()] - rotations).max() < 1e-5
            posed = body.pose_one(human_params_from_msg(human))
            assert np.linalg.norm(places - posed.joints, axis=1).max() < MM
            mesh = recording.meshes[stamp][human.track_id].reshape(-1, 3)
            assert np.abs(mesh - posed.vertices[body.faces.reshape(-1)]).max() < MM
            hips = joints[[J["left_hip"], J["right_hip"]]].mean(axis=0)
            np.testing.assert_allclose(found[f"body_{human.id}"][:3, 3], hips, atol=0.01 * MM)
            eyes = joints[[J["left_eye_smplhf"], J["right_eye_smplhf"]]].mean(axis=0)
            np.testing.assert_allclose(found[f"head_{human.id}"][:3, 3], eyes, atol=0.01 * MM)


def test_kinematics_of_joint_states_under_the_bodys_frame_are_the_same_joints(recording, body) -> None:
    """pinocchio on the URDF of the body's own rest joints, which know nothing of the pose."""
    compared = 0
    for stamp in recording.whole()[::4]:
        message, found = recording.joint_states[stamp], recording.composed(stamp)
        human = next(human for human in recording.people[stamp].humans if human.primary)
        assert message.header.frame_id == f"body_{human.id}" == f"body_{body_id(human.track_id)}"
        model = pinocchio.buildModelFromXML(smplx_urdf(body.rest(human_params_from_msg(human))[1], human.id))
        data, q = model.createData(), np.zeros(model.nq)
        for name, angle in zip(message.name, message.position, strict=True):
            q[model.joints[model.getJointId(name)].idx_q] = angle
        pinocchio.framesForwardKinematics(model, data, q)
        joints = np.reshape(human.joints, (55, 3))
        for j, name in enumerate(JOINT_NAMES):
            link = data.oMf[model.getFrameId(f"human_{human.id}/{name}", pinocchio.FrameType.BODY)].homogeneous
            place = (found[f"body_{human.id}"] @ link)[:3, 3]
            assert np.linalg.norm(place - joints[j]) < MM, name
            compared += 1
    assert compared >= 3 * 55


def test_people_move_in_the_recording(recording) -> None:
    """Else all of the above would hold for a statue."""
    stamps = recording.whole()
    first, last = (recording.composed(stamp) for stamp in (stamps[0], stamps[-1]))
    moved = [np.abs(first[frame] - last[frame]).max() for frame in first]
    assert np.median(moved) > 0.1
    assert all(b > a for a, b in itertools.pairwise(recording.people))
