"""A depth camera beside the images: used where it fits, refused with a reason where it does not; people keep coming."""

from __future__ import annotations

import time
from array import array

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from harness import FRAME_ID, Perception, Rig, camera_info, image, level, values
from hsr.convert import ns_to_stamp
from hsr.depth_input import _Balance
from hsr_msgs.msg import Human, HumanArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

SIZE = (64, 48)
Z_MM = 2500
LATE_NS = 500_000_000
PLACED = Human.METRIC_DEPTH_CAMERA


class DepthCamera:
    """Publishes a depth image with every colour image."""

    def __init__(self, rig, perception) -> None:
        self.rig, self.perception = rig, perception
        self.images = rig.node.create_publisher(Image, "/depth/image", 4)
        self.infos = rig.node.create_publisher(CameraInfo, "/depth/camera_info", 1)

    def send(self, stamp_ns: int, *, info: CameraInfo | None = None, **changes) -> None:
        self.images.publish(depth_image(stamp_ns, **changes))
        if info is not None:
            self.infos.publish(info)

    def play(self, until, what: str, *, shift_ns: int = 0, after=None, colour=None, **changes):
        """Play colour and depth until a condition holds."""

        def make():
            stamp_ns = time.time_ns()
            if after is None:
                self.send(stamp_ns + shift_ns, **changes)
            else:
                after(stamp_ns)
            return image(stamp_ns=stamp_ns, **(colour or {}))

        return self.perception.feed(until, what, make=make)

    def sources(self, **options) -> list[Human]:
        """Return the people of ten more frames."""
        begin = len(self.perception.people)
        self.play(lambda: len(self.perception.people) >= begin + 10, "ten frames with people", **options)
        return [msg.humans[0] for msg in self.perception.people[begin:] if msg.humans]


def depth_image(stamp_ns: int, data: np.ndarray | None = None, frame_id: str = FRAME_ID, **fields) -> Image:
    data = np.full((SIZE[1], SIZE[0]), Z_MM, np.uint16) if data is None else data
    encoding = {"uint16": "16UC1", "float32": "32FC1"}.get(data.dtype.name, "")
    msg = Image(
        height=data.shape[0],
        width=data.shape[1],
        encoding=encoding,
        step=data.strides[0],
        data=array("B", data.tobytes()),
    )
    msg.header.frame_id, msg.header.stamp = frame_id, ns_to_stamp(stamp_ns)
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


def start(rig, *parameters: str) -> Perception:
    return Perception(
        rig, "depth.max_wait_s:=0.1", *parameters, remap={"depth": "/depth/image", "depth_info": "/depth/camera_info"}
    )


@pytest.fixture(scope="module")
def perception(rig):
    return start(rig)


@pytest.fixture(scope="module")
def depth(rig, perception):
    camera = DepthCamera(rig, perception)
    wait_for_depth(camera)
    return camera


def wait_for_depth(camera: DepthCamera, **options) -> Human:
    people = camera.perception.people
    camera.play(
        lambda: people and people[-1].humans and people[-1].humans[0].metric_source == PLACED,
        "people placed by depth", **options,
    )  # fmt: skip
    return people[-1].humans[0]


def test_people_are_placed_by_depth_in_either_unit(depth):
    assert wait_for_depth(depth).transl[2] == pytest.approx(2.5)
    metres = np.full((48, 64), 3.25, np.float32)
    begin = len(depth.perception.people)
    depth.play(
        lambda: [h for p in depth.perception.people[begin:] for h in p.humans if abs(h.transl[2] - 3.25) < 1e-4],
        "people at the depth of the float image", data=metres,
    )  # fmt: skip
    human = wait_for_depth(depth)
    assert human.depth_sigma_m == pytest.approx(0.03)
    status = depth.perception.wait_status("depth", lambda s: True, "the status of depth")
    assert values(status)["topic"] == "/depth/image"
    assert values(status)["encoding"] in ("16UC1", "32FC1")


REFUSED = {
    "of another camera": ({"frame_id": "other_optical_frame"}, "depth is in frame 'other_optical_frame'"),
    "of another size": ({"data": np.full((24, 32), Z_MM, np.uint16)}, "depth is 32x24, the image 64x48"),
    "in another encoding": ({"encoding": "rgb8"}, "accepted: 16UC1"),
    "truncated": ({"short": True}, "bytes of depth"),
    "all zero": ({"data": np.zeros((48, 64), np.uint16)}, "holds no depth"),
    "not a number": ({"data": np.full((48, 64), np.nan, np.float32)}, "holds no depth"),
    "infinite": ({"data": np.full((48, 64), np.inf, np.float32)}, "holds no depth"),
    "millimetres said to be metres": ({"data": np.full((48, 64), 2500, np.float32)}, "millimetres taken as metres"),
    "metres said to be millimetres": ({"data": np.full((48, 64), 2, np.uint16)}, "metres taken as millimetres"),
    "late by half a second": ({"shift_ns": -LATE_NS}, "-5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_depth_that_does_not_fit_is_refused_with_the_reason_and_people_keep_coming(depth, what):
    changes, said = REFUSED[what]
    changes = dict(changes)
    if "short" in changes:
        options = {"after": lambda stamp_ns: depth.images.publish(cut(depth_image(stamp_ns)))}
    else:
        options = changes
    begin, processed = len(depth.perception.people), depth.perception.counted("dropped_bad")
    depth.play(
        lambda: (status := depth.perception.status("depth")) and said in status.message and level(status) == 1,
        f"the reason: {said}", **options,
    )  # fmt: skip
    people = depth.sources(**options)
    assert {human.metric_source for human in people[-5:]} == {Human.METRIC_ASSUMED_HEIGHT}
    assert len(depth.perception.people) > begin
    assert depth.perception.counted("dropped_bad") == processed
    wait_for_depth(depth)


def cut(msg: Image) -> Image:
    msg.data = msg.data[:-2]
    return msg


def test_when_depth_stops_the_rate_stays_and_the_source_falls_back(depth):
    """The scripted stream holds nothing: the fallback within 0.2 s is the library's, and tested there."""
    wait_for_depth(depth)
    begin = len(depth.perception.people)
    depth.play(lambda: len(depth.perception.people) >= begin + 20, "twenty frames without depth", after=lambda _: None)
    humans = [h for msg in depth.perception.people[begin + 3 :] for h in msg.humans]
    assert {h.metric_source for h in humans} == {Human.METRIC_ASSUMED_HEIGHT}
    status = depth.perception.wait_status("depth", lambda s: "no depth images" in s.message, "that depth has stopped")
    assert level(status) == 1
    wait_for_depth(depth)


def test_depth_that_comes_a_little_later_than_its_image_is_used(rig, depth):
    """12 ms later, as aligned depth is: forecast after eight images, waited for, and only then."""
    due: list[int] = []

    def later(stamp_ns):
        due.append(stamp_ns)

    def step():
        while due and time.time_ns() > due[0] + 12_000_000:
            depth.send(due.pop(0))
        people = depth.perception.people[begin:]
        return sum(h.metric_source == PLACED for msg in people for h in msg.humans) >= 10

    begin = len(depth.perception.people)
    depth.play(step, "people placed by depth that comes late", after=later)


def test_depth_that_always_comes_too_late_is_told_with_the_setting_that_helps(rig, depth):
    """Each depth image comes with the next picture. It is not waited for, and would be with the setting of before."""
    before: list[int] = []

    def with_the_last_one(stamp_ns):
        before.append(stamp_ns)
        if len(before) > 1:
            depth.send(before[-2])

    def set_wait(seconds: float) -> None:
        value = Parameter("depth.max_wait_s", value=seconds).to_parameter_msg()
        answer = rig.call(SetParameters, "/human/perception/set_parameters", parameters=[value])
        assert answer.results[0].successful

    wait_for_depth(depth)
    set_wait(0.0)
    depth.play(
        lambda: (s := depth.perception.status("depth")) and "raise depth.max_wait_s (now 0 s" in s.message,
        "that it comes too late", after=with_the_last_one,
    )  # fmt: skip
    assert int(values(depth.perception.status("depth"))["late"]) > 5
    set_wait(0.1)
    wait_for_depth(depth, after=with_the_last_one)


def test_depth_of_another_size_is_used_once_its_camera_info_says_how(depth):
    half = np.full((24, 32), Z_MM, np.uint16)
    info = camera_info((32, 24))
    assert wait_for_depth(depth, data=half, info=info).transl[2] == pytest.approx(2.5)
    other = camera_info((32, 24), hfov_deg=75.0)
    depth.play(
        lambda: (status := depth.perception.status("depth")) and "intrinsics differ" in status.message,
        "that the intrinsics differ", data=half, info=other,
    )  # fmt: skip
    assert wait_for_depth(depth, info=camera_info(SIZE)).transl[2] == pytest.approx(2.5)


def test_intrinsics_that_change_at_run_time_are_noticed(depth):
    """The colour camera zooms, the depth camera does not follow, then does."""
    wait_for_depth(depth, info=camera_info(SIZE))
    perception = depth.perception

    perception.diagnostics.clear()

    def play(until, what, info):
        def make():
            stamp_ns = time.time_ns()
            depth.send(stamp_ns, info=info)
            return image(stamp_ns=stamp_ns)

        perception.feed(until, what, make=make, info=lambda msg: camera_info(SIZE, hfov_deg=40.0))

    play(
        lambda: (s := perception.status("depth")) and "intrinsics differ" in s.message,
        "the difference",
        camera_info(SIZE),
    )
    begin = len(perception.people)
    play(
        lambda: [h for m in perception.people[begin:] for h in m.humans if h.metric_source == PLACED],
        "depth again", camera_info(SIZE, hfov_deg=40.0),
    )  # fmt: skip
    wait_for_depth(depth, info=camera_info(SIZE))


def test_compressed_depth_is_taken_where_no_raw_depth_is(rig, depth):
    wait_for_depth(depth, info=camera_info(SIZE))
    raw, depth.images = depth.images, None
    rig.node.destroy_publisher(raw)
    compressed = rig.node.create_publisher(CompressedImage, "/depth/image/compressedDepth", 4)
    png = b"\0" * 12 + cv2.imencode(".png", np.full((48, 64), 1875, np.uint16))[1].tobytes()

    def send(stamp_ns):
        msg = CompressedImage(format="16UC1; compressedDepth png", data=array("B", png))
        msg.header.frame_id, msg.header.stamp = FRAME_ID, ns_to_stamp(stamp_ns)
        compressed.publish(msg)

    begin = len(depth.perception.people)
    depth.play(
        lambda: [h for m in depth.perception.people[begin:] for h in m.humans if abs(h.transl[2] - 1.875) < 1e-4],
        "people placed by compressed depth", after=send,
    )  # fmt: skip
    depth.images = rig.node.create_publisher(Image, "/depth/image", 4)
    depth.play(
        lambda: [h for m in depth.perception.people[-3:] for h in m.humans if abs(h.transl[2] - 2.5) < 1e-4],
        "raw depth again",
    )
    assert values(depth.perception.status("depth"))["refused"] != "0"


@pytest.fixture(scope="module")
def registering(tmp_path_factory):
    """Another node, which registers depth; nothing has been said yet of its colour camera."""
    rig = Rig(tmp_path_factory.mktemp("registering"))
    yield DepthCamera(rig, start(rig, "depth.register:=true"))
    rig.close()


def test_images_without_a_camera_info_take_that_of_their_registered_depth(registering):
    camera, perception = registering, registering.perception
    infos, perception.infos = perception.infos, camera.infos
    human = wait_for_depth(camera)
    perception.infos = infos
    assert human.transl[2] == pytest.approx(2.5)
    assert perception.people[-1].intrinsics_source == HumanArray.CAMERA_INFO
    assert "the depth camera's" in perception.log()


def test_depth_of_another_camera_is_registered_where_that_is_asked_for_and_tf_ties_the_two(registering):
    """A wall 2.5 m before the depth camera, which stands 0.1 m behind the colour camera: 2.4 m from that one."""
    tf = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs: make setup, or apt install ros-$ROS_DISTRO-tf2-msgs")
    camera, perception = registering, registering.perception
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = camera.rig.node.create_publisher(tf.TFMessage, "/tf_static", latched)
    options = {"frame_id": "depth_optical_frame", "info": camera_info(SIZE, "depth_optical_frame")}
    camera.play(
        lambda: (s := perception.status("depth")) and "none yet" in s.message,
        "that the transform is missing",
        **options,
    )
    transform = TransformStamped(child_frame_id="depth_optical_frame")
    transform.header.frame_id = FRAME_ID
    transform.transform.translation.z = -0.1
    transform.transform.rotation.w = 1.0
    static.publish(tf.TFMessage(transforms=[transform]))
    people = perception.people
    camera.play(lambda: people[-1].humans and abs(people[-1].humans[0].transl[2] - 2.4) < 1e-3, "2.4 m", **options)
    assert people[-1].humans[0].metric_source == PLACED


def test_depth_that_places_nobody_is_told_from_depth_that_places_somebody():
    """Counters of the library, looked at once a second: those of the last seconds count, not those since the start."""
    fits = _Balance()
    for placed, unplaced in ((0, 0), (30, 2), (60, 3)):
        fits.add(placed, unplaced)
        assert not fits.poor
    for unplaced in (40, 70, 100, 130, 160):
        fits.add(60, unplaced)
    assert fits.poor
    for placed in (90, 120, 150, 180, 210):
        fits.add(placed, 160)
    assert not fits.poor
    fits.add(0, 0)  # activated anew
    assert not fits.poor
