"""The retargeting node's publishers. Messages are kept and written over: a tick allocates little."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from contextlib import suppress

import numpy as np
from builtin_interfaces.msg import Duration, Time
from hsr_msgs.msg import RetargetStatus
from rclpy.duration import Duration as Timeout
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from hsr_core.engagement import COMMAND, STATUS
from hsr_core.geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from hsr_core.retarget.command import Command, Flag, State
from hsr_core.retarget.robot import Robot
from hsr_core.retarget.session import Session
from hsr_core.types import Array

from . import qos
from .retarget_params import RetargetSettings
from .retarget_people import People
from .retarget_record import Recorder
from .stamps import NS
from .stats import Counters

COMMAND_TOPIC, STATUS_TOPIC = "retarget/joint_command", "retarget/status"
TRAJECTORY_TOPIC = "retarget/joint_trajectory"
STATES = {state: getattr(RetargetStatus, state.name) for state in State}
FLAGS = {flag: getattr(RetargetStatus, flag.name) for flag in Flag if flag}
FLUSH_S = 0.2
COUNT_EVERY = 10
"""Counters are read at every tenth tick."""


class RetargetOutputs:
    """Publishes the command and the status of each tick. Used by the thread that ticks."""

    def __init__(self, node: LifecycleNode, robot: Robot, settings: RetargetSettings) -> None:
        self._node = node
        self._command, self._status = _CommandMessage(robot), _StatusMessage(robot)
        self._trajectory = _TrajectoryMessage(robot, 1 / settings.rate_hz) if settings.publish.trajectory else None
        create = node.create_lifecycle_publisher
        self._publishers = [create(JointState, COMMAND_TOPIC, qos.joint_command())]
        self._publishers += [create(RetargetStatus, STATUS_TOPIC, qos.retarget_status())]
        if self._trajectory is not None:
            self._publishers += [create(JointTrajectory, TRAJECTORY_TOPIC, qos.joint_command())]

    def topics(self) -> dict[str, str]:
        """Return full names by the keys of a recording."""
        resolve = self._node.resolve_topic_name
        return {COMMAND: resolve(COMMAND_TOPIC), STATUS: resolve(STATUS_TOPIC)}

    def rivals(self) -> str:
        """Return who else commands the robot; "" = nobody."""
        node = self._node
        names = [COMMAND_TOPIC] + [TRAJECTORY_TOPIC] * (self._trajectory is not None)
        topics = [topic for topic in map(node.resolve_topic_name, names) if node.count_publishers(topic) > 1]
        return "; ".join(f"several publish on {topic}: {qos.describe_publishers(node, topic)}" for topic in topics)

    def begin(self) -> None:
        """Forget what an earlier activation counted."""
        self._status.begin()

    def publish(
        self, command: Command | None, now_ns: int, session: Session, people: People, problem: str, counters: Counters,
        recorder: Recorder,
    ) -> None:  # fmt: skip
        """Publish what one tick gave, the command first; `problem` is what is wrong with the inputs."""
        if command is not None:
            data = self._command.serialise(command)
            self._publishers[0].publish(data)
            recorder.write(COMMAND, data)
            if self._trajectory is not None:
                self._publishers[2].publish(self._trajectory.serialise(command))
        status = self._status.serialise(command, now_ns, session, people, problem, counters)
        self._publishers[1].publish(status)
        recorder.write(STATUS, status)

    def flush(self) -> None:
        """Wait until whoever listens has what was sent, but not for ever: the last command is the one at rest."""
        patience = Timeout(seconds=FLUSH_S)
        with suppress(InvalidHandle):  # a signal may come while they are closed
            for publisher in self._publishers:
                publisher.wait_for_all_acked(patience)

    def close(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)


class _CommandMessage:
    def __init__(self, robot: Robot) -> None:
        self._msg = JointState(name=list(robot.joint_names))
        self._msg.position = self._msg.velocity = array("d", robot.lower.size * [0.0])
        self._position, self._velocity = _view(self._msg.position), _view(self._msg.velocity)

    def serialise(self, command: Command) -> bytes:
        _set_time(self._msg.header.stamp, command.command_stamp_ns)
        self._position[:], self._velocity[:] = command.position, command.velocity
        return serialize_message(self._msg)


class _TrajectoryMessage:
    """A trajectory of one point; without a stamp, for a controller starts such a one at once.

    It has positions only. A controller refuses a last point with a speed (ros2_control's default since Jazzy) and would
    take the first one at rest, from wherever the robot was left, in one step.
    """

    def __init__(self, robot: Robot, period_s: float) -> None:
        nanoseconds = round(period_s * NS)
        point = JointTrajectoryPoint(time_from_start=Duration(sec=nanoseconds // NS, nanosec=nanoseconds % NS))
        point.positions = array("d", robot.lower.size * [0.0])
        self._position = _view(point.positions)
        self._msg = JointTrajectory(joint_names=list(robot.joint_names), points=[point])

    def serialise(self, command: Command) -> bytes:
        self._position[:] = command.position
        return serialize_message(self._msg)


class _StatusMessage:
    def __init__(self, robot: Robot) -> None:
        self._tasks = [part for part, link in robot.mapping.links.items() if link.position or link.orientation]
        self._msg = RetargetStatus(robot=robot.mapping.name, joint_names=list(robot.joint_names), age_ms=math.nan)
        self._views: dict[str, Array] = {}
        self._count_in = 0

    def begin(self) -> None:
        """Count anew."""
        self._count_in = 0

    def serialise(
        self, command: Command | None, now_ns: int, session: Session, people: People, problem: str, counters: Counters
    ) -> bytes:
        msg, governor = self._msg, session.governor
        checks = session.checks()
        state, reason, operator = governor.state, governor.reason, governor.operator
        msg.header.frame_id = people.world_frame
        msg.state, msg.reason = STATES[state if command is None else command.state], reason
        msg.problem = problem
        msg.operator_id, msg.operator_track_id = people.letters(), operator or 0
        msg.checks, msg.checks_passed = list(checks), list(checks.values())
        msg.engagement = governor.engagements
        if (command is not None) != msg.commanding:
            self._switch(command is not None)
        if command is None:
            _set_time(msg.header.stamp, now_ns)
        else:
            self._fill(command)
        self._count(session, counters)
        return serialize_message(msg)

    def _switch(self, commanding: bool) -> None:
        """Put the numbers of a command in, or take them out."""
        msg = self._msg
        msg.commanding = commanding
        sizes = dict.fromkeys(("position", "velocity", "target"), len(msg.joint_names))
        sizes |= dict.fromkeys(("task_error_m", "task_error_rad"), len(self._tasks))
        for name, size in sizes.items():
            field = array("f" if name.startswith("task") else "d", size * commanding * [0.0])
            setattr(msg, name, field)
        self._views = {name: _view(getattr(msg, name)) for name in sizes if commanding}
        msg.tasks = self._tasks if commanding else []
        if not commanding:
            msg.exposure_stamp, msg.age_ms, msg.seq, msg.flags, msg.hand_mode = Time(), math.nan, 0, 0, ""
            msg.t_world_base = array("d")

    def _fill(self, command: Command) -> None:
        msg, views = self._msg, self._views
        _set_time(msg.header.stamp, command.command_stamp_ns)
        _set_time(msg.exposure_stamp, command.stamp_ns)
        msg.age_ms, msg.seq, msg.flags = command.age_ms, command.seq, int(command.flags)
        msg.hand_mode = command.hand_mode
        for name in ("position", "velocity", "target"):
            views[name][:] = getattr(command, name)
        for name in ("task_error_m", "task_error_rad"):
            errors = getattr(command, name)
            views[name][:] = [errors.get(task, math.nan) for task in self._tasks]
        if command.T_world_base is not None:
            msg.t_world_base = array("d", _xyz_xyzw(command.T_world_base))

    def _count(self, session: Session, counters: Counters) -> None:
        self._count_in -= 1
        if self._count_in > 0:
            return
        self._count_in = COUNT_EVERY
        counts = all_counts(session, counters)
        self._msg.counter_names, self._msg.counter_values = list(counts), array("Q", counts.values())


def all_counts(session: Session, counters: Counters) -> dict[str, int]:
    """Return every count of a session by name: of messages, frames, the governor, and the solver's fallbacks."""
    parts: tuple[tuple[str, Counter[str] | dict[str, int]], ...] = (
        ("input", {name: n for name, n in counters.snapshot().items() if name not in Counters.FRAME}),
        ("frames", session.counts.copy()),
        ("governor", session.governor.counts.copy()),
        ("fallbacks", session.retargeter.solver.counts.copy()),
    )
    return {f"{part}: {name}": n for part, counts in parts for name, n in counts.items()}


def _view(field: array) -> Array:
    """Return a field of a message as numbers that can be written over in place; setting it would copy each time."""
    return np.frombuffer(field, field.typecode)


def _set_time(time: Time, stamp_ns: int) -> None:
    time.sec, time.nanosec = stamp_ns // NS, stamp_ns % NS


def _xyz_xyzw(T: Array) -> Array:
    return np.concatenate([T[:3, 3], wxyz_to_xyzw(rotmat_to_quat_wxyz(T[:3, :3]))])
