"""What the perception node publishes for an image, and for whom."""

from __future__ import annotations

import pytest
from harness import FRAME_ID, Perception, image
from hsr.marker import decode_marker
from scripted_node import VERTICES
from sensor_msgs.msg import JointState
from visualization_msgs.msg import Marker

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig)


def test_outputs_carry_the_stamp_and_frame_of_their_image(rig, perception):
    meshes = rig.listen(Marker, "/human/mesh", raw=True)
    joints = rig.listen(JointState, "/human/joint_states")
    perception.feed(lambda: meshes and joints, "mesh and joint states")
    sent = {}

    def make():
        msg = image()
        sent[(msg.header.stamp.sec, msg.header.stamp.nanosec)] = msg
        return msg

    perception.feed_until_more(meshes, "meshes", n=5, make=make)
    assert perception.people[-1].header.frame_id == FRAME_ID
    stamps = [(p.header.stamp.sec, p.header.stamp.nanosec) for p in perception.people[-3:]]
    assert all(stamp in sent for stamp in stamps)
    mesh = decode_marker(meshes[-1])
    assert mesh.frame_id == FRAME_ID
    assert (mesh.stamp_ns // 10**9, mesh.stamp_ns % 10**9) in sent
    assert len(mesh.points) == 3 * (VERTICES - 2)
