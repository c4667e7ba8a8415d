"""The robot that follows, for the web view: its posture from `/joint_states`, its state from `retarget/status`.

What the page offers is safe from wherever it is opened: `stop` and `pause` can only end a motion. `arm`, `engage` and
`reset`, which move nothing by themselves, are offered where the page can be opened on this machine only. There is no
deadman on the page: a level that a browser holds says nothing of the hand on the mouse.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from hsr_msgs.msg import RetargetStatus
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hsr_core.retarget.parts import RobotParts
from hsr_core.retarget.robot import load_robot
from hsr_core.viz.snapshot import RobotView
from hsr_core.viz.web_robot import RobotOnPage

from . import qos
from .stats import Window
from .throttled import Throttled, unread

CELL_M = 0.01
"""Vertices in a cell of this size are one on the page: Talos has 71,000 triangles there instead of 159,000."""
PARTS = 20
"""Most joint states between two postures that are drawn."""
STATUS_HZ = 10.0
STALE_S = 2.0
SERVICE_S = 5.0
"""A button waits so long for a service that is not there yet: a page that was just opened still looks for it."""
MOVING = (RetargetStatus.ENGAGING, RetargetStatus.TRACKING)
STATES = {
    getattr(RetargetStatus, name): name.lower()
    for name in ("DISARMED", "READY", "ENGAGING", "TRACKING", "HOLD", "STOPPED")
}
FLAGS = {
    getattr(RetargetStatus, name): name.lower().replace("_", " ")
    for name in (
        "LIMITED_VELOCITY", "LIMITED_ACCELERATION", "AT_POSITION_LIMIT", "BARRIER_ACTIVE", "FALLBACK_QP", "INPUT_GATED",
        "JOINT_MISSING", "HOLDOVER", "DEPTH_GUESSED", "COLLISION",
    )
}  # fmt: skip
ALWAYS = (
    ("stop", "Brake, then send nothing, until reset. Not an emergency stop: that is a button on the robot"),
    ("pause", "Brake and hold; goes on at the next press of the deadman"),
)
ON_THIS_MACHINE = (
    ("arm", "Make ready; moves nothing"),
    ("engage", "Ask for it; moves nothing before the deadman is pressed"),
    ("reset", "After a stop, back to disarmed"),
)


def is_local(host: str) -> bool:
    """True where only this machine can open a page that is served on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def failing(status: RetargetStatus) -> str:
    """Return what an engagement waits for, in words; "" = nothing."""
    names = [name for name, green in zip(status.checks, status.checks_passed, strict=False) if not green]
    return ", ".join(names).replace("_", " ")


class RobotFeed:
    """Keeps messages as bytes; `view` decodes those that are drawn, and merges joints by name.

    Args:
        node: Its executor runs the callbacks.
        robot, mode: As `load_robot` takes them.
        rate_hz: Most postures per second.
        local: The page can be opened on this machine only.

    Raises:
        HsrError: The robot cannot be loaded.

    Attributes:
        on_page: For the web view.
    """

    def __init__(self, node: Node, robot: str, mode: str, rate_hz: float, local: bool) -> None:
        loaded = load_robot(robot, mode)
        self._parts = RobotParts(loaded, cell_m=CELL_M)
        self._q = loaded.neutral.copy()
        joints = zip(loaded.model.names, loaded.model.joints, strict=True)
        self._idx_q = {name: joint.idx_q for name, joint in joints if joint.nq == 1}
        self._node, self._rate_hz = node, rate_hz
        self._lock = threading.Lock()
        self._clear()
        actions = (*ALWAYS, *(ON_THIS_MACHINE if local else ()))
        self._clients = {label: node.create_client(Trigger, f"retarget/{label}") for label, _ in actions}
        self.on_page = RobotOnPage(loaded.mapping.name, self._parts.parts, self._parts.sole_m, actions, self._act)

    def subscribe(self, on_news: Callable[[], None]) -> list[Any]:
        """Return subscriptions, whose old messages are forgotten; `on_news` is called when there is a new posture."""
        self._clear()

        def on_joint_state(data: bytes) -> None:
            self.add_joint_state(data)
            for more in unread(subscriptions[0]):  # several drivers publish parts
                self.add_joint_state(more)
            on_news()

        def make(kind: type, topic: str, callback: Callable, profile: Any, hz: float) -> Any:
            return self._node.create_subscription(
                kind,
                topic,
                callback,
                profile,
                raw=True,
                callback_group=Throttled(hz),
                qos_overriding_options=qos.OVERRIDES,
            )

        subscriptions = [
            make(JointState, "/joint_states", on_joint_state, qos.joint_parts(), self._rate_hz),
            make(RetargetStatus, "retarget/status", self.add_status, qos.retarget_status(), STATUS_HZ),
        ]
        return subscriptions

    def add_joint_state(self, data: bytes) -> None:
        """Store a serialised JointState."""
        if data:  # now and then a raw take of rclpy gives nothing
            with self._lock:
                self._joint_states.append(data)
                self._heard_s = time.monotonic()

    def add_status(self, data: bytes) -> None:
        """Take a serialised RetargetStatus."""
        if data:
            status = deserialize_message(data, RetargetStatus)
            if status.state in MOVING:  # in HOLD no frame is followed: the last one grows old
                self._ages.add(status.age_ms)
            with self._lock:
                self._status = status, time.monotonic()

    def view(self) -> RobotView:
        """Return what to draw now."""
        with self._lock:
            joint_states, self._joint_states = self._joint_states, deque(maxlen=PARTS)
            heard_s, status = self._heard_s, self._status
        now = time.monotonic()
        fresh_status = status[0] if status and now - status[1] < STALE_S else None
        label = STATES.get(fresh_status.state, "?") if fresh_status else "no retarget node"
        for data in joint_states:
            self._take(deserialize_message(data, JointState))
        if now - heard_s > STALE_S:
            return RobotView(None, label, [("no joint states", "is the robot there?"), *self._rows(fresh_status)])
        return RobotView(self._parts.placements(self._q), label, self._rows(fresh_status))

    def _clear(self) -> None:
        with self._lock:
            self._joint_states: deque[bytes] = deque(maxlen=PARTS)
            self._heard_s = -math.inf
            self._status: tuple[RetargetStatus, float] | None = None
            self._ages, self._answer = Window(300), ""

    def _take(self, message: JointState) -> None:
        for name, value in zip(message.name, message.position, strict=False):
            i = self._idx_q.get(name)
            if i is not None and np.isfinite(value):
                self._q[i] = value

    def _rows(self, status: RetargetStatus | None) -> list[tuple[str, str]]:
        if status is None:
            return [("state", "no retarget node")]
        p50, p99 = self._ages.percentiles(50, 99)
        rows = [
            ("state", STATES.get(status.state, "?")),
            ("why", status.reason or "–"),
            ("follows", status.operator_id or "nobody"),
            ("missing", failing(status) or "–"),
            ("age p50 / p99", f"{p50:.0f} / {p99:.0f} ms" if math.isfinite(p50) else "–"),
            ("flags", ", ".join(text for bit, text in FLAGS.items() if status.flags & bit) or "–"),
        ]
        rows += [("problem", status.problem)] if status.problem else []
        return rows + ([("answer", self._answer)] if self._answer else [])

    def _act(self, label: str) -> None:
        """Call a service; called in a thread of the web server."""
        client = self._clients[label]
        self._answer = f"{label}: …"
        if not client.wait_for_service(SERVICE_S):
            self._answer = f"{label}: no retarget node"
            return
        client.call_async(Trigger.Request()).add_done_callback(lambda future: self._on_answer(label, future))

    def _on_answer(self, label: str, future: Any) -> None:
        answer = future.result()
        self._answer = f"{label}: {answer.message or ('done' if answer.success else 'refused')}"
