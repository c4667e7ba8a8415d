"""What the perception node publishes for an image, and for whom."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from harness import FRAME_ID, Perception, camera_info, image
from hsr.marker import decode_human_mesh, decode_marker
from hsr_msgs.msg import BodyModel, Human, HumanArray, HumanMesh
from rclpy.qos import DurabilityPolicy, QoSProfile
from scripted_node import VERTICES, Command
from sensor_msgs.msg import CompressedImage, Image, JointState
from visualization_msgs.msg import Marker

LATCHED = QoSProfile(depth=4, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RVIZ = QoSProfile(depth=5)
"""What RViz asks for by default: reliable, volatile, depth 5."""


@pytest.fixture(scope="module")
def perception(rig):
    return Perception(rig)


def stamp_of(header) -> tuple[int, int]:
    return header.stamp.sec, header.stamp.nanosec


def test_every_output_carries_the_stamp_and_the_frame_of_its_image(rig, perception):
    heard = {
        kind: rig.listen(kind, f"/human/{topic}", RVIZ)
        for kind, topic in (
            (HumanArray, "people_raw"), (JointState, "joint_states"), (PoseArray, "joint_poses"), (Image, "overlay"),
            (CompressedImage, "overlay/compressed"),
        )
    }  # fmt: skip
    skeletons = rig.listen(Marker, "/human/skeleton", RVIZ)
    meshes = rig.listen(Marker, "/human/mesh", RVIZ, raw=True)
    compact = rig.listen(HumanMesh, "/human/mesh_compact", RVIZ, raw=True)
    sent = set()

    def make():
        msg = image()
        sent.add(stamp_of(msg.header))
        return msg

    lists = [*heard.values(), skeletons, meshes, compact]
    perception.feed(lambda: all(len(messages) >= 3 for messages in lists), "every output", make=make)
    for message in [messages[-1] for messages in heard.values()] + perception.people[-3:] + perception.stats[-3:]:
        assert stamp_of(message.header) in sent
    for message in perception.people[-3:] + heard[PoseArray] + heard[Image] + skeletons:
        assert message.header.frame_id == FRAME_ID
    assert len(heard[JointState][-1].name) == len(heard[JointState][-1].position) == 165
    assert len(heard[PoseArray][-1].poses) == 55
    marker, mesh = decode_marker(meshes[-1]), decode_human_mesh(compact[-1])
    for stamp_ns, frame_id in ((marker.stamp_ns, marker.frame_id), (mesh.stamp_ns, mesh.frame_id)):
        assert divmod(stamp_ns, 10**9) in sent
        assert frame_id == FRAME_ID
    assert len(marker.points) == 3 * (VERTICES - 2)
    assert mesh.vertices.shape == (VERTICES, 3)
    assert marker.lifetime_ns == 500_000_000


def test_a_person_is_complete(perception):
    human = perception.works().humans[0]
    assert re.fullmatch("[a-z]{5}", human.id)
    assert human.primary
    assert human.state in (Human.NEW, Human.TRACKED)
    assert np.isfinite(human.joints).all()
    assert human.joint_quats_xyzw.shape == (220,)
    assert human.confidence == pytest.approx(0.9)


def test_an_empty_scene_is_published_as_an_empty_list_and_counted(perception):
    perception.works()
    first = perception.feed(
        lambda: [p for p in perception.people[-5:] if not p.humans], "an empty list",
        make=lambda: image(Command.NOBODY),
    )[-1]  # fmt: skip
    perception.feed_until_more(perception.people, "more of it", n=3, make=lambda: image(Command.NOBODY))
    assert all(not message.humans for message in perception.people[-2:])
    assert perception.people[-1].seq > first.seq
    seqs = [message.seq for message in perception.people]
    assert all(b > a for a, b in itertools.pairwise(seqs))


def test_the_marker_of_a_person_who_leaves_is_deleted(rig, perception):
    track_id = perception.works().humans[0].track_id
    markers = rig.listen(Marker, "/human/mesh", RVIZ, raw=True)
    perception.feed(lambda: markers, "a mesh")
    perception.feed(
        lambda: any(m.action == Marker.DELETE and m.id == track_id for m in map(decode_marker, markers)),
        "DELETE of the mesh", make=lambda: image(Command.NOBODY),
    )  # fmt: skip


def test_the_lost_state_is_said_once(perception):
    perception.works()
    begin = len(perception.people)
    perception.feed(
        lambda: [p for p in perception.people[begin:] if not p.humans], "nobody", make=lambda: image(Command.NOBODY)
    )
    states = [human.state for p in perception.people[begin:] for human in p.humans]
    assert states.count(Human.LOST) == 1


def test_late_joiners_receive_the_body_model(rig, perception):
    models = rig.listen(BodyModel, "/human/body_model", LATCHED)
    rig.wait(lambda: models, "body_model")
    assert models[0].model_id == perception.works().model_id == "tiny-0"
    assert len(models[0].faces) == 3 * (VERTICES - 2)


def test_nan_vertices_give_no_mesh_and_the_next_frame_is_fine(rig, perception):
    markers = rig.listen(Marker, "/human/mesh", RVIZ, raw=True)
    perception.feed(lambda: markers, "a mesh")
    perception.feed_until_more(perception.people, "frames", n=3, make=lambda: image(Command.NAN_MESH))
    perception.feed_until_more(markers, "meshes again", n=3)
    assert all(np.isfinite(decode_marker(data).points).all() for data in markers)


def test_a_person_with_nan_parameters_is_dropped_and_counted(perception):
    perception.works()
    perception.feed(
        lambda: (s := perception.status("inference")) and {v.key: v.value for v in s.values}["nan_people"] != "0",
        "the count of NaN people", make=lambda: image(Command.NAN_PARAMS),
    )  # fmt: skip
    perception.works()
    assert all(np.isfinite(h.transl).all() for p in perception.people for h in p.humans)


def test_a_person_cut_by_the_frame_and_ten_people(rig, perception):
    perception.works()
    begin = len(perception.people)
    cut = perception.feed(
        lambda: [h for p in perception.people[begin:] for h in p.humans if h.bbox_xyxy[0] < 0], "the cut person",
        make=lambda: image(Command.CUT),
    )  # fmt: skip
    assert cut[-1].bbox_xyxy[3] == 5000
    markers = rig.listen(Marker, "/human/mesh", QoSProfile(depth=20), raw=True)
    perception.feed(
        lambda: [p for p in perception.people if len({h.id for h in p.humans}) == 10]
        and len({decode_marker(data).id for data in markers}) == 10,
        "ten people and their meshes", make=lambda: image(Command.TEN),
    )  # fmt: skip
    perception.works()


def test_mesh_rate_and_every_n_are_limits_that_change_while_running(rig, perception):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    def set_parameters(**values):
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        return rig.call(SetParameters, "/human/perception/set_parameters", parameters=parameters).results

    assert all(result.successful for result in set_parameters(mesh__every_n=4, marker__max_rate_hz=0.0))
    markers = rig.listen(Marker, "/human/mesh", RVIZ, raw=True)
    in_work = perception.people[-1].seq + 2  # what waits or is in work may follow the old settings

    def seqs():
        by_stamp = {stamp_of(p.header): p.seq for p in perception.people}
        shown = [m for m in map(decode_marker, markers) if m.action == Marker.ADD]
        found = [by_stamp.get(divmod(marker.stamp_ns, 10**9), 0) for marker in shown]
        return [seq for seq in found if seq > in_work]

    perception.feed(lambda: len(seqs()) >= 3, "meshes")
    assert [seq % 4 for seq in seqs()] == [0] * len(seqs()), seqs()
    refused = set_parameters(mesh__every_n=0)[0]
    assert not refused.successful
    assert refused.reason
    assert not set_parameters(regressor="other")[0].successful
    assert all(result.successful for result in set_parameters(mesh__every_n=1, marker__max_rate_hz=30.0))
    perception.works()


def test_optional_parts_that_are_off_are_named(rig, perception):
    import importlib.util

    status = perception.wait_status("optional parts", lambda s: True, "optional parts")
    shown = {value.key: value.value for value in status.values}
    for name in ("hri_msgs", "tf2_msgs", "cv_bridge", "diagnostic_updater"):
        assert shown[name] == ("there" if importlib.util.find_spec(name) else "off")


def test_diagnostics_are_standard_and_good_while_images_arrive(rig, perception):
    perception.works()
    perception.feed_until_more(perception.people, "a second of frames", n=45)
    perception.diagnostics.clear()
    perception.feed(lambda: perception.diagnostics, "diagnostics")
    message: DiagnosticArray = perception.diagnostics[-1]
    names = {status.name for status in message.status}
    assert names >= {f"perception: {part}" for part in ("camera", "inference", "latency", "people", "transport")}
    values = {value.key: value.value for value in perception.status("camera").values}
    assert values["size"] == f"64x48 in '{FRAME_ID}'"
    assert values["intrinsics_source"] == "CAMERA_INFO"
    assert values["encoding"] == "bgr8"
    assert camera_info().k[0] > 0
