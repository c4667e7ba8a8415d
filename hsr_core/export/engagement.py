"""An engagement that was recorded: what was sent to the robot, what was measured of it, and whom it followed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import progress
from ..engagement import JOINT_STATES, PARTIAL_SUFFIX, PEOPLE, STATUS, engagements_of, read_header
from ..errors import BadFile, SourceError
from ..messages import stamp_to_ns
from ..sources.bag_reader import METADATA, BagReader
from .robot_motion import RobotMotion, read_joint_states

log = logging.getLogger(__name__)

STATES = ("", "disarmed", "ready", "engaging", "tracking", "hold", "stopped")
"""Names of the numbers in hsr_msgs/RetargetStatus."""
WRITTEN_S = 10.0
"""A partial recording that changed so lately is being written; one that was cut off changes no more."""
NOBODY = 0
"""Track id of the operator in a status where nobody is locked: who was lost on the way, in HOLD."""


@dataclass(frozen=True, eq=False)
class Engagement:
    """One recording.

    Attributes:
        header: See `hsr_core.engagement`.
        sent: A row for each command, with its state, its flags and what was wished for.
        measured: Joint states of the robot, the commanded joints first; None = there are none of use.
        left_out: Statuses that are not used, by reason.
    """

    header: dict[str, Any]
    sent: RobotMotion
    measured: RobotMotion | None
    left_out: dict[str, int]

    @property
    def people_topic(self) -> str | None:
        """Topic of the people; None = not told."""
        return self.header.get("topics", {}).get(PEOPLE)

    @property
    def operator(self) -> str:
        """Track id of the operator, as `--person` wants it; "primary" where it is not told."""
        operator = self.header.get("operator")
        return "primary" if operator is None else str(operator)


def recordings_of(source: str) -> list[Path]:
    """Return the recordings of engagements that an input is, or is a folder of; [] = it is none.

    Raises:
        MissingPackage: `mcap` is not installed.
    """
    path = Path(source)
    if path.is_dir():
        return [] if (path / METADATA).is_file() else list(engagements_of(path))
    return [path] if read_header(path) else []


def read_engagement(path: Path) -> Engagement:
    """Read a recording, also one that was cut off.

    Raises:
        BadFile: Nothing was sent in it, or its messages cannot be read.
    """
    header = read_header(path)
    topics = header.get("topics", {})
    rows, left_out = _statuses(path, topics.get(STATUS, ""), header)
    measured = _measured(path, topics.get(JOINT_STATES, ""), header["joint_names"])
    origin = f"sent to the robot, read from {path.name}"
    floats = len(rows.base) and all(len(base) == 7 for base in rows.base)
    sent = RobotMotion(
        str(header.get("robot", "robot")), origin, tuple(header["joint_names"]), np.array(rows.stamps, np.int64),
        np.array(rows.position), np.array(rows.base) if floats else None, np.array(rows.flags, np.int64),
        np.array(rows.states, np.int64), np.array(rows.target),
    )  # fmt: skip
    return Engagement(header, sent, measured, left_out)


def is_measured(path: Path) -> bool:
    """Return whether a recording has joint states of the robot."""
    topic = read_header(path).get("topics", {}).get(JOINT_STATES)
    try:
        with BagReader(path) as reader:
            return topic in reader.topics
    except SourceError:
        return False


def is_being_written(path: Path) -> bool:
    """Return whether somebody records into the file now."""
    try:
        return path.name.endswith(PARTIAL_SUFFIX) and time.time() - path.stat().st_mtime < WRITTEN_S
    except FileNotFoundError:  # a moment ago: it has its last name now
        return True


def _measured(path: Path, topic: str, joint_names: Sequence[str]) -> RobotMotion | None:
    try:
        return read_joint_states(str(path), topic).in_order_of(joint_names)
    except (BadFile, SourceError) as error:  # what was sent is of use all the same
        log.warning("no measured joints: %s", error)
        return None


class _Rows:
    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.position: list[Any] = []
        self.target: list[Any] = []
        self.base: list[Any] = []
        self.flags: list[int] = []
        self.states: list[int] = []

    def add(self, stamp_ns: int, msg: Any) -> None:
        """Copies: the arrays of a message are views that would keep all of it."""
        self.stamps.append(stamp_ns)
        self.position.append(np.array(msg.position))
        self.target.append(np.array(msg.target))
        self.base.append(np.array(msg.t_world_base))
        self.flags.append(msg.flags)
        self.states.append(msg.state)


def _statuses(path: Path, topic: str, header: dict[str, Any]) -> tuple[_Rows, dict[str, int]]:
    rows, left_out = _Rows(), Counter[str]()
    names, operator = header.get("joint_names"), header.get("operator")
    with BagReader(path) as reader:
        if topic not in reader.topics:
            raise BadFile(f"{path}: no statuses of the retargeting on {topic!r}; it has: {reader.describe_topics()}")
        count = reader.topics[topic].count
        for done, (_, _, data) in enumerate(reader.messages([topic])):
            progress.report("reading commands", done + 1, count)
            msg = reader.decode(topic, data)
            if not msg.commanding:
                continue
            if list(msg.joint_names) != names:
                raise BadFile(f"{path}: a command for other joints than the header's")
            stamp_ns = stamp_to_ns(msg.header.stamp)
            if rows.stamps and stamp_ns <= rows.stamps[-1]:
                left_out["command_repeated" if stamp_ns == rows.stamps[-1] else "command_out_of_order"] += 1
            elif operator is not None and msg.operator_track_id not in (operator, NOBODY):
                left_out["command_of_another_operator"] += 1
            else:
                rows.add(stamp_ns, msg)
    if not rows.stamps:
        raise BadFile(f"{path}: nothing was sent to the robot")
    return rows, dict(left_out)
