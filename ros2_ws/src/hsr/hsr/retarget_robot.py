"""What the robot and the hand at the deadman say: their messages to a retargeting session."""

from __future__ import annotations

import math
import time

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState, Joy

from hsr_core.retarget.session import Session
from hsr_core.types import Array

from .notices import Notices
from .retarget_clock import TeleopClock
from .stamps import stamp_to_ns
from .stats import Counters, Rate

JUMP_RAD, JUMP_SPEED = 0.2, 2.0
"""Beyond this, and this many times what its limit of speed allows, no joint moves: somebody else measured it."""
DOUBT_S = 1.0
"""So long after a jump no joint state is taken: which of two publishers is the robot cannot be known."""
SHOWN = 4
"""So many joints are named in a message, and the number of the others."""


class RobotJoints:
    """Hands measured joints to the session.

    Attributes:
        problem: What is wrong with the newest message; "" = nothing.
        age_s: Of the newest usable message when it came; a robot whose clock differs shows it.
        rate: Of messages.
    """

    def __init__(self, session: Session, clock: TeleopClock, counters: Counters, notices: Notices) -> None:
        self._session, self._clock, self._counters, self._notices = session, clock, counters, notices
        self._joints = session.robot.joint_names
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._missing: tuple[str, ...] = self._joints
        self._reach = JUMP_SPEED * session.robot.velocity
        self._last: tuple[Array, int, float] | None = None
        self._doubt = -float("inf"), ""
        self.problem, self.age_s, self.rate = "", math.nan, Rate()

    def take(self, data: bytes) -> None:
        """Take a serialised JointState; one that cannot be used is counted, and `problem` names the joints."""
        self.rate.tick()
        try:
            msg = deserialize_message(data, JointState)
        except Exception as error:  # rclpy has no error of its own for bytes that are no such message
            self._refuse(f"a joint state that cannot be read: {error}")
            return
        stamp_ns = stamp_to_ns(msg.header.stamp)
        problem = self._problem(msg, stamp_ns)
        if problem:
            self._refuse(problem)
            return
        self.age_s = (self._clock() - stamp_ns) * 1e-9
        self._session.on_joint_state(msg.name, msg.position, stamp_ns)
        self.problem = ""

    def _problem(self, msg: JointState, stamp_ns: int) -> str:
        if stamp_ns == 0:
            return "the joint state has no stamp"
        if len(msg.position) != len(msg.name):
            return f"the joint state has {len(msg.name)} names and {len(msg.position)} positions"
        if msg.name != self._names:
            self._names, self._places = msg.name, {name: place for place, name in enumerate(msg.name)}
            self._missing = tuple(name for name in self._joints if name not in self._places)
        if self._missing:
            return f"the joint state lacks {_some(self._missing)}"
        q = np.array([msg.position[self._places[name]] for name in self._joints])
        wrong = [name for name, value in zip(self._joints, q, strict=True) if not math.isfinite(value)]
        return f"the joint state is not finite at {_some(wrong)}" if wrong else self._jump(q, stamp_ns)

    def _jump(self, q: Array, stamp_ns: int) -> str:
        """Return which joint moved farther than it can since the last state, now or a moment ago."""
        now_s, last, doubt = time.monotonic(), self._last, self._doubt
        self._last = q, stamp_ns, now_s
        if last is not None:
            elapsed_s = max((stamp_ns - last[1]) * 1e-9, now_s - last[2])
            over = np.abs(q - last[0]) - self._reach * elapsed_s
            worst = int(over.argmax())
            if over[worst] > JUMP_RAD:
                why = f"the joint state jumps at {self._joints[worst]}: several publish it, or a sensor is broken"
                doubt = self._doubt = now_s, why
        return doubt[1] if now_s - doubt[0] < DOUBT_S else ""

    def _refuse(self, problem: str) -> None:
        self._counters.add("bad_joint_states")
        self.problem = problem
        self._notices.warn(("joint state", problem), problem, every_s=60.0)


class Deadman:
    """Hands the level of the deadman's button to the session.

    Attributes:
        problem: What is wrong with the newest message; "" = nothing.
        pressed: Of the newest message.
        publishers: How many there are; of several that differ, one would seem to press and release.
        age_s: Of the newest message when it came.
        rate: Of messages.
    """

    def __init__(self, session: Session, clock: TeleopClock, counters: Counters, notices: Notices, button: int) -> None:
        self._session, self._clock, self._counters, self._notices = session, clock, counters, notices
        self._button = button
        self.problem, self.pressed, self.age_s, self.rate = "", False, math.nan, Rate()
        self.publishers = 1

    def take(self, msg: Joy) -> None:
        """Take a message; one without the button is a released button, one without a stamp is nothing."""
        self.rate.tick()
        stamp_ns = stamp_to_ns(msg.header.stamp)
        there = len(msg.buttons) > self._button
        self.problem = ""
        if not there:
            self._refuse(f"the deadman's message has {len(msg.buttons)} buttons, none of number {self._button}")
        if self.publishers > 1:
            self._refuse(f"the deadman has {self.publishers} publishers: it counts as released")
        self.pressed = there and self.publishers == 1 and msg.buttons[self._button] == 1
        if stamp_ns == 0:
            self._refuse("the deadman's message has no stamp: it is not used")
            return
        self.age_s = (self._clock() - stamp_ns) * 1e-9
        self._session.on_deadman(self.pressed, stamp_ns)

    def _refuse(self, problem: str) -> None:
        self._counters.add("bad_deadman")
        self.problem = problem
        self._notices.error(("deadman", problem), problem)


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
