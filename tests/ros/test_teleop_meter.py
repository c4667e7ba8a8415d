"""The figures of a teleoperation run: each command is held against the limits, by itself and against the last one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hsr.bringup_teleop import TeleopMeter
from hsr.convert import ns_to_stamp
from hsr_msgs.msg import RetargetStatus as Status
from sensor_msgs.msg import JointState

ROBOT = SimpleNamespace(
    joint_names=("a", "b"), lower=np.array([-1.0, -1]), upper=np.array([1.0, 1]), velocity=np.array([1.5, 1.0])
)
DT_NS = 10_000_000


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def command(stamp_ns: int, *position: float, names: tuple[str, ...] = ("a", "b")) -> JointState:
    message = JointState(name=list(names), position=list(position))
    message.header.stamp = ns_to_stamp(stamp_ns)
    return message


def meter_of(*positions: tuple[float, float], gap_ns: int = DT_NS) -> TeleopMeter:
    meter = TeleopMeter(None, ROBOT)
    for n, position in enumerate(positions):
        meter.add_command(command(1_000_000_000 + n * gap_ns, *position))
    return meter


def test_a_motion_at_the_limit_exceeds_nothing() -> None:
    meter = meter_of(*((0.015 * n - 1, 0.01 * n - 1) for n in range(100)))
    assert meter.commands == 100
    assert dict(meter.exceeded) == {"position": 0, "velocity": 0}
    assert meter.fastest == pytest.approx(1.0)
    assert meter.summary()["commands_checked"] == 100


def test_a_step_too_wide_and_a_place_too_far_are_counted_each() -> None:
    assert dict(meter_of((0, 0), (0, 0.011), (0, 0)).exceeded) == {"position": 0, "velocity": 2}
    assert dict(meter_of((1.001, 0), (1.001, 0)).exceeded) == {"position": 2, "velocity": 0}


def test_a_command_that_is_repeated_is_no_step() -> None:
    """It has the stamp of the one that it repeats."""
    meter = TeleopMeter(None, ROBOT)
    for microseconds, a in ((0, 0.0), (10_000, 0.015), (10_000, 0.015), (20_000, 0.03)):
        meter.add_command(command(1_000_000_000 + 1000 * microseconds, a, 0.0))
    assert meter.exceeded["velocity"] == 0
    assert meter.fastest == pytest.approx(1.0)


def test_commands_of_two_motions_are_not_compared() -> None:
    assert meter_of((0, 0), (0, 0.9), gap_ns=500_000_000).exceeded["velocity"] == 0


def test_a_command_for_other_joints_is_counted() -> None:
    meter = TeleopMeter(None, ROBOT)
    meter.add_command(command(1, 0.0, names=("a",)))
    assert meter.exceeded["joints"] == 1
    assert meter.commands == 0


def test_states_have_the_time_that_they_lasted() -> None:
    clock = Clock()
    meter = TeleopMeter(None, ROBOT, clock)
    for clock.now_s, state in ((0, Status.READY), (1, Status.ENGAGING), (3, Status.TRACKING), (10, Status.HOLD)):
        meter.add_status(Status(state=state, age_ms=float("nan")))
    summary = meter.summary()
    assert summary["state_seconds"] == {"ready": 1.0, "engaging": 2.0, "tracking": 7.0}
    assert summary["state"] == "hold"
    assert "hold" in meter.line()


def test_the_rate_is_that_of_the_numbers_of_the_commands() -> None:
    """25 of 100 a second are looked at; a new engagement counts from zero."""
    meter = TeleopMeter(None, ROBOT)
    for engagement, begin_ns in ((1, 5_000_000_000), (2, 9_000_000_000)):
        for n in range(0, 100, 4):
            status = Status(state=Status.TRACKING, commanding=True, seq=n, engagement=engagement, age_ms=1.0)
            status.header.stamp = ns_to_stamp(begin_ns + n * DT_NS)
            meter.add_status(status)
    assert meter.summary()["command_hz"] == pytest.approx(100)


def test_ages_and_flags_are_of_the_ticks_that_follow_somebody() -> None:
    meter = TeleopMeter(None, ROBOT)
    for n in range(1, 101):
        flags = Status.HOLDOVER if n % 4 else 0
        meter.add_status(Status(state=Status.TRACKING, commanding=True, age_ms=float(n), flags=flags))
    meter.add_status(Status(state=Status.HOLD, commanding=True, age_ms=5000.0, flags=Status.COLLISION))
    assert meter.summary()["age_ms"] == {"p50": 50.5, "p99": 99.0}
    assert meter.summary()["flags_percent"] == {"holdover": 75.0}
    assert TeleopMeter(None, ROBOT).line().endswith("no status yet")


def test_the_line_of_a_second_says_why_nothing_moves() -> None:
    meter = TeleopMeter(None, ROBOT)
    checks = {"checks": ["joint_state", "fresh_frame", "person_known"], "checks_passed": [True, False, False]}
    meter.add_status(Status(state=Status.READY, operator_id="kxzzw", problem="the operator is not seen", **checks))
    assert meter.line() == (
        "robot   ready  follows kxzzw  commands 0  limits exceeded 0  "
        "waits for fresh frame, person known (the operator is not seen)"
    )
    meter.add_status(Status(state=Status.READY))
    assert meter.line().endswith("waits for engage and a press")
    meter.add_status(Status(state=Status.HOLD, reason="frame too old", age_ms=900.0))
    assert meter.line().endswith("limits exceeded 0  frame too old")
    meter.add_status(Status(state=Status.TRACKING, reason="tracking", age_ms=81.0))
    assert meter.line().endswith("age p50 81 p99 81 ms  limits exceeded 0")
