"""The robot on the web page: its posture from /joint_states, its state in words, buttons that call services."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("viser", reason="pip install 'hsr-core[view]'")
pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget,robots]'")
import pinocchio as pin
from hsr import qos, view_robot
from hsr.throttled import Throttled, unread
from hsr.view_robot import RobotFeed, is_local
from hsr_msgs.msg import RetargetStatus
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from web_visitor import Visitor

from hsr_core.errors import HsrError
from hsr_core.retarget.robot import load_robot


@pytest.fixture(scope="module")
def feed(rig):
    return RobotFeed(rig.node, "jvrc1", "upper_body", 15.0, local=True)


def test_the_posture_is_that_of_the_joint_states_by_name(feed):
    robot = load_robot("jvrc1", "upper_body")
    rng = np.random.default_rng(2)
    position = rng.uniform(robot.lower, robot.upper)
    order = rng.permutation(len(position))
    names = [robot.joint_names[i] for i in order]
    for part in (slice(0, None, 2), slice(1, None, 2)):  # two drivers, each with its joints
        message = JointState(name=["wheel", *names[part]], position=[9.0, *position[order[part]]])
        feed.add_joint_state(bytes(serialize_message(message)))
    feed.add_joint_state(b"")
    view = feed.view()
    data = robot.model.createData()
    pin.forwardKinematics(robot.model, data, robot.configuration(position))
    names = [part.name for part in feed.on_page.parts]
    for name in ("R_WRIST_Y", "NECK_P", "L_KNEE"):
        expected = data.oMi[robot.model.getJointId(name)].homogeneous
        np.testing.assert_allclose(view.T_root_part[names.index(name)], expected, atol=1e-9)


def test_what_several_drivers_published_is_read_at_once(rig):
    """A page that draws now and then takes the parts of all, not the newest message alone."""
    taken, calls = [], []

    def on_part(data: bytes) -> None:
        calls.append(data)
        taken.extend([data, *unread(subscription)])

    group = Throttled(0.05)
    subscription = rig.node.create_subscription(
        JointState, "/joint_parts", on_part, qos.joint_parts(), raw=True, callback_group=group
    )
    drivers = [rig.node.create_publisher(JointState, "/joint_parts", qos.robot_joint_states()) for _ in range(2)]
    rig.wait(lambda: all(driver.get_subscription_count() for driver in drivers), "drivers to be heard")
    drivers[0].publish(JointState(name=["first"]))
    rig.wait(lambda: calls, "the first")
    for name in ("arm", "hand", "arm", "hand"):
        drivers[name == "hand"].publish(JointState(name=[name]))
        assert drivers[name == "hand"].wait_for_all_acked()
    taken.clear()
    group._due_s = 0.0
    rig.wait(lambda: len(taken) == 4, "all parts")
    assert len(calls) == 2
    assert sorted(deserialize_message(data, JointState).name[0] for data in taken) == ["arm", "arm", "hand", "hand"]
    for driver in drivers:
        rig.node.destroy_publisher(driver)
    rig.node.destroy_subscription(subscription)


def test_the_panel_says_state_and_what_is_missing(feed):
    status = RetargetStatus(
        state=RetargetStatus.ENGAGING, reason="engaged", operator_id="kxzzw", checks=["fresh_frame", "gate"],
        checks_passed=[False, True], age_ms=81.0, flags=RetargetStatus.HOLDOVER | RetargetStatus.DEPTH_GUESSED,
    )  # fmt: skip
    feed.add_status(bytes(serialize_message(status)))
    view = feed.view()
    rows = dict(view.rows)
    assert view.label == "engaging"
    assert rows["state"] == "engaging"
    assert rows["why"] == "engaged"
    assert rows["follows"] == "kxzzw"
    assert rows["missing"] == "fresh frame"
    assert rows["age p50 / p99"] == "81 / 81 ms"
    assert rows["flags"] == "holdover, depth guessed"


def test_what_is_old_is_not_shown(feed, monkeypatch):
    now = view_robot.time.monotonic()
    monkeypatch.setattr(view_robot.time, "monotonic", lambda: now + view_robot.STALE_S + 1)
    view = feed.view()
    assert view.T_root_part is None
    assert view.label == "no retarget node"


def test_what_may_begin_something_is_offered_on_this_machine_only(rig):
    def offered(local: bool) -> set[str]:
        return {label for label, _ in RobotFeed(rig.node, "jvrc1", "upper_body", 15.0, local).on_page.actions}

    assert offered(local=False) == {"stop", "pause"}
    assert offered(local=True) == {"stop", "pause", "arm", "engage", "reset"}
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", "10.0.0.5", "robot")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip


def test_the_page_listens_while_somebody_looks_and_its_button_stops_the_robot(rig):
    called = []

    def stop(request, response):
        called.append("stop")
        response.success, response.message = True, "stopped"
        return response

    service = rig.node.create_service(Trigger, "/human/retarget/stop", stop)
    joint_states = rig.node.create_publisher(JointState, "/joint_states", qos.robot_joint_states())
    view = rig.start("view", "hsr.view_node", "--ros-args", "-p", "port:=0", "-p", "robot:=jvrc1")
    address = rig.wait(lambda: re.search(r"^view: (http\S+)$", view.tail(100), re.M), "the page")[1]
    assert joint_states.get_subscription_count() == 0
    visitor = Visitor(address)
    rig.wait(joint_states.get_subscription_count, "the page to listen")
    rig.wait(lambda: {"stop", "pause", "arm"} <= set(visitor.inputs), "the buttons")
    visitor.set("stop", True)
    rig.wait(lambda: called, "the service to be called")
    visitor.leave()
    rig.wait(lambda: joint_states.get_subscription_count() == 0, "the page to listen no more")
    assert rig.stop(view) == 0
    rig.node.destroy_service(service)


def test_a_robot_that_is_not_there_stops_the_start(rig):
    with pytest.raises(HsrError, match="jvrc1"):
        RobotFeed(rig.node, "jvrc", "upper_body", 15.0, local=True)
