"""What the robot and the hand at the deadman say: their messages to a retargeting session."""

from __future__ import annotations

import math
import time

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState, Joy

from hsr_core.near_names import some_of
from hsr_core.retarget.session import Session

from .notices import Notices
from .retarget_clock import TeleopClock
from .stamps import stamp_to_ns
from .stats import Counters, Rate

JUMP_RAD, JUMP_SPEED = 0.2, 2.0
"""Beyond this, and this many times what its limit of speed allows, no joint moves: somebody else measured it."""
DOUBT_S = 1.0
"""So long after a jump no joint state is taken: which of two publishers is the robot cannot be known."""


class RobotJoints:
    """Hands measured joints to the session: of one driver, or of several that publish parts on one topic.

    Attributes:
        age_s: Of the newest usable message when it came; a robot whose clock differs shows it.
        rate: Of messages.
    """

    def __init__(self, session: Session, clock: TeleopClock, counters: Counters, notices: Notices) -> None:
        self._session, self._clock, self._counters, self._notices = session, clock, counters, notices
        self._names = session.robot.joint_names
        self._row = {name: row for row, name in enumerate(self._names)}
        self._reach = JUMP_SPEED * session.robot.velocity
        n = len(self._names)
        self._last, self._last_ns, self._last_s = np.zeros(n), np.zeros(n, np.int64), np.full(n, -np.inf)
        self._doubt = self._refused = -math.inf, ""
        self.age_s, self.rate = math.nan, Rate()

    @property
    def problem(self) -> str:
        """Why it is not known where the robot is, with the joints that nobody tells of; "" = it is known."""
        old = self._session.governor.old_joints()
        if not old:
            return ""
        if self.rate.hz() == 0:
            return "no joint states arrive"
        never = [name for name, age_s in old.items() if age_s == math.inf]
        silent = [name for name, age_s in old.items() if age_s < math.inf]
        at_s, refused = self._refused
        parts = [refused] if time.monotonic() - at_s < DOUBT_S else []
        if never:
            parts.append(f"no joint state names {some_of(never)}")
        if silent:  # without the age: a text that stays can be told once
            parts.append(f"the joint state of {some_of(silent)} is too old")
        return "; ".join(parts)

    def take(self, data: bytes) -> None:
        """Take a serialised JointState; one that cannot be used is counted."""
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

    def _problem(self, msg: JointState, stamp_ns: int) -> str:
        if stamp_ns == 0:
            return "the joint state has no stamp"
        if len(msg.position) != len(msg.name):
            return f"the joint state has {len(msg.name)} names and {len(msg.position)} positions"
        mine = {self._row[name]: q for name, q in zip(msg.name, msg.position, strict=True) if name in self._row}
        wrong = [self._names[row] for row, q in mine.items() if not math.isfinite(q)]
        return f"the joint state is not finite at {some_of(wrong)}" if wrong else self._jump(mine, stamp_ns)

    def _jump(self, mine: dict[int, float], stamp_ns: int) -> str:
        """Return which joint moved farther than it can since it was last measured, now or a moment ago."""
        rows, q, now_s = np.array(list(mine), np.intp), np.array(list(mine.values())), time.monotonic()
        elapsed_s = np.maximum((stamp_ns - self._last_ns[rows]) * 1e-9, now_s - self._last_s[rows])
        over = np.abs(q - self._last[rows]) - self._reach[rows] * elapsed_s
        self._last[rows], self._last_ns[rows], self._last_s[rows] = q, stamp_ns, now_s
        if np.any(over > JUMP_RAD):
            joint = self._names[rows[over.argmax()]]
            self._doubt = now_s, f"the joint state jumps at {joint}: several publish it, or a sensor is broken"
        at_s, why = self._doubt
        return why if now_s - at_s < DOUBT_S else ""

    def _refuse(self, problem: str) -> None:
        self._counters.add("bad_joint_states")
        self._refused = time.monotonic(), problem
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
