"""The part of a bring-up that lets a robot follow: its nodes' arguments, and what is told of them."""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hsr_msgs.msg import RetargetStatus
from rclpy.node import Node
from sensor_msgs.msg import JointState

from hsr_core.messages import stamp_to_ns
from hsr_core.retarget.mapping import built_in
from hsr_core.retarget.robot import Robot, load_robot

from . import qos
from .camera_mount import CameraMount, mount_of
from .meter import KEPT
from .parameter_files import check_pairs
from .stats import Window
from .throttled import Throttled
from .view_robot import FLAGS, MOVING, STATES, failing

RETARGET = "/human/retarget"
STATUS_HZ = 25.0
LONGEST_STEP_S = 0.1
"""Commands farther apart are no two points of one motion."""
TOLERANCE = 1e-6, 1.001
"""What rounding may add: to a position [rad], and as a factor on a speed."""
FOR_SIM = (
    "freshness.hold_s:=0.33",
    "freshness.stop_s:=1.5",
    "engage.speed_rad_s:=0.5",
    "engage.near_rad:=0.5",
    "feedback.timeout_s:=0.3",
)
"""What a simulated robot may: the most that is allowed, so that a demo on a busy computer does not hold all the time,
and catches up with a walker's arms."""
TOPICS = (
    ("/human/retarget/joint_command", "joint angles for the robot, 100 times a second"),
    ("/human/retarget/status", "state, flags, age, errors of each tick"),
    ("/joint_states", "where the robot's joints are"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of teleoperation."""
    parser.add_argument("--teleop", default="", metavar="ROBOT", help=f"a robot follows: {', '.join(built_in())}, or "
                        "the path of a mapping")  # fmt: skip
    parser.add_argument("--robot-mode", default="upper_body", metavar="MODE", help="mode of its mapping")
    parser.add_argument("--sim", action=argparse.BooleanOptionalAction, default=True, help="simulate the robot, and "
                        "play its operator; --no-sim: your robot publishes /joint_states, you press")  # fmt: skip
    parser.add_argument("--mount", default="", metavar="POSE", help="where the camera is: 'x y z roll pitch yaw' in "
                        "metres and degrees, z up; needed for a camera that TF does not lead to")  # fmt: skip
    parser.add_argument("--retarget-set", action="append", default=[], metavar="NAME:=VALUE", help="a parameter of "
                        "the retarget node")  # fmt: skip


class Teleop:
    """What a bring-up starts and tells when a robot follows.

    Args:
        options: With those of `add_arguments`.
        source: Of the images; "" = somebody else publishes them.

    Raises:
        HsrError: No such robot, one that fails its checks, or nothing says where the camera is.
    """

    def __init__(self, options: argparse.Namespace, source: str) -> None:
        check_pairs(options.retarget_set, "retarget")
        self._options, self.source = options, source
        world = next((p.partition(":=")[2] for p in options.set if p.startswith("world_frame:=")), "")
        self._mount, self._world = mount_of(source, options.mount, world)
        self.robot = load_robot(options.teleop, options.robot_mode)
        self.meter: TeleopMeter | None = None

    def begin(self, node: Node) -> None:
        """Tell where the camera is, and listen."""
        if self._mount:
            self._camera = CameraMount(node, self._mount, self._world)
        self.meter = TeleopMeter(node, self.robot)

    def perception_arguments(self) -> list[str]:
        """Return what perception must be told; before what is set by hand."""
        words = ["-p", f"world_frame:={self._world}"]
        # The clip shows passers-by, who cost time, and whom nobody shall follow.
        return words + (["-p", "people.max:=1"] if self.source == "clip" else [])

    def view_arguments(self) -> list[str]:
        return self._robot_arguments()

    def retarget_arguments(self) -> list[str]:
        words = self._robot_arguments()
        for pair in (*(FOR_SIM if self._options.sim else ()), *self._options.retarget_set):
            words += ["-p", pair]
        return words

    def sim_arguments(self) -> list[str] | None:
        """Return the simulated robot's arguments; None without one."""
        return [*self._robot_arguments(), "-p", "play_operator:=true"] if self._options.sim else None

    def _robot_arguments(self) -> list[str]:
        return ["-p", f"robot:={self._options.teleop}", "-p", f"robot_mode:={self._options.robot_mode}"]

    def greeting(self) -> Iterator[str]:
        """Yield lines for the start."""
        name, joints = self.robot.mapping.name, len(self.robot.joint_names)
        yield f"robot   {name}, {self._options.robot_mode}: {joints} joints"
        if self._options.sim:
            yield "        SIMULATED, and its operator is played: no hardware is commanded by this run"
        else:
            yield "        your robot: it moves after retarget/select, arm, engage and a press of the deadman"


class TeleopMeter:
    """Listens to the commands and the status; holds each command against the robot's limits.

    Args:
        robot: With the limits in force.
        clock_s: For the time in each state.

    Attributes:
        status: The newest, or None.
        commands: How many came, and were held against the limits.
        exceeded: Commands with a joint beyond its position limits, and with one faster than its velocity limit.
        fastest: Largest speed of a joint over its limit.
    """

    def __init__(self, node: Node | None, robot: Robot, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.status: RetargetStatus | None = None
        self.commands, self.exceeded, self.fastest = 0, Counter(position=0, velocity=0), 0.0
        self._robot, self._clock_s = robot, clock_s
        self._seconds: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._moving = 0
        self._state_s: float | None = None
        self._ages = Window(KEPT)
        self._last: tuple[int, np.ndarray] | None = None
        self._sent, self._sent_s = 0, 0.0
        if node is not None:
            for kind, topic, callback, profile, group in (
                (JointState, "retarget/joint_command", self.add_command, qos.joint_command(), None),
                (RetargetStatus, "retarget/status", self.add_status, qos.retarget_status(), Throttled(STATUS_HZ)),
            ):
                node.create_subscription(kind, topic, callback, profile, callback_group=group)

    def add_command(self, message: JointState) -> None:
        """Count a command, and whether it keeps the limits."""
        robot, position = self._robot, np.asarray(message.position)
        if tuple(message.name) != robot.joint_names:
            self.exceeded["joints"] += 1
            return
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.commands += 1
        slack_rad, factor = TOLERANCE
        beyond = (position < robot.lower - slack_rad) | (position > robot.upper + slack_rad)
        self.exceeded["position"] += bool(beyond.any())
        if self._last is not None:
            dt_s = (stamp_ns - self._last[0]) * 1e-9
            if 0 < dt_s <= LONGEST_STEP_S:
                speed = float((np.abs(position - self._last[1]) / robot.velocity).max(initial=0.0)) / dt_s
                self.fastest = max(self.fastest, speed)
                self.exceeded["velocity"] += speed > factor + slack_rad / dt_s
        self._last = stamp_ns, position

    def add_status(self, message: RetargetStatus) -> None:
        """Take the state of a tick."""
        now_s, last = self._clock_s(), self.status
        if last is not None and self._state_s is not None:
            self._seconds[STATES.get(last.state, "?")] += now_s - self._state_s
            if last.commanding and message.commanding and last.engagement == message.engagement:
                # Numbers of the commands, not commands that came: a busy computer reads the newest only.
                self._sent += message.seq - last.seq
                self._sent_s += (stamp_to_ns(message.header.stamp) - stamp_to_ns(last.header.stamp)) * 1e-9
        self.status, self._state_s = message, now_s
        if message.state in MOVING:  # in HOLD no frame is followed: the last one grows old
            self._moving += 1
            self._ages.add(message.age_ms)
            for bit, text in FLAGS.items():
                self._flags[text] += bool(message.flags & bit)

    def line(self) -> str:
        """Return a line for the report of a second."""
        if self.status is None:
            return "robot   no status yet"
        p50, p99 = self._ages.percentiles(50, 99, newest=3 * int(STATUS_HZ))
        state = STATES.get(self.status.state, "?")
        words = [f"robot   {state}", f"follows {self.status.operator_id or 'nobody'}", f"commands {self.commands}"]
        if math.isfinite(p50):
            words.append(f"age p50 {p50:.0f} p99 {p99:.0f} ms")
        words.append(f"limits exceeded {sum(self.exceeded.values())}")
        return "  ".join([*words, *_why_at_rest(self.status)])

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run."""
        p50, p99 = self._ages.percentiles(50, 99)
        counts = dict(zip(self.status.counter_names, self.status.counter_values, strict=False)) if self.status else {}
        return {
            "state": STATES.get(self.status.state, "?") if self.status else None,
            "state_seconds": {name: round(value, 2) for name, value in self._seconds.items()},
            "engagements": int(self.status.engagement) if self.status else 0,
            "commands_checked": self.commands,
            "command_hz": round(self._sent / self._sent_s, 2) if self._sent_s > 0 else None,
            "age_ms": {"p50": _rounded(p50), "p99": _rounded(p99)},
            "limits_exceeded": {name: int(count) for name, count in self.exceeded.items()},
            "speed_over_limit": round(self.fastest, 4),
            "flags_percent": {
                name: round(100 * count / self._moving, 1) for name, count in self._flags.items() if count
            },
            "counts": {name: int(value) for name, value in counts.items()},
        }


def _why_at_rest(status: RetargetStatus) -> list[str]:
    """Return why the robot does not move, in words; nothing where it does."""
    if status.state in MOVING:
        return []
    ended = status.state in (RetargetStatus.HOLD, RetargetStatus.STOPPED)
    why = status.reason if ended else f"waits for {failing(status) or 'engage and a press'}"
    return [f"{why} ({status.problem})" if status.problem else why]


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 1)
