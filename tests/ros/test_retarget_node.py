"""The retargeting node in a process of its own: what it is told, what it sends, and how it stops."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget,robots]'")
pytest.importorskip("pink", reason="pip install 'hsr-core[retarget,robots]'")

from harness import level
from hsr import convert
from hsr.environment import share_dir
from hsr.notices import Notices
from hsr.params import default_parameters_yaml
from hsr.retarget_clock import TeleopClock
from hsr.retarget_node import LIVE, open_robot
from hsr.retarget_outputs import FLAGS, STATES
from hsr.retarget_params import DEFAULTS
from hsr.retarget_people import BROKEN_OFF, OTHER_WORLD, People, to_estimate
from hsr.retarget_robot import Deadman, RobotJoints
from hsr.retarget_work import RIVALS
from hsr.stamps import header, stamp_to_ns
from hsr.stats import Counters
from hsr_msgs.msg import RetargetStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from retarget_rig import LATENCY_NS, PATIENT, R_WORLD_CAM, Teleop, human, people, stamps, with_tests
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState, Joy
from trajectory_msgs.msg import JointTrajectory

from hsr_core.config import with_values
from hsr_core.engagement import engagements_of, read_header
from hsr_core.errors import HsrError
from hsr_core.retarget.command import Flag, State
from hsr_core.retarget.gate import Reason
from hsr_core.retarget.human import P, from_estimate

ROOT = Path(__file__).parents[2]
EPS = 1e-6
MAX_DT_S = 0.1
"""The governor moves no farther than in this time, however late a tick is."""


# --- without a process --------------------------------------------------------------------------------------------


def test_the_messages_numbers_are_the_librarys() -> None:
    text = (ROOT / "ros2_ws" / "src" / "hsr_msgs" / "msg" / "RetargetStatus.msg").read_text()
    constants = {name: int(value) for name, value in re.findall(r"^uint\d+ ([A-Z_]+)=(\d+)", text, re.M)}
    assert constants == {state.name: number for state, number in STATES.items()} | {
        flag.name: flag.value for flag in Flag if flag
    }
    assert len(set(STATES.values())) == len(State)
    assert all(number == flag.value for flag, number in FLAGS.items())


def test_the_parameter_file_is_what_the_settings_say() -> None:
    expected = default_parameters_yaml(DEFAULTS, "retargeting node")
    assert (share_dir() / "config" / "retarget.yaml").read_text() == expected


def test_nothing_but_the_choice_of_the_operator_changes_while_running() -> None:
    assert {"operator"} == LIVE


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({}, "set the parameter robot: .*g1.*talos"),
        ({"robot": "g2"}, "g1"),
        ({"robot": "g1", "robot_mode": "legs"}, "upper_body"),
        ({"robot": "g1", "robot_mode": "whole_body"}, "allow_legs_and_base_on_hardware"),
        ({"robot": "g1", "freshness.hold_s": 0.4}, "travel 0.60 rad on an old frame"),
        ({"robot": "g1", "freshness.source_hz": 5.0}, "shorter than 1.5 periods"),
    ],
)
def test_a_configuration_that_is_not_safe_is_refused(wrong, why) -> None:
    with pytest.raises(HsrError, match=why):
        open_robot(with_values(DEFAULTS, wrong))


def test_a_person_arrives_as_it_was_sent() -> None:
    """Through the camera's frame, the message and back into the world; independent of the node's own conversion."""
    sent = human(0, 7, limbs=None, yaw=0.3, place=(0.4, -0.2, 0.0))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R_WORLD_CAM, (3.0, 0.0, 1.2)
    got = from_estimate(to_estimate(sent), 5, T)
    from core.retarget.people import person
    from retarget_rig import waving

    expected = person(0.0, waving(0.0), track_id=7, yaw=0.3, place=(0.4, -0.2, 0.0))
    np.testing.assert_allclose(got.points, expected.points, atol=1e-5)
    np.testing.assert_allclose(got.rotations, expected.rotations, atol=1e-5)
    assert (got.track_id, got.stamp_ns, got.valid.all()) == (7, 5, True)
    sent.joint_quats_xyzw[:4], sent.joint_score[0] = 0.0, 0.0
    unseen = from_estimate(to_estimate(sent), 5, T)
    assert not unseen.valid[P["pelvis"]]
    assert np.isnan(unseen.rotations[P["pelvis"]]).all()


def test_a_system_clock_that_is_set_is_noticed(monkeypatch) -> None:
    class SystemTime:
        ros_time_is_active = False

    now = {"time_ns": 1_000_000_000_000, "monotonic_ns": 5_000_000_000}
    for name in now:
        monkeypatch.setattr(f"hsr.retarget_clock.time.{name}", lambda name=name: now[name])
    clock = TeleopClock(SystemTime(), 0.02)
    assert clock.was_set() == 0
    for step_ns, set_ns in ((10_000_000, 0), (5_000_000_000, 1_000_000), (10_000_000, -3_600_000_000_000)):
        now["monotonic_ns"] += step_ns
        now["time_ns"] += step_ns + set_ns
        assert clock.was_set() == pytest.approx(set_ns * 1e-9 if abs(set_ns) > 20_000_000 else 0)
    assert clock.was_set() == 0


def test_a_deadman_without_its_button_is_released_and_told_once() -> None:
    levels, errors = [], []
    session = SimpleNamespace(on_deadman=lambda pressed, stamp_ns: levels.append((pressed, stamp_ns)))
    deadman = Deadman(session, lambda: 7, Counters(), Notices(SimpleNamespace(error=errors.append)), button=3)
    for _ in range(3):
        deadman.take(Joy(header=header(5, ""), buttons=[1, 1]))
    deadman.take(Joy(header=header(6, ""), buttons=[0, 0, 0, 1]))
    deadman.take(Joy(header=header(0, ""), buttons=[0, 0, 0, 1]))
    deadman.publishers = 2
    deadman.take(Joy(header=header(7, ""), buttons=[0, 0, 0, 1]))
    assert levels == [(False, 5), (False, 5), (False, 5), (True, 6), (False, 7)]
    assert [error.partition(":")[0] for error in errors] == [
        "the deadman's message has 2 buttons, none of number 3",
        "the deadman's message has no stamp",
        "the deadman has 2 publishers",
    ]


def test_joint_states_that_jump_are_not_taken_for_a_while(monkeypatch) -> None:
    """Of two who publish them, which is the robot cannot be known: neither is taken."""
    now_s, taken, said = 100.0, [], []
    monkeypatch.setattr("hsr.retarget_robot.time.monotonic", lambda: now_s)
    robot = SimpleNamespace(joint_names=("a", "b"), velocity=np.array([1.5, 1.5]))
    old = {"b": 0.3}
    session = SimpleNamespace(
        robot=robot, governor=SimpleNamespace(old_joints=lambda: old),
        on_joint_state=lambda names, q, stamp_ns: taken.extend(q if names == ["b"] else []),
    )  # fmt: skip
    joints = RobotJoints(session, lambda: 0, Counters(), Notices(SimpleNamespace(warning=said.append)))

    def take(b: float, after_s: float = 0.01) -> None:
        """Two drivers, each with a joint of its own, far from the other's."""
        nonlocal now_s
        now_s += after_s
        for name, q in (("a", 3.0), ("b", b)):
            joints.take(serialize_message(JointState(header=header(round(now_s * 1e9), ""), name=[name], position=[q])))

    fast = [0.015 * step for step in range(20)]
    for b in fast:
        take(b)
    assert taken == fast
    for b in (0.9, 0.3) * 60:
        take(b)
    assert taken == fast
    assert joints.problem == f"{said[0]}; the joint state of b is too old"
    assert "jumps at b" in said[0]
    assert len(said) == 1
    while now_s < 103.6:
        take(0.3)
    assert joints.problem == "the joint state of b is too old"
    old.clear()
    assert not joints.problem
    assert taken[-1] == 0.3
    take(2.0, after_s=5.0)
    assert taken[-1] == 2.0, "what is far after a long silence is no jump"


def test_another_world_or_a_silence_forgets_the_operator(monkeypatch) -> None:
    now_s, lost, frames = 100.0, [], []
    monkeypatch.setattr("hsr.retarget_people.time.monotonic", lambda: now_s)
    governor = SimpleNamespace(operator=None, state=State.TRACKING)
    session = SimpleNamespace(
        settings=DEFAULTS, governor=governor, gate=SimpleNamespace(last_reason=Reason.OK),
        lose_operator=lambda reason: (lost.append(reason), setattr(governor, "operator", None)),
        on_people=lambda humans, stamp_ns, T: frames.append(len(humans)),
    )  # fmt: skip
    crowd = People(session, lambda: 10**18, Counters(), auto=False)

    def take(after_s: float = 0.03, **fields) -> None:
        nonlocal now_s
        now_s += after_s
        stamp_ns = round(now_s * 1e9)
        crowd.take(serialize_message(people(stamp_ns, [human(stamp_ns)], **fields)))

    take()
    governor.operator = 1
    take()
    take(world_frame="")  # unknown for a moment: no command comes of it, but it is no other world
    take()
    assert (lost, frames) == ([], [0, 1, 1, 1])
    take(world_frame="odom")
    assert (lost, frames[-1]) == ([OTHER_WORLD], 0)
    assert "'map' and is 'odom'" in crowd.problem
    governor.operator = 1
    take(world_frame="odom")
    take(1.2, world_frame="odom")
    assert (lost, frames[-2:]) == ([OTHER_WORLD, BROKEN_OFF], [1, 0])


# --- a node, patient with a busy machine ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teleop(rig, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engagements")
    made = Teleop(rig, *PATIENT, f"record.folder:={folder}", "publish.trajectory:=true", activate=False)
    made.folder = folder
    made.trajectories = rig.listen(JointTrajectory, "/human/retarget/joint_trajectory", 100)
    yield made
    made.close()


def test_an_inactive_node_moves_nothing_and_says_so(teleop) -> None:
    answer = teleop.ask("engage")
    assert not answer.success
    assert "not active" in answer.message
    assert not teleop.status


def test_what_is_missing_is_named(teleop) -> None:
    teleop.present = {}
    for transition in ("configure", "activate"):
        teleop.change(transition)
    teleop.more()
    assert teleop.state == "DISARMED"
    assert not teleop.ask("arm").success
    assert "no joint states arrive" in teleop.ask("arm").message
    assert "not ready" in teleop.ask("engage").message
    teleop.stand()
    names = list(teleop.status[-1].joint_names)
    part = itertools.cycle((slice(2, 9), slice(9, None)))  # two drivers in turn, and two joints that have none

    def in_parts(msg: JointState) -> JointState:
        own = next(part)
        return JointState(header=msg.header, name=msg.name[own], position=msg.position[own])

    teleop.spoil_joints = in_parts
    nobody = f"no joint state names {names[0]}, {names[1]}"
    teleop.wait(lambda: teleop.ask("arm").message == f"no fresh joint state; {nobody}", "names")
    robot = teleop.diagnosis("robot")
    assert level(robot) == 2
    assert nobody in robot.message
    assert nobody in teleop.status[-1].problem
    part = itertools.cycle((slice(0, 9), slice(9, None)))
    teleop.wait(lambda: teleop.ask("arm").success, "joint states")
    teleop.spoil_joints = lambda msg: msg
    teleop.wait_state("READY")
    answer = teleop.ask("engage")
    assert not answer.success
    for missing in ("operator", "fresh_frame", "person_known"):
        assert missing in answer.message
    answer = teleop.ask("select", id=convert.body_id(1))
    assert not answer.ok
    assert "seen now: nobody" in answer.message
    assert not teleop.commands


def test_without_a_world_frame_nothing_moves(teleop) -> None:
    teleop.start()
    teleop.present = {1: {}}

    def lost(msg):
        msg.world_frame = ""
        return msg

    teleop.spoil = lost
    teleop.wait(lambda: "no world frame" in teleop.status[-1].problem, "the reason")
    teleop.wait(lambda: teleop.ask("select", id=convert.body_id(1)).ok, "the operator")
    teleop.wait(lambda: counters(teleop).get("frames: no_transform", 0) > 15, "frames")
    answer = teleop.ask("engage")
    assert not answer.success
    assert "fresh_frame" in answer.message
    assert "no world frame" in answer.message
    assert "no world frame" in teleop.diagnosis("people").message

    def optical(msg):
        msg.world_frame = msg.header.frame_id
        return msg

    teleop.spoil = optical
    teleop.wait(lambda: "z is not up" in teleop.status[-1].problem, "the reason")
    teleop.spoil = lambda msg: msg
    teleop.wait(lambda: not teleop.status[-1].problem, "a usable frame")


def test_it_follows_from_where_the_robot_stands(teleop) -> None:
    teleop.start()
    teleop.stand(left_elbow_joint=0.6)
    teleop.more(10)
    start = dict(teleop.joints)
    teleop.track()
    states = [status.state for status in teleop.status]
    changes = [STATES_BY_NUMBER[a] for a, b in pairwise([*states, None]) if a != b]
    assert changes[changes.index("ENGAGING") - 1] == "READY"
    assert {before for before, now in pairwise(changes) if now == "TRACKING"} == {"ENGAGING"}
    first = next(status for status in teleop.status if status.commanding)
    assert first.engagement == 1
    assert first.seq < 5
    np.testing.assert_allclose(first.position, [start[name] for name in first.joint_names], atol=0.01)
    teleop.more(30)
    last = teleop.wait(
        lambda: next((s for s in reversed(teleop.status) if s.state == RetargetStatus.TRACKING), None), "TRACKING"
    )
    assert (last.robot, last.hand_mode, last.operator_id, last.operator_track_id) == ("g1", "scaled", body(1), 1)
    assert last.header.frame_id == "map"
    assert last.age_ms == pytest.approx(
        (stamp_to_ns(last.header.stamp) - stamp_to_ns(last.exposure_stamp)) * 1e-6, abs=1
    )
    assert last.age_ms >= LATENCY_NS * 1e-6
    assert set(last.tasks) == {"chest", "left_elbow", "left_wrist", "right_elbow", "right_wrist"}
    assert np.isfinite(last.task_error_m[list(last.tasks).index("left_wrist")])
    assert len(last.target) == len(last.position) == len(last.velocity) == len(last.joint_names)
    assert not last.t_world_base
    moved = np.ptp([status.position for status in teleop.status if status.commanding], axis=0)
    assert moved.max() > 0.1
    trajectory = teleop.trajectories[-1]
    assert list(trajectory.joint_names) == list(teleop.commands[-1].name)
    assert trajectory.points[0].time_from_start.nanosec == 10_000_000
    assert not trajectory.points[0].velocities, "a controller refuses a last point that has a speed"
    teleop.wait(
        lambda: any(np.array_equal(trajectory.points[0].positions, command.position) for command in teleop.commands),
        "the same command",
    )


def test_bad_input_is_counted_and_moves_nothing_out_of_bounds(teleop) -> None:
    teleop.track()
    random = np.random.default_rng(0)
    nan = float("nan")
    before = counters(teleop)

    def spoilt(msg):
        kind = random.integers(8)
        if kind == 0:
            return serialize_message(msg)[:200]
        if kind == 1:
            msg.humans[0].joints[:] = nan
        elif kind == 2:
            msg.t_world_cam[:] = 0.0
        elif kind == 3:
            msg.header = header(stamp_to_ns(msg.header.stamp) + 3_600_000_000_000, msg.header.frame_id)
        elif kind == 4:
            msg.humans[0].state = 77
        elif kind == 5:
            msg.humans[0].joints[2::3] += np.float32(0.8)
        return msg

    def wrong(msg):
        kind = random.integers(6)
        if kind == 0:
            return serialize_message(msg)[:60]
        if kind == 1:
            msg.position = msg.position[:-1]
        elif kind == 2:
            msg.position[3] = nan
        elif kind == 3:
            msg.header = header(0, "")
        return msg

    begin = len(teleop.status)
    missing, gated = True, False
    while missing or not gated:
        teleop.spoil, teleop.spoil_joints = spoilt, wrong
        teleop.more(100)
        teleop.spoil = teleop.spoil_joints = lambda msg: msg
        now = counters(teleop)
        missing = [
            name for name in ("input: bad_people", "input: bad_joint_states", "frames: not finite",
                              "frames: no_transform") if now.get(name, 0) <= before.get(name, 0)
        ]  # fmt: skip
        gated = any(status.flags & RetargetStatus.INPUT_GATED for status in teleop.status[begin:] if status.commanding)
        teleop.track()
    assert teleop.process.returncode is None


def test_a_released_deadman_brakes_and_holds(teleop) -> None:
    begin = held_because(teleop, "deadman released", lambda: setattr(teleop, "pressed", False))
    after = [status for status in teleop.status[begin:] if status.state == RetargetStatus.HOLD] + teleop.more(30)
    speeds = [np.abs(status.velocity).max() for status in after]
    assert all(b <= a + EPS for a, b in pairwise(speeds))
    assert speeds[-1] == 0
    assert after[-1].position == after[-2].position
    second = teleop.rig.node.create_publisher(Joy, "/human/retarget/deadman", 5)
    teleop.wait(lambda: counters(teleop).get("input: bad_deadman"), "several who hold the button count as nobody")
    teleop.pressed = True
    at_rest = {RetargetStatus.HOLD, RetargetStatus.STOPPED}  # a busy machine may lose the joint states meanwhile
    assert {status.state for status in teleop.more(30)} <= at_rest
    teleop.pressed = False
    teleop.rig.node.destroy_publisher(second)
    count = Counted(teleop, "input: bad_deadman")
    teleop.wait(lambda: not count.grown(), "one again")
    assert teleop.status[-1].state in at_rest, "nothing goes on by itself"


def test_who_else_commands_the_robot_stops_it(teleop) -> None:
    teleop.start()
    teleop.ask("stop")
    teleop.wait(lambda: teleop.ask("reset").success, "rest")
    teleop.wait(lambda: teleop.ask("arm").success, "joint states")
    rival = teleop.rig.node.create_publisher(JointState, "/human/retarget/joint_command", 1)
    assert teleop.wait_state("STOPPED").reason == RIVALS
    assert "/tester" in teleop.diagnosis("governor").message
    teleop.rig.node.destroy_publisher(rival)
    rival = teleop.rig.node.create_publisher(JointTrajectory, "/human/retarget/joint_trajectory", 1)
    several = "several publish on /human/retarget/joint_trajectory"
    teleop.wait(lambda: several in teleop.diagnosis("governor").message, "a rival on the other topic")
    teleop.rig.node.destroy_publisher(rival)


def held_because(teleop, reason: str, cause: Callable[[], None], undo: Callable[[], None] = lambda: None) -> int:
    """From TRACKING to HOLD by this cause; return the count of statuses before. A busy machine may be sooner."""
    for _ in range(5):
        undo()
        teleop.track()
        begin = len(teleop.status)
        cause()
        if teleop.wait_state("HOLD", "STOPPED").reason == reason:
            return begin
    raise AssertionError(f"not {reason}, but {teleop.status[-1].reason}")


def test_the_operator_stays_whoever_comes(teleop) -> None:
    teleop.track()
    parameters = teleop.rig.node.create_client(SetParameters, "/human/retarget/set_parameters")
    teleop.present = {1: {"primary": False}, 2: {"primary": True, "place": (1.0, 0.6, 0.0), "size": 1.15}}
    assert {status.operator_track_id for status in teleop.more(50)} == {1}
    refused = teleop.ask("select", id=body(2))
    assert not refused.ok
    assert "pause" in refused.message
    assert refused.id == body(1)
    for name, value, why in (
        ("operator", "primary", "stop it first"),
        ("limits.velocity_scale", 1.0, "read-only"),
        ("use_sim_time", True, "stop it first"),
    ):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        teleop.wait(parameters.service_is_ready, "the parameter service")
        answer = parameters.call_async(request)
        teleop.wait(answer.done, "its answer")
        (result,) = answer.result().results
        assert not result.successful
        assert why in result.reason.lower()
    both = dict(teleop.present)
    held_because(teleop, "operator lost", lambda: teleop.present.pop(1), lambda: setattr(teleop, "present", dict(both)))
    assert teleop.more()[-1].operator_id == ""
    teleop.pressed = False
    teleop.more(20)
    teleop.pressed = True
    assert {status.state for status in teleop.more(30)} == {RetargetStatus.HOLD}, "a press follows nobody"
    teleop.present = {1: {}}


def test_stop_latches_and_a_late_joiner_gets_no_old_command(teleop) -> None:
    if teleop.state != "HOLD":
        teleop.track()
    assert teleop.ask("stop").success
    stopped = teleop.wait_state("STOPPED")
    assert stopped.reason == "stop"
    teleop.wait(lambda: not teleop.status[-1].commanding, "the end of the ramp")
    sent = at_rest(teleop)
    late = teleop.rig.listen(JointState, "/human/retarget/joint_command", 10)
    for name in ("arm", "engage", "pause"):
        assert not teleop.ask(name).success
    teleop.pressed = False
    teleop.more(20)
    teleop.pressed = True
    assert {status.state for status in teleop.more(30)} == {RetargetStatus.STOPPED}
    assert not late
    assert len(teleop.commands) == sent
    assert teleop.ask("reset").success
    teleop.wait_state("DISARMED")
    teleop.track()
    teleop.wait(lambda: late, "a new command")


def at_rest(teleop) -> int:
    """Wait for the command that is the last one, and return the count of them."""
    last = next(status.header.stamp for status in reversed(teleop.status) if status.commanding)
    teleop.wait(lambda: any(command.header.stamp == last for command in teleop.commands[-5:]), "the last command")
    assert not np.any(teleop.commands[-1].velocity)
    return len(teleop.commands)


def test_deactivating_brakes_first_and_then_sends_nothing(teleop) -> None:
    teleop.track()
    begin = len(teleop.status)
    teleop.change("deactivate")
    teleop.wait(lambda: not teleop.status[-1].commanding, "the end of the ramp")
    last = [status.state for status in teleop.status[begin:]]
    assert last[-1] == RetargetStatus.STOPPED
    assert teleop.status[-1].reason == "the node ends"
    sent = at_rest(teleop)
    assert "not active" in teleop.ask("arm").message
    assert len(teleop.commands) == sent
    teleop.change("activate")
    teleop.more()
    assert teleop.state == "DISARMED", "an activation begins anew"
    assert teleop.status[-1].engagement == 0


def test_a_signal_brakes_before_the_process_ends(teleop) -> None:
    teleop.track()
    begin = len(teleop.status)
    teleop.process.signal(signal.SIGINT)
    teleop.wait(lambda: teleop.process.returncode is not None, "the end of the process")
    assert teleop.process.returncode == 0
    # What it sent last may still wait to be read by this process, one message at a time.
    teleop.wait(lambda: teleop.status[-1].state == RetargetStatus.STOPPED, "the stop")
    teleop.wait(lambda: not teleop.status[-1].commanding, "the end of the ramp")
    assert any(status.state == RetargetStatus.STOPPED for status in teleop.status[begin:])
    teleop.wait(lambda: not np.any(teleop.commands[-1].velocity), "a last command at rest")
    teleop.close()


def test_everything_that_was_sent_was_within_bounds(teleop) -> None:
    robot = open_robot(with_values(DEFAULTS, {"robot": "g1", "limits.velocity_scale": 0.25, "freshness.hold_s": 1.3,
                                              "freshness.stop_s": 5.0}))  # fmt: skip
    sent = [status for status in teleop.status if status.commanding]
    if not sent:
        pytest.skip("of what the tests before it made the node send")
    assert len(sent) > 300
    assert [list(status.joint_names) for status in (sent[0], sent[-1])] == [list(robot.joint_names)] * 2
    for status in sent:
        assert np.isfinite(status.position).all()
        assert (np.array(status.position) >= np.minimum(robot.lower, 0) - EPS).all()
        assert (np.array(status.position) <= np.maximum(robot.upper, 0.6) + EPS).all()
        assert (np.abs(status.velocity) <= robot.velocity + EPS).all()
        if status.state == RetargetStatus.ENGAGING:
            assert (np.abs(status.velocity) <= 0.3 + EPS).all()
    steps = 0
    for a, b in pairwise(sent):
        dt_s = (stamp_to_ns(b.header.stamp) - stamp_to_ns(a.header.stamp)) * 1e-9
        if b.seq > a.seq and b.engagement == a.engagement and dt_s < MAX_DT_S:
            steps += 1
            # Stamps are those of the ticks to the nanosecond; what was lost on the way makes steps longer, not faster.
            assert (np.abs(np.subtract(b.position, a.position)) <= robot.velocity * dt_s + EPS).all()
            assert (np.abs(np.subtract(b.velocity, a.velocity)) <= robot.acceleration * max(dt_s, 1e-3) + EPS).all()
    assert steps > 300
    by_stamp = {stamp_to_ns(status.header.stamp): status for status in sent}
    pairs = [(command, by_stamp[stamp]) for command, stamp in zip(teleop.commands, stamps(teleop.commands), strict=True)
             if stamp in by_stamp]  # fmt: skip
    assert len(pairs) > 300
    for command, status in pairs:
        assert command.position == status.position
        assert command.velocity == status.velocity


def test_each_engagement_is_recorded(teleop) -> None:
    recordings = list(engagements_of(teleop.folder))
    if not recordings:
        pytest.skip("of what the tests before it made the node send")
    assert len(recordings) >= 3
    facts = read_header(recordings[0])
    assert (facts["robot"], facts["operator"], facts["settings"]["limits"]["velocity_scale"]) == ("g1", 1, 0.25)
    assert facts["joint_names"] == list(teleop.status[-1].joint_names)
    from hsr_core.sources.bag_reader import BagReader

    topics = BagReader(recordings[-1]).topics
    assert set(topics) == {"/human/people", "/human/retarget/status", "/human/retarget/joint_command", "/joint_states"}
    assert min(topic.count for topic in topics.values()) > 5


# --- another one, with the limits of age as they are ------------------------------------------------------------------


def test_when_the_perception_process_dies_the_robot_brakes_within_the_limit_of_age(rig) -> None:
    """The command stream brakes within 200 ms and 2 ticks of the last exposure; by the stamps of messages."""
    patient = ("robot:=g1", "feedback.timeout_s:=1.0", "deadman.timeout_s:=0.5")
    teleop = Teleop(rig, *patient, plays_people=False)
    try:
        environ = with_tests()
        people_process = rig.start("people", "scripted_people", environ=environ)
        teleop.stand()
        teleop.track(limit_s=240.0)  # no frame may be older than 200 ms for two seconds
        begin = len(teleop.status)
        teleop.more(30)
        people_process.signal(signal.SIGKILL)
        teleop.wait(lambda: teleop.state in ("HOLD", "STOPPED"), "the end of the motion")
        held = next(status for status in teleop.status[begin:] if status.state == RetargetStatus.HOLD)
        teleop.wait(lambda: not np.any(teleop.status[-1].velocity), "rest")
        assert held.reason == "frame too old"
        limit_s = DEFAULTS.freshness.hold_s
        followed = [status for status in teleop.status[begin:] if status.state == RetargetStatus.TRACKING]
        assert max(status.age_ms for status in followed) <= 1e3 * limit_s + 0.01
        exposure_ns = max(stamp_to_ns(status.exposure_stamp) for status in teleop.status if status.commanding)
        ticks = stamps([status for status in teleop.status[begin:] if status.commanding])
        due = ticks[ticks > exposure_ns + limit_s * 1e9][:2]
        assert stamp_to_ns(held.header.stamp) <= due[-1]
        braking = [status for status in teleop.status[begin:] if stamp_to_ns(status.header.stamp) >= due[-1]]
        speeds = [np.abs(status.velocity).max() for status in braking if status.commanding]
        assert all(b <= a + EPS for a, b in pairwise(speeds))
        at_rest = next(s for s in braking if s.commanding and not np.any(s.velocity))
        robot = open_robot(with_values(DEFAULTS, {"robot": "g1"}))
        longest_s = (robot.velocity / robot.acceleration).max()
        steps = np.diff(
            stamps([s for s in braking if stamp_to_ns(s.header.stamp) <= stamp_to_ns(at_rest.header.stamp)])
        )
        # The governor takes a longer step for one of MAX_DT_S: only so much of it counts as braking.
        assert np.minimum(steps * 1e-9, MAX_DT_S)[:-2].sum() <= longest_s
        teleop.wait_state("STOPPED")
        assert teleop.status[-1].reason == "no fresh frame"
    finally:
        teleop.close()
        rig.stop(teleop.process)


def test_a_clock_that_goes_back_forgets_the_operator(rig) -> None:
    teleop, begin_s = None, time.monotonic()
    base_ns = 1_000_000_000_000

    def now_ns() -> int:
        return base_ns + round((time.monotonic() - begin_s) * 1e9)

    clock = rig.node.create_publisher(Clock, "/clock", 10)
    timer = rig.node.create_timer(0.01, lambda: clock.publish(Clock(clock=convert.ns_to_stamp(now_ns()))))
    try:
        teleop = Teleop(rig, *PATIENT, "use_sim_time:=true")
        teleop.now_ns = now_ns
        teleop.stand()
        teleop.wait(lambda: teleop.ask("arm").success, "joint states")
        teleop.wait(lambda: teleop.ask("select", id=body(1)).ok, "the operator")
        teleop.wait(lambda: teleop.ask("engage").success, "all checks but the deadman")
        base_ns -= 100_000_000_000
        teleop.wait(lambda: teleop.status[-1].operator_id == "", "nobody is locked")
        teleop.wait(lambda: teleop.ask("select", id=body(1)).ok, "the operator")
        teleop.wait(teleop.ready, "stamps of the new time are taken")
        teleop.pressed = True
        assert {status.state for status in teleop.more(30)} == {RetargetStatus.READY}, "what was asked for is forgotten"
    finally:
        rig.node.destroy_timer(timer)
        if teleop is not None:
            teleop.close()


class Counted:
    """A counter that is watched."""

    def __init__(self, teleop: Teleop, name: str) -> None:
        self._teleop, self._name = teleop, name
        self._last = counters(teleop)[name]

    def grown(self) -> bool:
        """Return whether it has since the last call."""
        last, self._last = self._last, counters(self._teleop)[self._name]
        return self._last > last


def counters(teleop: Teleop) -> dict[str, int]:
    """Return the newest counters, from now on."""
    newest = teleop.more(12)[-1]
    return dict(zip(newest.counter_names, newest.counter_values, strict=True))


def body(track_id: int) -> str:
    return convert.body_id(track_id)


STATES_BY_NUMBER = {number: state.name for state, number in STATES.items()}
