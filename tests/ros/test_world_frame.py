"""The camera's pose in the world: a robot that drives in simulated time, transforms that are good, late, or missing."""

from __future__ import annotations

import time

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from harness import FRAME_ID, Perception, Rig, image, level, values
from hsr import convert
from hsr.convert import stamp_to_ns
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from scripted_node import Command
from tf2_msgs.msg import TFMessage

S, MS = 1_000_000_000, 1_000_000
SPEED_M_S = 2.0
OPTICAL_XYZW = (-0.5, 0.5, -0.5, 0.5)
"""R_base_camera of a camera that looks ahead (REP-103)."""


class Robot:
    """A clock, a camera and a base that drives along odom's x and turns; T_base_camera is latched."""

    def __init__(self, rig: Rig, perception: Perception) -> None:
        self.rig, self.perception, self.now_ns = rig, perception, 1000 * S
        self.clock = rig.node.create_publisher(Clock, "/clock", 10)
        self.tf = rig.node.create_publisher(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.static = rig.node.create_publisher(TFMessage, "/tf_static", latched)
        self.frames = rig.listen(TFMessage, "/tf", 100)

    @staticmethod
    def transform(parent: str, child: str, stamp_ns: int, xyz, xyzw) -> TransformStamped:
        out = TransformStamped(child_frame_id=child)
        out.header.frame_id, out.header.stamp = parent, convert.ns_to_stamp(stamp_ns)
        t, q = out.transform.translation, out.transform.rotation
        t.x, t.y, t.z = xyz
        q.x, q.y, q.z, q.w = xyzw
        return out

    def mount_camera(self) -> None:
        self.static.publish(
            TFMessage(transforms=[self.transform("base_link", FRAME_ID, 0, (0.1, 0.0, 1.2), OPTICAL_XYZW)])
        )

    def base(self, stamp_ns: int) -> tuple[tuple[float, ...], np.ndarray]:
        t_s = (stamp_ns - 1000 * S) * 1e-9
        return (SPEED_M_S * t_s, 0.0, 0.0), Rotation.from_euler("z", 0.3 * t_s).as_quat()

    def drive(self, *stamps_ns: int) -> None:
        """Tell where the base is at these times."""
        for stamp_ns in stamps_ns:
            self.tf.publish(TFMessage(transforms=[self.transform("odom", "base_link", stamp_ns, *self.base(stamp_ns))]))

    def T_odom_camera(self, stamp_ns: int) -> np.ndarray:
        xyz, xyzw = self.base(stamp_ns)
        base, camera = np.eye(4), np.eye(4)
        base[:3, :3], base[:3, 3] = Rotation.from_quat(xyzw).as_matrix(), xyz
        camera[:3, :3], camera[:3, 3] = Rotation.from_quat(OPTICAL_XYZW).as_matrix(), (0.1, 0.0, 1.2)
        return base @ camera

    def tick(self, step_ns: int = 25 * MS) -> int:
        """Let time go on; the time is published."""
        self.now_ns += step_ns
        self.clock.publish(Clock(clock=convert.ns_to_stamp(self.now_ns)))
        return self.now_ns

    def people_of(self, stamp_ns: int):
        return next((p for p in self.perception.people if stamp_to_ns(p.header.stamp) == stamp_ns), None)

    def good_image(self):
        """An image between two samples of the base, 10 ms before and 20 ms after it."""
        stamp_ns = self.tick()
        self.drive(stamp_ns - 10 * MS, stamp_ns + 20 * MS)
        return image(stamp_ns=stamp_ns)

    def lone_image(self):
        return image(stamp_ns=self.tick())

    def until_located(self, what: str = "people with a known camera"):
        """Play until the camera is known at a time after now; return that message."""
        begin, begin_ns = len(self.perception.people), self.now_ns

        def located():
            return next(
                (p for p in self.perception.people[begin:]
                 if p.world_frame and p.humans and begin_ns < stamp_to_ns(p.header.stamp) <= self.now_ns), None
            )  # fmt: skip

        return self.perception.feed(located, what, make=self.good_image)

    def status_while(self, make, matches, what: str):
        """Play until the diagnostics of TF say something; return them."""
        self.perception.diagnostics.clear()
        self.perception.feed(
            lambda: (s := self.perception.status("world frame")) is not None and matches(s), what, make=make
        )
        return self.perception.status("world frame")


@pytest.fixture(scope="module")
def robot(rig) -> Robot:
    perception = Perception(rig, "use_sim_time:=true", "world_frame:=odom", "tf.timeout_s:=0.5", "tf.mode:=rep155")
    return Robot(rig, perception)


def pose(message) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(message.t_world_cam[3:]).as_matrix(), message.t_world_cam[:3]
    return T


def test_without_tf_people_are_there_and_no_pose_is_made_up(robot) -> None:
    perception, begin_s = robot.perception, time.monotonic()
    message = perception.feed_until_more(perception.people, "people", n=3, make=robot.lone_image)
    assert message.humans
    assert message.world_frame == ""
    assert not np.any(message.t_world_cam)
    assert message.header.frame_id == FRAME_ID
    status = robot.status_while(
        robot.lone_image, lambda s: level(s) == 1 and int(values(s)["unknown frame"]) >= 3, "a warning"
    )
    assert "'odom' is not in TF" in status.message
    said = perception.log().count("pose in 'odom' is not known")
    assert 1 <= said <= 1 + (time.monotonic() - begin_s) / 5


def test_the_cameras_pose_is_interpolated_at_the_images_stamp(robot) -> None:
    robot.mount_camera()
    robot.until_located()
    for _ in range(5):
        message = robot.until_located()
        assert message.world_frame == "odom"
        stamp_ns = stamp_to_ns(message.header.stamp)
        np.testing.assert_allclose(pose(message), robot.T_odom_camera(stamp_ns), atol=1e-6)  # 1 mm at 2 m/s is 0.5 ms
        assert message.header.frame_id == FRAME_ID  # people stay in the camera's frame
    status = robot.status_while(robot.good_image, lambda s: int(values(s)["found"]) >= 5, "the count")
    assert values(status)["frame"] == "odom"


def test_the_frames_of_people_hang_on_the_camera_and_not_on_the_world(robot) -> None:
    robot.until_located()
    links = {(t.header.frame_id, t.child_frame_id) for message in robot.frames for t in message.transforms}
    ours = {(parent, child) for parent, child in links if child != "base_link"}
    assert {child[:5] for parent, child in ours if parent == FRAME_ID} == {"body_"}
    assert len({child for _, child in links}) == len(links)
    letters = next(child[5:] for parent, child in ours if parent == FRAME_ID)
    assert {f"{name}_{letters}" for name in ("waist", "torso", "p_head", "head", "l_elbow", "r_ankle")} <= {
        child for _, child in ours
    }


def test_a_late_transform_is_waited_for_while_services_are_answered(robot) -> None:
    rig, perception = robot.rig, robot.perception
    robot.until_located()
    for _ in range(10):
        stamp_ns = robot.tick(100 * MS)
        perception.send(image(stamp_ns=stamp_ns))
        rig.wait(lambda: perception.state(), "an answer")  # of the executor, as the worker waits
        if robot.people_of(stamp_ns) is None:  # else this machine took longer than the 0.5 s
            break
    robot.drive(stamp_ns + 5 * MS)
    message = rig.wait(lambda: robot.people_of(stamp_ns), "people of the image that waited")
    assert message.world_frame == "odom"
    np.testing.assert_allclose(pose(message), robot.T_odom_camera(stamp_ns), atol=1e-3)  # an arc's chord over 0.1 s
    status = robot.status_while(robot.good_image, lambda s: True, "how long it waited")
    assert float(values(status)["wait p50/p99 [ms]"].split("/")[1]) > 0


def test_a_transform_that_does_not_come_costs_the_pose_and_not_the_people(robot) -> None:
    perception = robot.perception
    robot.until_located()
    stamp_ns = robot.tick(100 * MS)
    perception.send(image(stamp_ns=stamp_ns))
    message = robot.rig.wait(lambda: robot.people_of(stamp_ns), "people after the wait")
    assert (message.world_frame, len(message.humans)) == ("", 1)
    status = robot.status_while(robot.lone_image, lambda s: level(s) == 1 and "too late" in values(s), "a warning")
    assert "too old" in status.message
    robot.until_located(what="a known camera again")


def test_a_clock_that_goes_back_empties_the_buffer_and_keeps_what_is_static(robot) -> None:
    """With the old transforms kept, those of the earlier time would be too old to be taken."""
    before = robot.until_located()
    robot.now_ns -= 500 * S
    message = robot.until_located(what="a known camera in the earlier time")
    stamp_ns = stamp_to_ns(message.header.stamp)
    assert stamp_ns < stamp_to_ns(before.header.stamp) - 400 * S
    np.testing.assert_allclose(pose(message), robot.T_odom_camera(stamp_ns), atol=1e-6)
    assert message.humans[0].id != before.humans[0].id


def test_who_is_gone_has_no_frames(robot) -> None:
    perception = robot.perception
    robot.until_located()

    def nobody():
        robot.good_image()
        return image(Command.NOBODY, stamp_ns=robot.now_ns)

    begin = len(perception.people)
    perception.feed(
        lambda: sum(not p.humans for p in perception.people[begin:]) > 3, "an empty scene", make=nobody
    )  # fmt: skip
    empty = {
        stamp_to_ns(p.header.stamp)
        for p in perception.people[begin:]
        if all(human.state == human.LOST for human in p.humans)
    }
    stamps = {stamp_to_ns(t.header.stamp) for m in robot.frames for t in m.transforms if t.header.frame_id == FRAME_ID}
    assert len(empty) > 3
    assert not empty & stamps


def test_nothing_is_left_after_deactivation_and_it_works_again(robot) -> None:
    perception, node = robot.perception, robot.rig.node

    def listeners() -> list[str]:
        return [info.node_name for info in node.get_subscriptions_info_by_topic("/tf_static")]

    robot.rig.wait(lambda: "perception_tf" in listeners(), "the listener")
    perception.change("deactivate")
    robot.rig.wait(lambda: "perception_tf" not in listeners(), "its end")
    perception.change("activate")
    robot.until_located()
    assert perception.process.returncode is None
