"""REP-155 over DDS: a listener with libhri's quality of service, births and deaths, ids that are used again."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PointStamped, TwistStamped
from harness import FRAME_ID, Perception, Rig, image, level, values
from hri_msgs.msg import (
    FacialLandmarks,
    IdsList,
    IdsMatch,
    NormalizedRegionOfInterest2D,
    Skeleton2D,
)
from hsr import rep155
from hsr.body_ids import FACE_HOLD_S, LINGER_S, BodyIds, face_id, person_id
from hsr.convert import body_id
from hsr.later import Later
from open_body_node import LANDMARKS, VELOCITY
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_system_default
from scipy.spatial.transform import Rotation
from scripted_node import Command
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float32, String
from std_srvs.srv import Trigger
from test_wire_convert import frame, person
from tf2_msgs.msg import TFMessage

from hsr_core.body.joints import J
from hsr_core.config import Settings
from hsr_core.skeleton.rep155 import JOINTS
from hsr_core.types import Frame

pinocchio = pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget]'")

LIBHRI = qos_profile_system_default
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPICS = {
    "roi": NormalizedRegionOfInterest2D, "skeleton2d": Skeleton2D, "joint_states": JointState, "position": PointStamped,
    "velocity": TwistStamped, "cropped": Image,
}  # fmt: skip
SIZE = (160, 120)


def nothing() -> Image:
    return image(Command.NOBODY, size=SIZE)


def somebody() -> Image:
    return image(size=SIZE)


def ten() -> Image:
    return image(Command.TEN, size=SIZE)


def stamp_of(message) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


class Listener:
    def __init__(self, rig, perception) -> None:
        self.rig, self.perception = rig, perception
        self.tracked = rig.listen(IdsList, "/humans/bodies/tracked", LIBHRI)

    def ids(self) -> list[str]:
        return list(self.tracked[-1].ids) if self.tracked else []

    def topics_of(self, letters: str) -> set[str]:
        prefix = f"/humans/bodies/{letters}/"
        found = self.rig.node.get_topic_names_and_types()
        names = [name for name, _ in found if name.startswith(prefix)]
        return {name.removeprefix(prefix) for name in names if self.rig.node.count_publishers(name)}

    def body(self, letters: str) -> dict[str, list]:
        return {
            name: self.rig.listen(kind, f"/humans/bodies/{letters}/{name}", LIBHRI) for name, kind in TOPICS.items()
        }

    def wait_for(self, count: int, make, what: str) -> list[str]:
        self.perception.feed(lambda: len(self.ids()) == count, what, make=make)
        return self.ids()


@pytest.fixture(scope="module")
def perception(rig):
    parameters = ("rep155.faces:=true", "rep155.persons:=true", "people.max:=10")
    found = Perception(rig, *parameters, activate=False, module="open_body_node")
    found.change("configure")
    found.change("activate")
    return found


@pytest.fixture(scope="module")
def listener(rig, perception):
    return Listener(rig, perception)


def test_one_body_has_all_topics_and_they_agree_with_people(rig, perception, listener) -> None:
    (letters,) = listener.wait_for(1, somebody, "a body")
    assert re.fullmatch("[a-z]{5}", letters)
    assert letters == perception.people[-1].humans[0].id
    heard = listener.body(letters)
    described = rig.listen(String, f"/humans/bodies/{letters}/urdf", LATCHED)
    sent = set()

    def make() -> Image:
        msg = somebody()
        sent.add(stamp_of(msg))
        return msg

    def told() -> dict[str, list]:
        """What was heard of moments whose people were heard, too: any message may come first."""
        people = {stamp_of(message) for message in perception.people}
        return {name: [m for m in messages if stamp_of(m) in people & sent] for name, messages in heard.items()}

    perception.feed(lambda: described and all(map(len, told().values())), "every topic of a body", make=make)
    people = {stamp_of(message): message for message in perception.people}
    heard = told()
    for name, messages in heard.items():
        frame = f"body_{letters}" if name in ("joint_states", "velocity") else FRAME_ID
        assert {message.header.frame_id for message in messages} == {frame}
    state = heard["joint_states"][-1]
    assert list(state.name) == [f"{name}_{letters}" for name in JOINTS]
    check_kinematics(described[-1].data, letters, state, people[stamp_of(state)].humans[0])
    check_messages(heard, people)


def check_kinematics(urdf: str, letters: str, state: JointState, human) -> None:
    """Link directions of the URDF, moved by the joint states, are those of the joints in `people`."""
    model = pinocchio.buildModelFromXML(urdf)
    data = model.createData()
    q = np.zeros(model.nq)
    for name, angle in zip(state.name, state.position, strict=True):
        q[model.joints[model.getJointId(name)].idx_q] = angle
    pinocchio.framesForwardKinematics(model, data, q)
    joints = np.array(human.joints, np.float64).reshape(55, 3)
    R_cam_pelvis = Rotation.from_quat(np.array(human.joint_quats_xyzw[:4])).as_matrix()
    R_cam_body = R_cam_pelvis @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    hips = 0.5 * (joints[J["left_hip"]] + joints[J["right_hip"]])
    for letter, side in (("l", "left"), ("r", "right")):
        for link, a, b in (("shoulder", "shoulder", "elbow"), ("hip", "hip", "knee"), ("knee", "knee", "ankle")):
            bone = (joints[J[f"{side}_{b}"]] - joints[J[f"{side}_{a}"]]) @ R_cam_body
            found = data.oMf[model.getFrameId(f"{letter}_{link}_{letters}", pinocchio.FrameType.BODY)]
            # Joints are float32 some metres from the camera.
            np.testing.assert_allclose(-found.rotation[:, 2], bone / np.linalg.norm(bone), atol=1e-5)
        ankle = data.oMf[model.getFrameId(f"{letter}_ankle_{letters}", pinocchio.FrameType.BODY)].translation
        np.testing.assert_allclose(ankle, (joints[J[f"{side}_ankle"]] - hips) @ R_cam_body, atol=1e-4)


def check_messages(heard: dict[str, list], people: dict) -> None:
    width, height = SIZE
    roi, skeleton, picture = heard["roi"][-1], heard["skeleton2d"][-1], heard["cropped"][-1]
    np.testing.assert_allclose([roi.xmin, roi.ymin, roi.xmax, roi.ymax], [0.3, 0.1, 0.7, 0.9], atol=1e-6)
    assert roi.c == pytest.approx(0.9)
    assert (picture.width, picture.height, picture.encoding) == (0.4 * width, 0.8 * height, "bgr8")
    human = people[stamp_of(skeleton)].humans[0]
    points = np.array(human.keypoints2d).reshape(55, 3)
    assert len(skeleton.skeleton) == 18
    for number, joint in ((Skeleton2D.LEFT_WRIST, "left_wrist"), (Skeleton2D.RIGHT_EYE, "right_eye_smplhf")):
        point = skeleton.skeleton[number]
        expected = (points[J[joint], :2] + 0.5) / SIZE
        np.testing.assert_allclose([point.x, point.y], expected, atol=1e-5)
    position, velocity = heard["position"][-1], heard["velocity"][-1]
    human = people[stamp_of(position)].humans[0]
    joints = np.array(human.joints).reshape(55, 3)
    hips = 0.5 * (joints[1] + joints[2])
    np.testing.assert_allclose([position.point.x, position.point.y, position.point.z], hips, atol=1e-6)
    human = people[stamp_of(velocity)].humans[0]
    joints = np.array(human.joints).reshape(55, 3)
    R = Rotation.from_quat(human.joint_quats_xyzw[:4]).as_matrix() @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    turn, angular, linear = np.array(VELOCITY[3:]), velocity.twist.angular, velocity.twist.linear
    np.testing.assert_allclose(R @ [angular.x, angular.y, angular.z], turn, atol=1e-5)
    moved = np.array(VELOCITY[:3]) + np.cross(turn, 0.5 * (joints[1] + joints[2]) - joints[0])
    np.testing.assert_allclose(R @ [linear.x, linear.y, linear.z], moved, atol=1e-5)


def test_faces_are_matched_with_their_bodies(rig, perception, listener) -> None:
    faces = rig.listen(IdsList, "/humans/faces/tracked", LIBHRI)
    matches = rig.listen(IdsMatch, "/humans/candidate_matches", LIBHRI)
    perception.feed(lambda: matches and faces and faces[-1].ids, "a face", make=somebody)
    match, (face,) = matches[-1], faces[-1].ids
    assert re.fullmatch("[a-z]{5}", face)
    assert (match.id1, match.id1_type, match.id2_type, match.confidence) == (face, IdsMatch.FACE, IdsMatch.BODY, 1.0)
    assert match.id2 in listener.ids()
    assert face != match.id2
    kinds = {"roi": NormalizedRegionOfInterest2D, "landmarks": FacialLandmarks, "cropped": Image, "aligned": Image}
    heard = {name: rig.listen(kind, f"/humans/faces/{face}/{name}", LIBHRI) for name, kind in kinds.items()}
    perception.feed(lambda: all(map(len, heard.values())), "every topic of a face", make=somebody)
    landmarks, roi = heard["landmarks"][-1], heard["roi"][-1]
    assert (landmarks.width, landmarks.height) == SIZE
    found = np.array([(point.x * SIZE[0] - 0.5, point.y * SIZE[1] - 0.5, point.c) for point in landmarks.landmarks])
    np.testing.assert_allclose(found, LANDMARKS, atol=1e-4)
    assert 0 <= roi.xmin < roi.xmax <= 1
    assert 0 <= roi.ymin < roi.ymax <= 1
    for name in ("cropped", "aligned"):
        picture = heard[name][-1]
        assert (picture.width, picture.height, picture.encoding, picture.header.frame_id) == (
            128,
            128,
            "bgr8",
            FRAME_ID,
        )
        assert len(picture.data) == 128 * 128 * 3
    perception.feed(lambda: not faces[-1].ids, "no face of nobody", make=nothing)


def test_everybody_is_an_anonymous_person_until_they_leave(rig, perception, listener) -> None:
    tracked = rig.listen(IdsList, "/humans/persons/tracked", LIBHRI)
    known = rig.listen(IdsList, "/humans/persons/known", LIBHRI)
    frames = rig.listen(TFMessage, "/tf", 100)
    (letters,) = listener.wait_for(1, somebody, "a body")
    wanted = [person_id(letters)]
    perception.feed(
        lambda: tracked and known and list(tracked[-1].ids) == list(known[-1].ids) == wanted, "a person", make=somebody
    )
    name = f"/humans/persons/{person_id(letters)}"
    kinds = {"anonymous": Bool, "body_id": String, "face_id": String}
    said = {topic: rig.listen(kind, f"{name}/{topic}", LATCHED) for topic, kind in kinds.items()}
    sure = rig.listen(Float32, f"{name}/location_confidence", LIBHRI)
    perception.feed(lambda: frames and sure and all(map(len, said.values())), "every topic of a person", make=somebody)
    assert {topic: messages[-1].data for topic, messages in said.items()} == {
        "anonymous": True, "body_id": letters, "face_id": face_id(letters)
    }  # fmt: skip
    assert sure[-1].data == 1.0
    parents = {entry.child_frame_id: entry.header.frame_id for entry in frames[-1].transforms}
    assert parents[f"person_{person_id(letters)}"] == f"head_{letters}"
    assert parents[f"face_{face_id(letters)}"] == FRAME_ID
    listener.wait_for(0, nothing, "an empty list of bodies")
    perception.feed(lambda: not tracked[-1].ids and sure[-1].data == 0.0, "nobody", make=nothing)
    perception.feed(lambda: not known[-1].ids, "nobody known", make=nothing)


def test_every_publisher_matches_a_reliable_reader_and_only_descriptions_are_latched(rig, perception, listener) -> None:
    (letters,) = listener.wait_for(1, somebody, "a body")
    perception.feed(lambda: listener.topics_of(letters) >= {*TOPICS, "urdf"}, "its topics", make=somebody)
    for name in [f"/humans/bodies/{letters}/{topic}" for topic in (*TOPICS, "urdf")] + ["/humans/bodies/tracked"]:
        (info,) = rig.node.get_publishers_info_by_topic(name)
        latched = name.endswith("/urdf")
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        expected = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        assert info.qos_profile.durability == expected


def test_ten_people_come_and_go_with_their_topics(rig, perception, listener) -> None:
    ids = listener.wait_for(10, ten, "ten bodies")
    assert len(set(ids)) == 10
    assert all(re.fullmatch("[a-z]{5}", letters) for letters in ids)
    last = listener.body(ids[-1])
    perception.feed(lambda: all(map(len, last.values())), "topics of the tenth", make=ten)
    perception.feed(lambda: perception.status("rep155") and perception.status("rep155").values, "a status", make=ten)
    listener.wait_for(0, nothing, "an empty list of bodies")
    assert not listener.tracked[-1].ids
    perception.feed(
        lambda: not any(listener.topics_of(letters) for letters in ids), "no topics of those who left", make=nothing
    )
    perception.wait_status("rep155", lambda s: not values(s)["bodies with topics"], "no topics in diagnostics")


def test_nobody_is_tracked_when_frames_stop_or_tracks_are_reset(rig, perception, listener) -> None:
    before = listener.wait_for(1, somebody, "a body")
    rig.wait(lambda: not listener.ids(), "an empty list although no frame comes")
    assert listener.wait_for(1, somebody, "the body again") == before
    assert rig.call(Trigger, "/human/perception/reset").success
    perception.feed(lambda: listener.ids() and listener.ids() != before, "a new id after a reset", make=somebody)
    perception.change("deactivate")
    rig.wait(lambda: not listener.ids(), "an empty list of an inactive node")
    perception.change("activate")
    listener.wait_for(1, somebody, "a body after activation")


def test_the_primary_person_has_a_latched_urdf_of_all_joints(rig, perception, listener) -> None:
    listener.wait_for(1, somebody, "a body")
    described = rig.listen(String, "/human/urdf", LATCHED)
    states = rig.listen(JointState, "/human/joint_states", 5)
    perception.feed(
        lambda: described and states and f'"body_{listener.ids()[0]}"' in described[-1].data,
        "joint states and the urdf of that person",
        make=somebody,
    )
    model = pinocchio.buildModelFromXML(described[-1].data)
    assert set(states[-1].name) == set(model.names) - {"universe"}
    assert states[-1].header.frame_id == f"body_{listener.ids()[0]}"


def test_nothing_is_left_after_cleanup(rig, perception) -> None:
    perception.change("deactivate")
    perception.change("cleanup")
    rig.wait(
        lambda: not [
            name for name, _ in rig.node.get_topic_names_and_types()
            if name.startswith("/humans/") and rig.node.count_publishers(name)
        ],
        "no publisher under /humans",
    )  # fmt: skip


@pytest.fixture
def another_rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_ids_of_a_pool_are_used_again_after_a_rest_and_frames_have_them_too(another_rig) -> None:
    perception = Perception(another_rig, "rep155.id_pool:=true")
    listener = Listener(another_rig, perception)
    frames = another_rig.listen(TFMessage, "/tf", 100)
    states = another_rig.listen(JointState, "/human/joint_states")
    described = another_rig.listen(String, "/human/urdf", LATCHED)
    (first,) = listener.wait_for(1, somebody, "a body")
    heard = listener.body(first)
    assert first == perception.people[-1].humans[0].id

    def next_person() -> str:
        assert another_rig.call(Trigger, "/human/perception/reset").success
        begin = len(listener.tracked)
        perception.feed(lambda: any(m.ids for m in listener.tracked[begin:]), "a body after a reset", make=somebody)
        return listener.ids()[0]

    second = next_person()
    for _ in range(5):
        if second != first:  # which has not rested, unless this computer is as slow as that
            break
        second = next_person()
    assert second != first
    left = time.monotonic()
    perception.feed(lambda: time.monotonic() - left > LINGER_S, "the rest of an id", make=somebody)
    assert next_person() == first
    count = len(heard["joint_states"])
    perception.feed(lambda: len(heard["joint_states"]) > count, "its topics are the same ones", make=somebody)
    assert all(listener.topics_of(letters) for letters in (first, second)), "topics of a pool stay"
    perception.feed(
        lambda: {frames[-1].transforms[0].child_frame_id, states[-1].header.frame_id} == {f"body_{first}"},
        "frames of this id", make=somebody,
    )  # fmt: skip
    perception.feed(lambda: perception.people[-1].humans[0].id != first, "people have ids of their own", make=somebody)
    another_rig.wait(lambda: f'"body_{first}"' in described[-1].data, "the description of the person with this id")


def test_without_hri_msgs_the_node_works_and_says_so(another_rig) -> None:
    perception = Perception(another_rig, module="without_hri_msgs")
    perception.works()
    status = perception.wait_status("rep155", lambda s: True, "the status")
    assert level(status) == 1
    assert "hri_msgs" in status.message
    optional = perception.wait_status("optional parts", lambda s: True, "optional parts")
    assert values(optional)["hri_msgs"] == "off"
    names = [name for name, _ in another_rig.node.get_topic_names_and_types()]
    assert not [name for name in names if name.startswith("/humans")]
    assert "/human/urdf" in names


def test_switched_off_is_no_warning() -> None:
    off = rep155.open_rep155(None, Settings().with_values({"rep155.enabled": False}), None, lambda job: None, None)
    status = off.status()
    assert status.level == 0
    assert status.texts == ["nothing under /humans: rep155.enabled is false"]


@pytest.mark.parametrize("number", [0, 1, 7, 26**5 - 1, 26**5, 123456789])
def test_ids_are_five_letters_and_faces_have_others(number) -> None:
    assert re.fullmatch("[a-z]{5}", body_id(number))
    assert re.fullmatch("[a-z]{5}", face_id(body_id(number)))
    near = {body_id(number + step) for step in range(-100, 100)}
    assert face_id(body_id(number)) not in near
    assert person_id(body_id(number)) not in near | {face_id(letters) for letters in near}


def test_a_face_is_tracked_for_a_moment_after_it_was_seen() -> None:
    """Of many people not all faces are looked at in every frame."""
    ids = BodyIds(pool=False, faces=True)
    ids.update([1, 2], 5.0, faces=[1])
    assert [ids.face_of(1), ids.face_of(2)] == [face_id(body_id(1)), None]
    ids.update([1, 2], 5.0 + 0.9 * FACE_HOLD_S)
    assert ids.face_of(1)
    ids.update([1, 2], 5.0 + 1.1 * FACE_HOLD_S, faces=[2])
    assert [ids.face_of(1), ids.face_of(2)] == [None, face_id(body_id(2))]
    ids.update([], 6.5)
    ids.update([2], 6.6)  # somebody who was gone
    assert ids.face_of(2) is None
    off = BodyIds(pool=False)
    off.update([1], 5.0, faces=[1])
    assert off.face_of(1) is None
    assert off.person_of(1) is None


def test_a_pool_gives_an_id_again_after_its_rest_longest_free_first() -> None:
    ids = BodyIds(pool=True)

    def update(*tracks: int, now_s: float) -> list[str]:
        ids.update(tracks, now_s)
        return [ids.of(track) for track in tracks]

    a, b = update(1, 2, now_s=0.0)
    assert [a, b] == [body_id(1), body_id(2)]
    update(2, now_s=1.0)
    assert update(2, 3, now_s=1.0 + 0.9 * LINGER_S) == [b, body_id(3)]  # `a` has not rested
    update(3, now_s=4.0)
    assert update(3, 4, 5, now_s=4.1) == [body_id(3), a, body_id(5)]
    assert update(3, 4, 5, 6, now_s=4.1 + LINGER_S) == [body_id(3), a, body_id(5), b]


def test_without_a_pool_ids_are_those_of_people() -> None:
    ids = BodyIds(pool=False)
    for tracks in ([1], [], [2, 3], [3]):
        ids.update(tracks, 99.0 * len(tracks))
        assert [ids.of(track) for track in tracks] == [body_id(track) for track in tracks]


def test_the_module_imports_without_hri_msgs() -> None:
    code = (
        "import sys; sys.modules['hri_msgs'] = None; from hsr import rep155; assert 'hri_msgs' in rep155.IMPORT_ERROR"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_executor_outlives_many_births_and_deaths(rig, monkeypatch) -> None:
    """Endpoints are made and destroyed by another thread while the executor waits for the node's."""
    monkeypatch.setattr(rep155, "LINGER_S", 0.2)
    monkeypatch.setattr(rep155, "SWEEP_S", 0.01)
    node = rclpy.create_node("crowd", context=rig.context)
    failed: list[Exception] = []
    later = Later(failed.append)
    ids = BodyIds(pool=False)
    people = rep155.open_rep155(node, Settings(), None, later, ids)
    before = len(list(node.publishers))
    waited_for = list(node.waitables)
    rig.executor.add_node(node)
    births = iter(range(60))

    def step() -> bool:
        track_id = next(births, None)
        if track_id is not None:
            ids.update([track_id], time.monotonic())
            people.publish(picture, frame(person(track_id)))
        return track_id is None

    picture = Frame(np.zeros((4, 4, 3), np.uint8), 0)
    try:
        rig.wait(step, "births")
        rig.wait(lambda: len(list(node.publishers)) > before, "topics")
        assert list(node.waitables) == waited_for, "an event that the executor would wait for while it is destroyed"
        people.forget(0, "")
        rig.wait(lambda: len(list(node.publishers)) == before, "no publishers of those who left")
        assert not failed
    finally:
        rig.executor.remove_node(node)
        later.stop()
        people.close()
        node.destroy_node()


@pytest.fixture
def crowd(rig):
    """REP-155's publishers of a node without a perception node; jobs for later wait until they are run."""
    node = rclpy.create_node("crowd", context=rig.context)
    jobs: list = []
    ids = BodyIds(pool=False)
    people = rep155.open_rep155(node, Settings(), None, jobs.append, ids)

    def publish(*tracks: int) -> None:
        ids.update(tracks, time.monotonic())
        people.publish(Frame(np.zeros((4, 4, 3), np.uint8), 0), frame(*map(person, tracks)))

    yield SimpleNamespace(node=node, jobs=jobs, people=people, publish=publish)
    node.destroy_node()


def test_topics_of_those_who_left_go_when_the_node_is_cleaned_up_before_they_are_ended(crowd, monkeypatch) -> None:
    crowd.publish(1)
    crowd.jobs.pop(0)()
    crowd.publish()
    monkeypatch.setattr(rep155, "LINGER_S", 0.0)
    crowd.people._sweep()
    assert crowd.jobs  # dropped: the node stops before
    assert [p for p in crowd.node.publishers if "/bodies/" in p.topic_name and "tracked" not in p.topic_name]
    crowd.people.close()
    assert not [p for p in crowd.node.publishers if "/humans" in p.topic_name]


def test_slow_frames_are_not_the_end_of_their_people(crowd, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(rep155, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(4):  # one frame in 2.5 s
        crowd.publish(1)
        for _ in range(5):
            now[0] += 0.5
            crowd.people._sweep()
        assert crowd.people._tracked_some
        assert crowd.people._bodies
    for _ in range(20):
        now[0] += 0.5
        crowd.people._sweep()
    assert not crowd.people._tracked_some
    assert not crowd.people._bodies
    crowd.people.close()
