"""A retargeting node in a process of its own; the test plays people, the robot and the hand at the deadman."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from core.retarget.people import person, unit
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import LIMIT_S, Rig
from hsr import convert
from hsr.lifecycle import LifecycleClient
from hsr.stamps import header, stamp_to_ns
from hsr_msgs.msg import Human, HumanArray, RetargetStatus
from hsr_msgs.srv import SelectHuman
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

from hsr_core.body.joints import N_JOINTS, J
from hsr_core.retarget.human import POINTS, SMPLX_NAMES

CAMERA, WORLD = "camera_color_optical_frame", "map"
R_WORLD_CAM = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
"""The camera looks at the person's front: x to their left, y down."""
T_WORLD_CAM = (3.0, 0.0, 1.2)
ROWS = [J[SMPLX_NAMES[name]] for name in POINTS]
LATENCY_NS, FRAME_S, ROBOT_S, DEADMAN_S = 30_000_000, 1 / 30, 0.01, 0.02
NAMES = {getattr(RetargetStatus, name): name for name in
         ("DISARMED", "READY", "ENGAGING", "TRACKING", "HOLD", "STOPPED")}  # fmt: skip
TESTS = Path(__file__).parents[1]
PATIENT = (
    "robot:=g1", "diagnostic_updater.period:=0.2", "limits.velocity_scale:=0.25", "freshness.hold_s:=1.3",
    "freshness.stop_s:=5.0", "feedback.timeout_s:=1.0", "deadman.timeout_s:=0.5",
)  # fmt: skip
"""For a busy machine: a slow robot may be blind for longer."""


def waving(t_s: float) -> dict:
    """Arms between hanging and reaching to the front, each in its own time."""
    out = {}
    for side, y, period_s in (("left", 1, 3.0), ("right", -1, 4.0)):
        s = 0.5 - 0.5 * np.cos(2 * np.pi * t_s / period_s)
        out[f"{side}_arm"] = (unit(0.1 + 0.5 * s, 0.3 * y, -1 + 0.5 * s), unit(0.9, 0.1 * y, -0.3 + 0.5 * s))
    return out


def human(stamp_ns: int, track_id: int = 1, *, primary: bool = True, fields: dict | None = None, **how: Any) -> Human:
    """Return a made-up person; `how` goes to `core.retarget.people.person`, `fields` into the message."""
    made = person(0.0, how.pop("limbs", None) or waving(stamp_ns * 1e-9 % 12), track_id=track_id, **how)
    R = R_WORLD_CAM.T
    joints = np.tile((made.points[0] - T_WORLD_CAM) @ R.T, (N_JOINTS, 1))
    joints[ROWS] = (made.points - T_WORLD_CAM) @ R.T
    quats, score = np.tile([0.0, 0, 0, 1], (N_JOINTS, 1)), np.zeros(N_JOINTS)
    quats[ROWS], score[ROWS] = Rotation.from_matrix(R @ made.rotations).as_quat(), 0.9
    values = {
        "id": convert.body_id(track_id), "track_id": track_id, "state": Human.TRACKED, "primary": primary,
        "confidence": 0.9, "metric_source": Human.METRIC_DEPTH_CAMERA, "parts": Human.BODY,
        "joints": np.float32(joints).reshape(-1), "joint_quats_xyzw": np.float32(quats).reshape(-1),
        "joint_score": np.float32(score), "head_scale": np.ones(3, np.float32),
    }  # fmt: skip
    return Human(**{**values, **(fields or {})})


def people(stamp_ns: int, humans: Iterable[Human], **fields: Any) -> HumanArray:
    pose = np.concatenate([T_WORLD_CAM, Rotation.from_matrix(R_WORLD_CAM).as_quat()])
    values = {"header": header(stamp_ns, CAMERA), "source": HumanArray.SMOOTHED, "world_frame": WORLD,
              "t_world_cam": pose, "model_id": "test", "humans": list(humans)}  # fmt: skip
    return HumanArray(**{**values, **fields})


class Teleop:
    """The node and everybody around it.

    Attributes:
        present: What to `human` of each person who is there, by track id.
        spoil: Is given each message of people before it is sent, and returns what is sent instead; None = nothing.
        joints: The robot's, by name; it stands where it was told to.
        spoil_joints: As `spoil`, of the robot's messages.
        pressed: Of the deadman; None = silent.
        now_ns: The clock of all stamps.
    """

    def __init__(self, rig: Rig, *parameters: str, activate: bool = True, plays_people: bool = True) -> None:
        self.rig = rig
        arguments = ["--ros-args"]
        for pair in parameters or PATIENT:
            arguments += ["-p", pair]
        self.process = rig.start("retarget", "hsr.retarget_node", *arguments)
        self.lifecycle = LifecycleClient(rig.node, rig.executor, "/human/retarget")
        self.status = rig.listen(RetargetStatus, "/human/retarget/status", 100)
        self.commands: list[JointState] = []
        self.diagnostics = rig.listen(DiagnosticArray, "/diagnostics", 100)
        node = rig.node
        self.present: dict[int, dict] = {1: {}}
        self.joints: dict[str, float] = {}
        self.pressed: bool | None = False
        self.now_ns: Callable[[], int] = time.time_ns
        self.spoil: Callable[[HumanArray], HumanArray | bytes | None] = lambda msg: msg
        self.spoil_joints: Callable[[JointState], JointState | bytes | None] = lambda msg: msg
        node.create_subscription(JointState, "/human/retarget/joint_command", self._on_command, 100)
        self._people = node.create_publisher(HumanArray, "/human/people", 5)
        self._joints = node.create_publisher(JointState, "/joint_states", 5)
        self._deadman = node.create_publisher(Joy, "/human/retarget/deadman", 5)
        self._publishers = [self._people, self._joints, self._deadman]
        self._clients = {name: node.create_client(Trigger, f"/human/retarget/{name}")
                         for name in ("arm", "engage", "pause", "stop", "reset")}  # fmt: skip
        self._clients["select"] = node.create_client(SelectHuman, "/human/retarget/select")
        self._timers = [node.create_timer(ROBOT_S, self._play_robot), node.create_timer(DEADMAN_S, self._play_deadman)]
        if plays_people:
            self._timers.append(node.create_timer(FRAME_S, self._play_people))
        if activate:
            self.change("configure")
            self.change("activate")

    # The others

    def _play_people(self) -> None:
        stamp_ns = self.now_ns() - LATENCY_NS
        humans = [human(stamp_ns, track_id, **how) for track_id, how in self.present.items()]
        sent = self.spoil(people(stamp_ns, humans))
        if sent is not None:
            self._people.publish(sent)

    def _play_robot(self) -> None:
        if not self.joints:
            return
        msg = JointState(header=header(self.now_ns(), ""), name=list(self.joints), position=list(self.joints.values()))
        sent = self.spoil_joints(msg)
        if sent is not None:
            self._joints.publish(sent)

    def _play_deadman(self) -> None:
        if self.pressed is not None:
            self._deadman.publish(Joy(header=header(self.now_ns(), ""), buttons=[int(self.pressed), 0]))

    def _on_command(self, msg: JointState) -> None:
        self.commands.append(msg)
        self.joints |= dict(zip(msg.name, msg.position, strict=True))

    # The test

    def change(self, transition: str, expected: bool = True) -> None:
        assert self.lifecycle.change(transition, LIMIT_S) == expected, self.process.tail()

    def ask(self, name: str, **fields: Any) -> Any:
        """Call a service; return its answer."""
        client = self._clients[name]
        self.rig.wait(client.service_is_ready, f"service {name}")
        future = client.call_async(client.srv_type.Request(**fields))
        self.rig.wait(future.done, f"answer of {name}")
        return future.result()

    @property
    def state(self) -> str:
        return NAMES[self.status[-1].state] if self.status else ""

    @property
    def checks(self) -> dict[str, bool]:
        return dict(zip(self.status[-1].checks, self.status[-1].checks_passed, strict=True))

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        return self.rig.wait(condition, f"{what}; the newest status: {self.status[-1:]}", limit_s)

    def wait_state(self, *names: str) -> RetargetStatus:
        """Wait for a state from now on."""
        begin = len(self.status)
        self.wait(lambda: len(self.status) > begin and self.state in names, f"state {names}")
        return self.status[-1]

    def start(self) -> None:
        """Make the node active and put the robot somewhere, where a test before has not."""
        for state, transition in (("unconfigured", "configure"), ("inactive", "activate")):
            if self.lifecycle.state(LIMIT_S) == state:
                self.change(transition)
        if not self.joints:
            self.stand()

    def more(self, n: int = 5) -> list[RetargetStatus]:
        """Wait for so many more statuses, and return them."""
        begin = len(self.status)
        self.wait(lambda: len(self.status) >= begin + n, f"{n} more statuses")
        return self.status[begin:]

    def stand(self, **joints: float) -> None:
        """Put the robot at rest somewhere, all other joints at 0; only while nothing moves it."""
        self.wait(lambda: self.status, "a status")
        self.joints = dict.fromkeys((*self.status[-1].joint_names, "some_other_joint"), 0.0) | joints

    def track(self, operator: int = 1, limit_s: float = 3 * LIMIT_S) -> None:
        """From any state to TRACKING, as a person would do it; what a busy machine interrupts is begun again."""
        self.start()
        deadline = time.monotonic() + limit_s
        while self.state != "TRACKING":
            assert time.monotonic() < deadline, f"never TRACKING: {self.status[-1:]}\n{self.process.tail(30)}"
            self._go_on(operator)

    def _go_on(self, operator: int) -> None:
        self.more(2)
        if self.state == "STOPPED":
            self.ask("reset")
        elif self.state == "DISARMED":
            self.pressed = False
            self.ask("arm")
        elif self.state in ("READY", "HOLD"):
            self.pressed = False
            locked = self.status[-1].operator_track_id == operator
            if not locked and not self.ask("select", id=convert.body_id(operator)).ok:
                return  # not seen yet
            self.wait(lambda: self.ready() or self.state == "STOPPED", "all checks but the deadman")
            if self.state == "READY":
                self.ask("engage")
            self.more(10)  # the released level has been heard
            self.pressed = True
            self.more(20)
        else:
            self.wait(lambda: self.state != "ENGAGING", "the end of the slow start")

    def ready(self) -> bool:
        return all(passed for name, passed in self.checks.items() if name != "deadman")

    def diagnosis(self, part: str) -> DiagnosticStatus:
        """Return the status of a part from now on."""
        self.diagnostics.clear()

        def newest() -> DiagnosticStatus | None:
            return next(
                (s for one in reversed(self.diagnostics) for s in one.status if s.name == f"retarget: {part}"), None
            )

        return self.rig.wait(newest, f"diagnostics of {part}")

    def close(self) -> None:
        """Play nothing any more: of two who play, the node would trust neither."""
        for timer in self._timers:
            self.rig.node.destroy_timer(timer)
        for publisher in self._publishers:
            self.rig.node.destroy_publisher(publisher)
        self._timers, self._publishers = [], []


def stamps(messages: list) -> np.ndarray:
    return np.array([stamp_to_ns(msg.header.stamp) for msg in messages])


def with_tests(environ: dict[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which a process finds the tests' modules."""
    path = os.pathsep.join((str(TESTS / "ros"), str(TESTS), os.environ.get("PYTHONPATH", "")))
    return {**(environ or {}), "PYTHONPATH": path}
