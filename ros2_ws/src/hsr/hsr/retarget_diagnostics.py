"""What the retargeting node says of itself in /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsr_core.retarget.command import State
from hsr_core.retarget.robot import Robot
from hsr_core.retarget.session import Session

from .diagnostics import Status
from .retarget_loop import TickLoop
from .retarget_people import People
from .retarget_robot import Deadman, RobotJoints

LATE_MS = 5.0
OTHER_CLOCK_S = 1.0


def governor_status(session: Session, loop: TickLoop, counts: Mapping[str, int]) -> Status:
    """Return state and reason, how steadily it ticks, how old commands are, and every count."""
    governor = session.governor
    late, work, age = (window.percentiles(50, 99) for window in (loop.late_ms, loop.work_ms, loop.age_ms))
    status = Status(
        "governor",
        {
            "state": governor.state.value,
            "reason": governor.reason,
            "rate_hz": loop.rate.hz(),
            "late p50/p99 [ms]": "{:.2f}/{:.2f}".format(*late),
            "work p50/p99 [ms]": "{:.2f}/{:.2f}".format(*work),
            "exposure to command p50/p99 [ms]": "{:.0f}/{:.0f}".format(*age),
            "missed ticks": loop.missed,
            "engagements": governor.engagements,
            **{f"check {name}": passed for name, passed in session.checks().items()},
            **counts,
        },
    )
    if loop.error:
        status.error(f"a tick failed: {loop.error}")
    if governor.state is State.STOPPED:
        status.warn(f"stopped: {governor.reason}; retarget/reset")
    elif governor.state is State.HOLD:
        status.warn(f"holds: {governor.reason}")
    else:
        status.note(governor.state.value)
    if late[1] > LATE_MS:
        status.warn(f"ticks begin up to {late[1]:.1f} ms late: other programs take the processor")
    return status


def people_status(people: People, topic: str, operator: int | None, publishers: str) -> Status:
    """Return whom the robot follows, and why people cannot move it."""
    hz = people.rate.hz()
    status = Status(
        "people",
        {"topic": topic, "rate_hz": hz, "publishers": publishers, "world_frame": people.world_frame,
         "operator": people.letters(), "seen": " ".join(one.id for one in people.seen())},
    )  # fmt: skip
    if hz == 0:
        status.warn(f"no people on {topic}")
    elif people.problem and operator is not None:
        status.warn(people.problem)
    elif people.problem:
        status.note(people.problem)
    return status


def robot_status(joints: RobotJoints, robot: Robot, topic: str, publishers: str) -> Status:
    """Return whether the robot says where its joints are."""
    status = Status(
        "robot",
        {"robot": robot.mapping.name, "mode": robot.mapping.mode, "joints": len(robot.joint_names), "topic": topic,
         "rate_hz": joints.rate.hz(), "publishers": publishers, "age [ms]": 1e3 * joints.age_s},
    )  # fmt: skip
    _add_faults(status, joints, topic)
    return status


def deadman_status(deadman: Deadman, topic: str, button: int) -> Status:
    """Return whether the deadman speaks."""
    hz = deadman.rate.hz()
    status = Status(
        "deadman",
        {"topic": topic, "button": button, "rate_hz": hz, "pressed": deadman.pressed, "age [ms]": 1e3 * deadman.age_s},
    )
    if hz == 0:
        status.warn(f"no deadman on {topic}: it counts as released")
    else:
        _add_faults(status, deadman, topic)
    return status


def _add_faults(status: Status, speaker: RobotJoints | Deadman, topic: str) -> None:
    """Add what is wrong with what is said again and again."""
    if speaker.problem:
        status.error(speaker.problem)
    if abs(speaker.age_s) > OTHER_CLOCK_S:
        status.error(f"{topic} is {speaker.age_s:.1f} s old when it arrives: its clock is another")


def recorder_status(facts: Mapping[str, Any] | None) -> Status:
    """Return how the recording of engagements goes; None: there is none."""
    status = Status("recorder", dict(facts or {}))
    if facts is None:
        status.note("record.folder is not set: engagements are not recorded")
    elif facts["error"]:
        status.error(str(facts["error"]))
    elif facts["dropped"] or facts["lost"]:
        status.warn(
            f"{facts['dropped'] + facts['lost']} messages are not in the recording: the disk is too slow or full"
        )
    return status
