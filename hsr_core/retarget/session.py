"""Live retargeting without ROS: people and joint states in, one command a tick out.

session = Session(robot, settings, clock_ns)
session.on_joint_state(names, positions, stamp_ns)      # 50 Hz or more
session.on_people(people, stamp_ns, T_world_cam)        # each camera frame
session.on_deadman(level, stamp_ns)                     # 20 Hz or more
session.select(track_id); session.arm(); session.engage()   # then a press of the deadman
command = session.tick()                                # on a timer of its own
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import BadFrame
from ..types import Array, HumanEstimate, TrackState
from .command import Command, Flag, State
from .gate import SOMEBODY_ELSE, InputGate, Reason
from .governor import Governor
from .human import Human, from_estimate
from .retargeter import Retargeter
from .robot import Robot
from .settings import TeleopSettings


class Session:
    """Gate, retargeter and governor of one robot and one operator.

    `on_people`, the services and `tick` may run in threads of their own; all clocks are the one of `clock_ns`.

    Attributes:
        robot, settings: As given.
        gate, retargeter, governor: The parts.
        counts: Frames by what became of them.
    """

    def __init__(
        self, robot: Robot, settings: TeleopSettings | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.robot, self.settings = robot, settings or TeleopSettings()
        self.gate = InputGate(self.settings.gate)
        self.retargeter = Retargeter(robot, self.settings)
        self.governor = Governor(robot, self.settings, clock_ns, self._conditions)
        self.counts: Counter[str] = Counter()
        self._measured = robot.neutral.copy()
        self._lock = threading.RLock()  # of gate and retargeter; the governor has its own
        model = robot.model
        self._place = {
            name: joint.idx_q for name, joint in zip(model.names, model.joints, strict=True) if joint.nq == 1
        }
        self._row = {name: row for row, name in enumerate(robot.joint_names)}
        self._engagement = 0

    def on_joint_state(self, names: Sequence[str], positions: Array, stamp_ns: int) -> None:
        """Take measured joints, by name: all, or the part that one of several drivers knows.

        Names that the robot lacks, and values that are no numbers, are left out; each joint grows old by itself.
        """
        if len(names) != len(positions):  # a driver that sends efforts alone, too
            self.counts["joint_state_incomplete"] += 1
            return
        measured, rows, values = self._measured.copy(), [], []
        for name, value in zip(names, positions, strict=True):
            if name in self._place and np.isfinite(value):
                measured[self._place[name]] = value
                if name in self._row:
                    rows.append(self._row[name])
                    values.append(value)
        self._measured = measured  # as a whole: a frame may be at work on the last one
        if rows:
            self.governor.set_joint_state(values, stamp_ns, rows)

    def on_deadman(self, pressed: bool, stamp_ns: int) -> None:
        """Take the deadman's level."""
        self.governor.set_deadman(pressed, stamp_ns)

    def on_people(self, people: Sequence[HumanEstimate], stamp_ns: int, T_world_cam: Array | None) -> None:
        """Take everybody of one camera frame; only the operator is looked at.

        Args:
            people: Of the stream; empty = nobody.
            stamp_ns: Exposure.
            T_world_cam: (4, 4) with z up. None: no command comes of this frame.
        """
        with self._lock:  # whom a service chooses meanwhile is not lost with the last one
            self._on_people(people, stamp_ns, T_world_cam)

    def _on_people(self, people: Sequence[HumanEstimate], stamp_ns: int, T_world_cam: Array | None) -> None:
        operator = self.governor.operator
        if operator is None:
            return
        named = [one for one in people if one.track_id == operator]
        person = named[0] if len(named) == 1 else None
        if person is None or person.state is TrackState.LOST:
            self.lose_operator("operator lost" if len(named) < 2 else "two people have the operator's id")
        elif person.state is TrackState.PREDICTED:
            self.counts["predicted"] += 1  # nothing was seen: the frame's age says the rest
        else:
            try:
                self._on_human(
                    from_estimate(person, stamp_ns, T_world_cam, min_joint_score=self.settings.gate.joint_score)
                )
            except BadFrame:
                self.counts["no_transform"] += 1

    def on_human(self, person: Human) -> Reason:
        """Take one frame of the operator; return what the gate said."""
        with self._lock:
            return self._on_human(person)

    def _on_human(self, person: Human) -> Reason:
        if person.track_id != self.governor.operator:
            self.counts["identity"] += 1
            return Reason.JUMP
        if self.governor.in_future(person.stamp_ns):  # all that come after it would seem to run back
            self.counts["future_stamp"] += 1
            return Reason.ORDER
        reason = self.gate.judge(person)
        self.counts[reason.value] += 1
        if reason is not Reason.OK:
            self.governor.flag(Flag.INPUT_GATED)
            if self.gate.closed:
                if reason in SOMEBODY_ELSE:
                    self.lose_operator(f"input gate: {reason.value}")
                else:
                    self.governor.hold(f"input gate: {reason.value}")
            return reason
        self._retarget(person)
        return reason

    def _retarget(self, person: Human) -> None:
        state = self.governor.state
        if state in (State.ENGAGING, State.TRACKING) and self._engagement != self.governor.engagements:
            self._engagement = self.governor.engagements
            self._start_from_measured()
            self.retargeter.engage()
        else:
            self.retargeter.solver.set_frozen(self._measured)
        slow = self.settings.engage.speed_rad_s if state is State.ENGAGING else np.inf
        try:
            answer = self.retargeter.retarget(person, slow)
        except BadFrame:
            answer = None
        if answer is None:
            self.counts["no_target"] += 1
        else:
            self.governor.set_target(answer[0])

    def _start_from_measured(self) -> None:
        q = self._measured.copy()
        if self.robot.floating:  # joint states do not hold the base: it stays where it was put
            q[:7] = self.retargeter.solver.q[:7]
        self.retargeter.start_from(q)

    def lose_operator(self, reason: str) -> None:
        """Hold and forget whom the robot followed: who comes next must be chosen."""
        with self._lock:
            self.governor.unlock(reason)
            self.gate.reset()
            self.retargeter.forget()

    def on_clock_jump(self, reason: str) -> None:
        """The clock was set: hold, and begin anew with everybody. A person must choose the operator again."""
        with self._lock:
            self.governor.clock_jumped(reason)
            self.gate.reset()
            self.retargeter.forget()

    # services

    def select(self, track_id: int) -> None:
        """Choose the operator; refused while the robot moves.

        Raises:
            ConfigError: The robot follows somebody.
        """
        with self._lock:
            self.governor.lock(track_id)
            self.gate.reset()
            self.retargeter.forget()
            self._start_from_measured()

    def arm(self) -> str:
        """See `Governor.arm`."""
        return self.governor.arm()

    def engage(self) -> str:
        """See `Governor.engage`; a person whose lengths are not known yet is not engaged."""
        if self.gate.lengths.frozen is None:
            return "the operator has not been seen for long enough"
        return self.governor.engage()

    def pause(self) -> str:
        """See `Governor.pause`."""
        return self.governor.pause()

    def stop(self) -> str:
        """See `Governor.stop`."""
        return self.governor.stop()

    def reset(self) -> str:
        """See `Governor.reset`."""
        return self.governor.reset()

    def checks(self) -> dict[str, bool]:
        """Return what must be true to engage."""
        return self.governor.checks()

    def _conditions(self) -> dict[str, bool]:
        return {"person_known": self.gate.lengths.frozen is not None, "gate": not self.gate.closed}

    def tick(self) -> Command | None:
        """See `Governor.tick`."""
        return self.governor.tick()
