"""What crosses the borders of retargeting: states, flags, the solver's answer, and the one command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag

from ..types import Array


class State(Enum):
    """Of the governor."""

    DISARMED = "disarmed"
    READY = "ready"
    ENGAGING = "engaging"
    TRACKING = "tracking"
    HOLD = "hold"
    STOPPED = "stopped"


MOVING = (State.ENGAGING, State.TRACKING)
"""States in which the robot follows the person."""


class Flag(IntFlag):
    """What happened on the way to a command."""

    NONE = 0
    LIMITED_VELOCITY = 1
    LIMITED_ACCELERATION = 2
    AT_POSITION_LIMIT = 4
    BARRIER_ACTIVE = 8
    FALLBACK_QP = 16
    INPUT_GATED = 32
    JOINT_MISSING = 64
    HOLDOVER = 128
    DEPTH_GUESSED = 256
    COLLISION = 512
    """The solved step would have brought two parts of the robot into each other, or a hand out of its workspace: it was
    not taken."""


@dataclass(frozen=True, eq=False)
class Target:
    """A posture for the governor: a solver's answer to one frame, or a plug-in's.

    Attributes:
        stamp_ns: Exposure of the frame.
        track_id: The person it comes from.
        position: Commanded joints, (n,) [rad].
        goal: Where the person's pose would have them, (n,) [rad], while `position` goes there slowly; None: `position`.
        T_world_base: (4, 4) of a floating base, else None.
        flags: Of gate and solver.
        task_error_m, task_error_rad: By human part: the reached pose against the unlimited target.
        hand_mode: `scaled` or `clutched`.
    """

    stamp_ns: int
    track_id: int
    position: Array
    T_world_base: Array | None = None
    flags: Flag = Flag.NONE
    task_error_m: Mapping[str, float] = field(default_factory=dict)
    task_error_rad: Mapping[str, float] = field(default_factory=dict)
    hand_mode: str = "scaled"
    goal: Array | None = None


@dataclass(frozen=True, eq=False)
class Command:
    """What is sent to the robot at one tick.

    Attributes:
        stamp_ns: Exposure of the frame that caused it, as the camera gave it.
        command_stamp_ns: When the governor released its posture; a command that repeats the last one has its stamp.
        seq: Rises by one with each command of an engagement.
        joint_names: Commanded joints, in the URDF's order.
        position, velocity: (n,) [rad], [rad/s]; arrays of their own.
        target: The posture that was wished for, before the governor's bounds, (n,) [rad]; the solver's own.
        T_world_base: (4, 4) of a floating base, else None.
        state, flags: See `State` and `Flag`.
        task_error_m, task_error_rad: By human part: how far the robot's posture is from the unlimited target.
        hand_mode: `scaled` or `clutched`.
        age_ms: From exposure to release.
    """

    stamp_ns: int
    command_stamp_ns: int
    seq: int
    joint_names: tuple[str, ...]
    position: Array
    velocity: Array
    target: Array
    T_world_base: Array | None
    state: State
    flags: Flag
    task_error_m: Mapping[str, float]
    task_error_rad: Mapping[str, float]
    hand_mode: str
    age_ms: float
