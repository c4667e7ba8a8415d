"""Settings of retargeting and of the governor, with their bounds; checked together at configure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import setting
from ..errors import ConfigError

MAX_BLIND_RAD = 0.5
"""How far an arm may travel on a frame before it counts as stale [rad]."""
PLACEHOLDER_RAD_S = 50.0
"""URDFs name such velocities where nobody knew one."""
SOURCE_PERIODS = 1.5
"""A shorter staleness limit than so many source periods would hold at every late frame."""


@dataclass(frozen=True)
class FreshnessSettings:
    hold_s: float = setting(0.2, "Age of the frame (since exposure) at which the robot holds [s]", low=0.02, high=2)
    stop_s: float = setting(0.5, "Time without a fresh frame after which it stops [s]", low=0.05, high=5)
    future_s: float = setting(0.02, "Stamps farther in the future count as stale [s]", low=0, high=0.1)
    source_hz: float = setting(30.0, "Frames per second of the source [Hz]", low=1, high=240)


@dataclass(frozen=True)
class DeadmanSettings:
    timeout_s: float = setting(0.15, "A level this old counts as released [s]", low=0.03, high=0.5)


@dataclass(frozen=True)
class EngageSettings:
    min_s: float = setting(2.0, "Least time of the slow start [s]", low=2, high=20)
    speed_rad_s: float = setting(0.3, "Joint speed of the slow start [rad/s]", low=0.01, high=0.5)
    near_rad: float = setting(0.35, "The start ends when every joint is this near its target [rad]", low=0.01, high=0.5)
    hold_stop_s: float = setting(30.0, "Time in HOLD after which it stops [s]", low=1, high=600)


@dataclass(frozen=True)
class LimitSettings:
    velocity_scale: float = setting(1.0, "Factor on all velocity limits", low=0.01, high=1)
    acceleration_rad_s2: float = setting(20.0, "Joint acceleration, where the mapping gives none", low=0.1, high=60)
    margin_deg: float = setting(2.0, "Margin inside the URDF's position limits [deg]", low=0, high=20)
    margin_part: float = setting(0.02, "The same as part of the range; the larger counts", low=0, high=0.2)
    arms_rad_s: float = setting(1.5, "Velocity limit of arms [rad/s]", low=0.01, high=20)
    legs_rad_s: float = setting(8.0, "Velocity limit of legs: files and simulators [rad/s]", low=0.01, high=40)
    trunk_rad_s: float = setting(1.0, "Velocity limit of waist and neck [rad/s]", low=0.01, high=20)
    fingers_rad_s: float = setting(3.0, "Velocity limit of fingers [rad/s]", low=0.01, high=20)
    base_m_s: float = setting(2.5, "Speed of a floating base [m/s]", low=0.01, high=10)
    base_rad_s: float = setting(4.0, "Turning of a floating base [rad/s]", low=0.01, high=20)


@dataclass(frozen=True)
class FeedbackSettings:
    timeout_s: float = setting(0.1, "A joint state this old stops the robot [s]", low=0.02, high=1)
    error_rad: float = setting(0.5, "Difference of command and measurement ...", low=0.02, high=1)
    error_s: float = setting(0.3, "... that stops the robot when it lasts this long [s]", low=0, high=2)


@dataclass(frozen=True)
class GateSettings:
    speed_m_s: float = setting(6.0, "90th percentile of the joints' speed [m/s]", low=1, high=20)
    jump_m: float = setting(
        0.35,
        "Distance of the body from where it was, and from where its way led, after any time [m]",
        low=0.05,
        high=0.45,
    )
    length_part: float = setting(0.2, "Deviation of a segment from its frozen length", low=0.05, high=1)
    facing_deg: float = setting(120.0, "Turn of the body between two frames [deg]", low=30, high=180)
    swap_part: float = setting(0.3, "Swapped sides fit better by this part", low=0.05, high=0.9)
    score: float = setting(0.5, "Least confidence of the person", low=0, high=1)
    reprojection_px: float = setting(40.0, "Largest reprojection error, where it is known [px]", low=1, high=500)
    in_a_row: int = setting(5, "So many dropped frames in a row hold the robot", low=1, high=30)
    joint_score: float = setting(0.3, "Joints below count as not seen", low=0, high=1)


@dataclass(frozen=True)
class MissingSettings:
    holdover_s: float = setting(0.08, "How long the last target of an unseen part serves [s]", low=0, high=0.5)
    fade_s: float = setting(0.2, "Then its weight goes to zero in this time [s]", low=0.01, high=2)


@dataclass(frozen=True)
class SolverSettings:
    iterations: int = setting(2, "Iterations per source frame", low=1, high=20)
    posture_cost: float = setting(0.05, "Pull to the neutral posture, per rad, against 1 per metre", low=0, high=1)
    lm_damping: float = setting(1e-2, "Levenberg-Marquardt damping of the tasks", low=0, high=1)
    acceleration_rad_s2: float = setting(60.0, "Acceleration rows in the QP; 0 = none", low=0, high=1000)
    max_dt_s: float = setting(0.1, "A longer time between two frames counts as this [s]", low=0.01, high=0.5)


@dataclass(frozen=True)
class CollisionSettings:
    enabled: bool = setting(True, "Keep capsules of the robot apart")
    clearance_m: float = setting(0.01, "Distance that is kept [m]", low=0, high=0.2)
    enter_m: float = setting(0.06, "A pair nearer than this is watched in the QP [m]", low=0.01, high=0.5)
    leave_m: float = setting(0.08, "... until it is farther than this [m]", low=0.01, high=0.6)
    pairs: int = setting(6, "Most pairs in the QP", low=1, high=32)
    gain: float = setting(0.5, "Part of the remaining distance that one iteration may use", low=0.05, high=1)


@dataclass(frozen=True)
class GroundSettings:
    window_s: float = setting(
        3.0, "Ground is the 5th percentile of the lower foot over this time [s]", low=0.5, high=30
    )
    contact_speed_m_s: float = setting(0.25, "A foot slower than this ...", low=0.05, high=2)
    contact_height_m: float = setting(0.05, "... and lower than this is on the ground [m]", low=0.01, high=0.3)
    release: float = setting(1.5, "It leaves it beyond either times this", low=1, high=4)
    guessed: float = setting(3.0, "Factor on speed and height where depth is guessed", low=1, high=10)
    frames: int = setting(2, "Frames that a change takes", low=1, high=10)


@dataclass(frozen=True)
class FingerSettings:
    """Of hands that follow by fingertip vectors; the numbers of lengths are a grown person's."""

    iterations: int = setting(
        6, "Most iterations per source frame; the first only sees where the hand is", low=2, high=50
    )
    huber_m: float = setting(0.02, "Beyond this a vector's error counts linearly [m]", low=0.001, high=1)
    still_cost: float = setting(
        4e-3, "Pull to the last command, per rad², against 1 per metre of the vectors' mean error", low=1e-5, high=1
    )
    pinch_near_m: float = setting(
        0.02, "Thumb and finger tip nearer than this pinch: the robot's tips meet [m]", low=0, high=0.1
    )
    pinch_far_m: float = setting(0.05, "Farther than this they do not; between, it fades [m]", low=0.005, high=0.2)
    pinch_weight: float = setting(100.0, "Of a pinch, against a vector's 1; 0 = off", low=0, high=1000)
    unseen: str = setting(
        "neutral",
        "A hand that is no longer seen: back to the neutral posture slowly, or keep its fingers",
        choices=("neutral", "keep"),
    )
    return_s: float = setting(1.5, "Time constant of the way back [s]", low=0.1, high=30)


@dataclass(frozen=True)
class TeleopSettings:
    """Everything between a person's joints and a robot's command."""

    rate_hz: float = setting(100.0, "Commands per second [Hz]", low=10, high=1000)
    hands: str = setting(
        "scaled", "Arms: scaled to the robot, or 1:1 from the pose at engagement", choices=("scaled", "clutched")
    )
    mirror: bool = setting(False, "The operator faces the robot: left moves right")
    allow_legs_and_base_on_hardware: bool = setting(
        False, "Let a governor command legs; on hardware the balance controller owns them"
    )
    freshness: FreshnessSettings = field(default_factory=FreshnessSettings)
    deadman: DeadmanSettings = field(default_factory=DeadmanSettings)
    engage: EngageSettings = field(default_factory=EngageSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    missing: MissingSettings = field(default_factory=MissingSettings)
    solver: SolverSettings = field(default_factory=SolverSettings)
    collision: CollisionSettings = field(default_factory=CollisionSettings)
    ground: GroundSettings = field(default_factory=GroundSettings)
    fingers: FingerSettings = field(default_factory=FingerSettings)


def check(settings: TeleopSettings, fastest_rad_s: float) -> None:
    """Refuse settings that contradict each other.

    Args:
        settings: Single values are checked where they are set (`config.with_values`).
        fastest_rad_s: Largest velocity limit of the robot's arms.

    Raises:
        ConfigError: The staleness limit is too long for the robot's speed or too short for the source, limits in the
            wrong order; the message says which.
    """
    fresh, collision = settings.freshness, settings.collision
    if fresh.hold_s * fastest_rad_s > MAX_BLIND_RAD + 1e-9:
        raise ConfigError(
            f"freshness.hold_s {fresh.hold_s:g} s at {fastest_rad_s:g} rad/s lets an arm travel "
            f"{fresh.hold_s * fastest_rad_s:.2f} rad on an old frame, {MAX_BLIND_RAD:g} are allowed: lower it, or "
            "limits.velocity_scale"
        )
    if fresh.hold_s < SOURCE_PERIODS / fresh.source_hz - 1e-9:
        raise ConfigError(
            f"freshness.hold_s {fresh.hold_s:g} s is shorter than {SOURCE_PERIODS:g} periods of a source with "
            f"{fresh.source_hz:g} Hz: raise it, and lower limits.velocity_scale where that is refused"
        )
    if fresh.stop_s <= fresh.hold_s:
        raise ConfigError(f"freshness.stop_s {fresh.stop_s:g} must be longer than freshness.hold_s {fresh.hold_s:g}")
    if collision.leave_m < collision.enter_m or collision.enter_m <= collision.clearance_m:
        raise ConfigError(
            "collision: clearance_m < enter_m <= leave_m is needed, not "
            f"{collision.clearance_m:g}, {collision.enter_m:g}, {collision.leave_m:g}"
        )
    if settings.fingers.pinch_far_m <= settings.fingers.pinch_near_m:
        raise ConfigError(
            f"fingers.pinch_far_m {settings.fingers.pinch_far_m:g} must be more than fingers.pinch_near_m "
            f"{settings.fingers.pinch_near_m:g}"
        )
