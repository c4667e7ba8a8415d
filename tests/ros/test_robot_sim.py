"""The simulated robot over DDS: it follows commands as its model says, and is silent beside a robot."""

from __future__ import annotations

import time

import numpy as np
import pytest
from harness import level
from hsr import qos
from hsr.convert import stamp_to_ns
from sensor_msgs.msg import JointState, Joy

from hsr_core.retarget.find import package_folder

try:
    package_folder("example-robot-data")
except Exception as error:  # whichever part of it is missing
    pytest.skip(f"a robot is needed: {error}", allow_module_level=True)
pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget]'")

from diagnostic_msgs.msg import DiagnosticArray

JOINT, LAG_S = "arm_left_4_joint", 0.2
LIMIT_NS = 100_000_000
"""Of the time between two joint states that are compared; on a full computer the node may be late."""


@pytest.fixture(scope="module")
def sim(rig):
    return rig.start(
        "sim", "hsr.robot_sim_node", "--ros-args", "-p", "robot:=talos", "-p", f"time_constant_s:={LAG_S}",
        "-p", "play_operator:=true",
    )  # fmt: skip


@pytest.fixture(scope="module")
def states(rig, sim):
    return rig.listen(JointState, "/joint_states", qos.robot_joint_states())


def test_all_joints_are_published_and_are_marked_as_simulated(rig, states):
    first = rig.wait(lambda: states[-1] if states else None, "joint states")
    assert first.header.frame_id == "simulated"
    assert {"arm_left_4_joint", "leg_left_4_joint", "head_1_joint"} <= set(first.name)
    assert len(first.position) == len(first.velocity) == len(first.name)


def test_a_command_is_followed_with_the_lag(rig, states):
    """Between any two joint states of one step the error falls by exp(-dt / lag), whenever they come."""
    rig.wait(lambda: states, "joint states")
    i = states[-1].name.index(JOINT)
    goal = states[-1].position[i] + 0.3
    commands = rig.node.create_publisher(JointState, "/human/retarget/joint_command", qos.joint_command())
    rig.wait(commands.get_subscription_count, "the simulated robot")
    commands.publish(JointState(name=[JOINT, "no_joint"], position=[goal, 1.0]))
    states.clear()
    rig.wait(lambda: states and abs(goal - states[-1].position[i]) < 0.01, "the joint to arrive")
    times = np.array([stamp_to_ns(state.header.stamp) for state in states])
    errors = np.array([goal - state.position[i] for state in states])
    under_way = np.flatnonzero((errors[:-1] < 0.29) & (np.diff(times) < LIMIT_NS))
    assert len(under_way) > 5
    expected = errors[under_way] * np.exp(-np.diff(times)[under_way] * 1e-9 / LAG_S)
    np.testing.assert_allclose(errors[under_way + 1], expected, atol=1e-9)
    np.testing.assert_allclose(states[-1].velocity[i], errors[-1] / LAG_S, atol=1e-9)
    others = np.delete(np.array([states[0].position, states[-1].position]), i, axis=1)
    np.testing.assert_array_equal(*others)


def test_a_command_that_is_torn_changes_nothing(rig, sim, states):
    commands = rig.node.create_publisher(JointState, "/human/retarget/joint_command", qos.joint_command())
    rig.wait(commands.get_subscription_count, "the simulated robot")
    states.clear()
    commands.publish(JointState(name=[JOINT], position=[]))
    rig.wait(lambda: "command ignored" in sim.tail(100), "the warning")
    assert sim.returncode is None


def test_it_is_silent_with_its_button_while_a_robot_is_there_and_says_so(rig, sim, states):
    told = rig.listen(DiagnosticArray, "/diagnostics", 10)

    def last_level() -> int:
        found = [s for array in told for s in array.status if s.name == "robot_sim: simulation"]
        return level(found[-1]) if found else -1

    rig.wait(lambda: last_level() == 1, "the warning that it is a simulation")
    levels = rig.listen(Joy, "/human/retarget/deadman", qos.deadman())
    rig.wait(lambda: levels, "the level of the deadman")
    assert levels[-1].buttons[0] == 0  # nobody has a status to press for
    robot = rig.node.create_publisher(JointState, "/joint_states", 1)
    rig.wait(lambda: last_level() == 2, "an error in the diagnostics")
    rig.wait(lambda: _silent(rig, states) and _silent(rig, levels), "silence")
    assert "a robot is there" in sim.tail(100)
    rig.node.destroy_publisher(robot)
    rig.wait(lambda: states, "the simulated robot to go on")


def _silent(rig, heard: list) -> bool:
    heard.clear()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        rig.executor.spin_once(timeout_sec=0.02)
    return not heard


def test_a_robot_that_is_not_there_stops_the_start_with_a_list(rig):
    for words, said in ((["-p", "robot:=taloss"], "talos"), ([], "jvrc1"), (["-p", "robt:=talos"], "robot")):
        process = rig.start("bad", "hsr.robot_sim_node", "--ros-args", *words)
        rig.wait(lambda process=process: process.returncode is not None, "the end")
        assert process.returncode == 1
        assert said in process.tail()
        assert "Traceback" not in process.tail()
        rig.stop(process)
