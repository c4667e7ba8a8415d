"""The last stage before a robot: it owns time, and bounds speed, acceleration and staleness of whatever comes.

It bounds what the software sends. It is no safety-rated function: the robot keeps its own emergency stop, torque limits
and balance controller.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError, ShapeError
from ..near_names import some_of
from ..types import Array
from .command import MOVING, Command, Flag, State, Target
from .motion import BoundedMotion
from .settings import TeleopSettings, check
from .states import TRANSITIONS, Event, after

log = logging.getLogger(__name__)

MIN_DT_S, MAX_DT_S = 1e-3, 0.1
"""A tick sooner after the last repeats its command; a later one moves as far as it would in this time [s]."""
PERIOD_LIMITS_S = (1 / 240, 0.2)
"""Of the source's period, which the reference takes from one target to the next [s]."""
OUTSIDE_RAD = 0.05
"""A robot that stands farther outside its limits is not engaged [rad]."""
NEVER_NS = -(1 << 62)
"""Stamp of a joint that nobody has measured yet."""

F = TypeVar("F", bound=Callable[..., Any])


class Joints(Protocol):
    """What the governor needs of a robot (`Robot` has it); arrays are (n,)."""

    joint_names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    floating: bool
    moves_legs: bool
    fastest_arm_rad_s: float


def _locked(method: F) -> F:
    """Let one thread at a time into the governor: two events at once must not undo each other."""

    @wraps(method)
    def run(self: Governor, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast(F, run)


class Governor:
    """State machine and bounded motion. Every method may be called from any thread.

    Every input is stamped with the same clock as `clock_ns`, in nanoseconds.

    Attributes:
        state: See `states.TRANSITIONS`.
        reason: Why it is in this state, for people.
        operator: The locked track id; None: nobody.
        engagements: How often the robot began to follow.
        counts: Of inputs that were not used, and of holds and stops, by reason.
    """

    def __init__(
        self,
        robot: Joints,
        settings: TeleopSettings | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        conditions: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        """Check the settings against the robot.

        Args:
            robot: Joints and their limits.
            settings: Checked together; see `settings.check`.
            clock_ns: The one clock of all stamps [ns].
            conditions: What else must be true to engage, beside `checks`. It is called with the governor locked.

        Raises:
            ConfigError: Settings contradict each other, or legs are commanded without the setting that allows it.
        """
        self.settings = settings or TeleopSettings()
        check(self.settings, robot.fastest_arm_rad_s)
        if (robot.floating or robot.moves_legs) and not self.settings.allow_legs_and_base_on_hardware:
            raise ConfigError(
                "legs or a floating base are not commanded: use a mode with a fixed base such as upper_body, or set "
                "allow_legs_and_base_on_hardware for a simulator"
            )
        self.robot, self._clock_ns, self._conditions = robot, clock_ns, conditions
        self._lock = threading.RLock()
        n = len(robot.joint_names)
        self.state, self.reason, self.operator = State.DISARMED, "start", None
        self.counts: Counter[str] = Counter()
        self._motion = BoundedMotion(robot.lower, robot.upper, robot.velocity, robot.acceleration)
        self._measured, self._measured_ns = np.zeros(n), np.full(n, NEVER_NS)
        self._all, self._oldest_ns = np.arange(n), NEVER_NS
        self._pressed, self._edge, self._deadman_ns = None, False, 0
        # The newest usable frame of the operator, and the one that is followed.
        self._new: Target | None = None
        self._target: Target | None = None
        self._newest_ns = 0
        self._from, self._to, self._reference, self._rate, self._scratch = (np.zeros(n) for _ in range(5))
        self._reference_ns, self._period_s = 0, 1 / self.settings.freshness.source_hz
        self._requested = False
        self._extra = Flag.NONE
        self._entered_ns = self._last_ns = clock_ns()
        self._error_since_ns: int | None = None
        self._seq = 0
        self.engagements = 0

    # inputs

    @_locked
    def set_joint_state(self, position: ArrayLike, stamp_ns: int, joints: Sequence[int] | None = None) -> None:
        """Take measured joints, [rad]. Each grows old by itself: what tells of some makes no other one look fresh.

        Args:
            position: Of the commanded joints, (n,), or of `joints`.
            stamp_ns: Of the measurement.
            joints: Which of the commanded joints they are; None: all.

        Raises:
            ShapeError: Another number of joints.
        """
        rows = self._all if joints is None else np.asarray(joints, np.intp)
        position, last_ns = np.asarray(position, np.float64), self._measured_ns[rows]
        if position.shape != rows.shape:
            raise ShapeError(f"a joint state must have shape {rows.shape}, not {position.shape}")
        if not np.isfinite(position).all():
            self.counts["joint_state_not_finite"] += 1
            return
        back = (stamp_ns < last_ns) & (self.state is not State.DISARMED)  # as in `_goes_back`
        newer = ~back & (not self.in_future(stamp_ns))
        if not newer.all():
            self.counts["joint_state_stamp"] += 1
        self._measured[rows[newer]], self._measured_ns[rows[newer]] = position[newer], stamp_ns
        self._oldest_ns = int(self._measured_ns.min())

    @_locked
    def set_deadman(self, pressed: bool, stamp_ns: int) -> None:
        """Take the deadman's level.

        Only a press right after a released level is an edge: silence is none. A release counts whatever its stamp; no
        press follows from one with a wrong stamp.
        """
        if self.in_future(stamp_ns) or self._goes_back(stamp_ns, self._deadman_ns):
            self.counts["deadman_stamp"] += 1
            if not pressed:
                self._pressed, self._edge = None, False
            return
        silence_s = (stamp_ns - self._deadman_ns) * 1e-9
        released = self._pressed is False and silence_s <= self.settings.deadman.timeout_s
        self._edge = bool(pressed) and (self._edge or released)
        self._pressed, self._deadman_ns = bool(pressed), stamp_ns

    @_locked
    def set_target(self, target: Target) -> bool:
        """Take a posture; return False when it was not used: not finite, not the operator's, or its stamp is wrong."""
        goal = None if target.goal is None else np.array(target.goal, np.float64)
        # Copies: whoever made it may go on writing into it.
        target = replace(target, position=np.array(target.position, np.float64), goal=goal)
        problem = self._problem(target)
        if problem:
            self.counts[problem] += 1
            if problem == "identity":
                self.hold("another person's frame")
            return False
        self._new, self._newest_ns = target, target.stamp_ns
        return True

    @_locked
    def lock(self, track_id: int) -> None:
        """Choose the operator: a human decision, never made for moving robots.

        Raises:
            ConfigError: The robot follows somebody, or it is no track id.
        """
        if self.state in MOVING:
            raise ConfigError(f"the robot is {self.state.value}: pause before another operator is chosen")
        if track_id is None or track_id < 0:
            raise ConfigError(f"a track id is 0 or more, not {track_id}")
        self.operator = track_id
        self._nobody_asked()

    @_locked
    def unlock(self, reason: str) -> None:
        """Forget the operator: lost or changed."""
        self.operator = None
        self._nobody_asked()
        self.hold(reason)

    @_locked
    def clock_jumped(self, reason: str) -> None:
        """The clock is at another time: hold, forget who was followed, and take no stamp of before for one of now.

        What was measured last counts as measured now: it was fresh a tick ago.
        """
        self._entered_ns = self._last_ns = self._newest_ns = now = self._clock_ns()
        self._error_since_ns = None
        self._measured_ns[self._measured_ns > NEVER_NS] = now
        self._oldest_ns = int(self._measured_ns.min())
        self._pressed, self._edge, self._requested, self._deadman_ns = None, False, False, 0
        self.unlock(reason)

    @_locked
    def hold(self, reason: str) -> None:
        """Brake and hold, where the robot moves."""
        self._do(Event.HOLD, reason)

    @_locked
    def flag(self, flags: Flag) -> None:
        """Add flags to the next command, such as INPUT_GATED."""
        self._extra |= flags

    # services; none of them moves the robot by itself

    @_locked
    def arm(self) -> str:
        """Make ready; return what is missing, or an empty string."""
        if self.state is not State.DISARMED:
            return f"the state is {self.state.value}, not disarmed"
        if not self._fresh_joints(self._clock_ns()):
            return "no fresh joint state"
        self._do(Event.ARM, "armed")
        return ""

    @_locked
    def engage(self) -> str:
        """Ask for engagement at the next press of the deadman; return what is missing, or an empty string.

        A button that is held down already moves nothing: no service does.
        """
        if self.state is not State.READY:
            return f"the state is {self.state.value}, not ready"
        missing = [name for name, green in self.checks().items() if not green and name != "deadman"]
        if missing:
            return f"not green: {', '.join(missing)}"
        self._requested, self._edge = True, False
        return ""

    @_locked
    def pause(self) -> str:
        """Hold; return what is missing, or an empty string."""
        if self.state not in MOVING:
            return f"the state is {self.state.value}: nothing moves"
        self.hold("pause")
        return ""

    @_locked
    def stop(self, reason: str = "stop") -> str:
        """Brake, then send nothing; latched until `reset`."""
        self._do(Event.STOP, reason)
        return ""

    @_locked
    def reset(self) -> str:
        """Return to DISARMED; return what is missing, or an empty string."""
        if self.state is State.STOPPED and not self._motion.at_rest:
            return "still braking"
        if Event.RESET not in TRANSITIONS[self.state]:
            return f"the state is {self.state.value}: stop first"
        self._do(Event.RESET, "reset")
        return ""

    @_locked
    def old_joints(self) -> dict[str, float]:
        """Return the joints whose measurement is missing or too old, and its age [s]; infinite = there was none."""
        now = self._clock_ns()
        if self._fresh_joints(now):
            return {}
        return {
            name: math.inf if stamp_ns == NEVER_NS else (now - stamp_ns) * 1e-9
            for name, stamp_ns in zip(self.robot.joint_names, self._measured_ns.tolist(), strict=True)
            if not self._within(stamp_ns, now, self.settings.feedback.timeout_s)
        }

    @_locked
    def checks(self) -> dict[str, bool]:
        """Return what must be true to engage."""
        now = self._clock_ns()
        low, high = self.robot.lower - OUTSIDE_RAD, self.robot.upper + OUTSIDE_RAD
        return {
            "joint_state": self._fresh_joints(now),
            "within_limits": bool((self._measured >= low).all() and (self._measured <= high).all()),
            "operator": self.operator is not None,
            "fresh_frame": self._new is not None and self._within(self._newest_ns, now, self.settings.freshness.hold_s),
            "deadman": self._held_down(now),
            **self._conditions(),
        }

    # the loop

    @_locked
    def tick(self) -> Command | None:
        """Return the command of this moment, or None where nothing is sent: DISARMED, READY, and STOPPED at rest."""
        now = self._clock_ns()
        try:
            return self._tick(now)
        except Exception as error:  # whatever it was, the robot must come to rest
            log.exception("the governor stops")
            self._do(Event.STOP, f"fault: {error}")
            return None

    def _tick(self, now: int) -> Command | None:
        self._watch(now)
        quiet = self.state in (State.DISARMED, State.READY) or (self.state is State.STOPPED and self._motion.at_rest)
        elapsed_s = (now - self._last_ns) * 1e-9
        if elapsed_s >= MIN_DT_S or elapsed_s < 0:  # a clock that was set back goes on from there
            self._last_ns = now
            dt_s = min(max(elapsed_s, MIN_DT_S), MAX_DT_S)
            if self.state in MOVING:
                self._follow(now, dt_s)
            elif not quiet and not self._motion.at_rest:
                self._motion.brake(dt_s)
        return None if quiet or self._target is None else self._command()

    def _watch(self, now: int) -> None:
        """Apply every rule that time or inputs may break."""
        settings = self.settings
        if self.state in (State.ENGAGING, State.TRACKING, State.HOLD):
            if not self._fresh_joints(now):
                self._do(Event.STOP, "joint state lost", some_of(self.old_joints()))
            elif self._lags(now):
                self._do(Event.STOP, "the robot does not follow")
            elif self._silence_s(now) > settings.freshness.stop_s:
                self._do(Event.STOP, "no fresh frame")
        if self.state in MOVING:
            silence_s = self._silence_s(now)
            if not self._held_down(now):
                self.hold("deadman released")
            elif silence_s > settings.freshness.hold_s or silence_s < -settings.freshness.future_s:
                self.hold("frame too old")
        elif self.state is State.HOLD and (now - self._entered_ns) * 1e-9 > settings.engage.hold_stop_s:
            self._do(Event.STOP, "held for too long")
        if self._edge and self.state in (State.READY, State.HOLD) and self._motion.at_rest:
            self._press(now)

    def _press(self, now: int) -> None:
        """Begin to follow, or not: a press that finds something missing is over, or it would move the robot later."""
        self._edge = False
        if (self._requested or self.state is State.HOLD) and all(self.checks().values()):
            self._start(now)
        else:
            self.counts["press_refused"] += 1

    def _start(self, now: int) -> None:
        """Begin at the measured posture."""
        self._requested = False
        self._motion.start(self._measured)
        for reference in (self._from, self._to, self._reference):
            reference[:] = self._measured
        self._rate[:] = 0
        self._target = self._new  # what was solved before is not followed: the next frame starts at the robot
        self._seq, self._error_since_ns = 0, None
        self.engagements += 1
        self._do(Event.GO, "engaged")

    def _follow(self, now: int, dt_s: float) -> None:
        engage = self.settings.engage
        new = self._new
        if new is not None and new is not self._target:
            self._take(new, now)
        u = (now - self._reference_ns) * 1e-9 / self._period_s
        if u < 1:
            np.subtract(self._to, self._from, out=self._reference)
            np.multiply(self._reference, 1 / self._period_s, out=self._rate)
            self._reference *= max(u, 0.0)
            self._reference += self._from
        else:
            np.copyto(self._reference, self._to)
            self._rate[:] = 0
        starting = self.state is State.ENGAGING
        self._motion.follow(self._reference, self._rate, engage.speed_rad_s if starting else np.inf, dt_s)
        if starting and (now - self._entered_ns) * 1e-9 >= engage.min_s and self._apart() <= engage.near_rad:
            self._do(Event.ARRIVED, "tracking")

    def _apart(self) -> float:
        """Return the largest distance of a joint from where the person's pose would have it [rad]."""
        goal = self._to if self._target is None or self._target.goal is None else self._target.goal
        np.subtract(goal, self._motion.q, out=self._scratch)
        np.abs(self._scratch, out=self._scratch)
        return float(np.maximum.reduce(self._scratch, initial=0.0))

    def _take(self, target: Target, now: int) -> None:
        """Let the reference go from where it is to a new posture in one period of the source."""
        if self._target is not None and target.stamp_ns > self._target.stamp_ns:
            interval = min(
                max((target.stamp_ns - self._target.stamp_ns) * 1e-9, PERIOD_LIMITS_S[0]), PERIOD_LIMITS_S[1]
            )
            self._period_s += 0.2 * (interval - self._period_s)
        np.copyto(self._from, self._reference)
        np.copyto(self._to, target.position)
        self._reference_ns, self._target = now, target

    def _command(self) -> Command:
        target, motion = self._target, self._motion
        assert target is not None
        flags, self._extra = target.flags | self._extra, Flag.NONE
        if motion.limited_speed:
            flags |= Flag.LIMITED_VELOCITY
        if motion.limited_acceleration:
            flags |= Flag.LIMITED_ACCELERATION
        if motion.at_limit:
            flags |= Flag.AT_POSITION_LIMIT
        self._seq += 1
        return Command(
            stamp_ns=target.stamp_ns,
            command_stamp_ns=self._last_ns,
            seq=self._seq - 1,
            joint_names=self.robot.joint_names,
            position=motion.q.copy(),
            velocity=motion.v.copy(),
            target=target.position,
            T_world_base=target.T_world_base,
            state=self.state,
            flags=flags,
            task_error_m=target.task_error_m,
            task_error_rad=target.task_error_rad,
            hand_mode=target.hand_mode,
            age_ms=(self._last_ns - target.stamp_ns) * 1e-6,
        )

    def _do(self, event: Event, reason: str, detail: str = "") -> None:
        new = after(self.state, event)
        if new is self.state:
            return
        if event in (Event.HOLD, Event.STOP):
            self.counts[reason] += 1
        if new in (State.READY, State.HOLD, State.STOPPED, State.DISARMED):
            self._edge = self._requested = False  # only a press from here on counts
        if event is Event.ARM:
            self._seq = 0
        self.state, self.reason = new, f"{reason}: {detail}" if detail else reason
        self._entered_ns = self._clock_ns()

    # rules

    def _problem(self, target: Target) -> str:
        if self.operator is None or target.track_id != self.operator:
            return "identity"
        for posture in (target.position, target.position if target.goal is None else target.goal):
            if posture.shape != self._measured.shape or not np.isfinite(posture).all():
                return "target_not_finite"
        if self.in_future(target.stamp_ns) or self._goes_back(target.stamp_ns, self._newest_ns + 1):
            return "target_stamp"
        return ""

    def _nobody_asked(self) -> None:
        """Forget what was asked for and seen of another operator."""
        self._new, self._requested, self._edge = None, False, False

    def _goes_back(self, stamp_ns: int, last_ns: int) -> bool:
        """True for a stamp before the last; while DISARMED none is: a clock that was set back goes on from there."""
        return stamp_ns < last_ns and self.state is not State.DISARMED

    def in_future(self, stamp_ns: int) -> bool:
        """True for a stamp later than now, by more than clocks differ."""
        return (stamp_ns - self._clock_ns()) * 1e-9 > self.settings.freshness.future_s

    def _fresh_joints(self, now: int) -> bool:
        """True when none of the joints was measured too long ago."""
        return self._within(self._oldest_ns, now, self.settings.feedback.timeout_s)

    def _held_down(self, now: int) -> bool:
        return bool(self._pressed) and self._within(self._deadman_ns, now, self.settings.deadman.timeout_s)

    def _within(self, stamp_ns: int, now: int, age_s: float) -> bool:
        """True for a stamp no older than this and not of the future."""
        return -self.settings.freshness.future_s <= (now - stamp_ns) * 1e-9 <= age_s

    def _silence_s(self, now: int) -> float:
        """Age of the newest frame of an operator."""
        return (now - self._newest_ns) * 1e-9

    def _lags(self, now: int) -> bool:
        """True when command and measurement have differed too much for too long."""
        feedback = self.settings.feedback
        np.subtract(self._motion.q, self._measured, out=self._scratch)
        np.abs(self._scratch, out=self._scratch)
        if np.maximum.reduce(self._scratch, initial=0.0) <= feedback.error_rad:
            self._error_since_ns = None
            return False
        if self._error_since_ns is None:
            self._error_since_ns = now
        return (now - self._error_since_ns) * 1e-9 >= feedback.error_s
