"""A robot's joints over time: from a CSV file, from JointState messages, or retargeted from the person."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import progress
from ..body.joints import J
from ..errors import BadFile, ConfigError, SourceError
from ..messages import stamp_to_ns
from ..retarget.command import Flag
from ..types import Array, MetricSource, Part
from .motion import Motion, place
from .spool import chunks

if TYPE_CHECKING:
    from ..retarget import Human, Retargeter, Target
    from ..retarget.solve import Solution

STAMP = "stamp_ns"
BASE = ("base_x", "base_y", "base_z", "base_qx", "base_qy", "base_qz", "base_qw")
"""Columns of a floating base: place [m], rotation."""
FLAGS, STATE = "flags", "teleop_state"
FLAG_NAMES = {int(flag): flag.name.lower() for flag in Flag if flag}
"""What each bit of the flags means."""


@dataclass(frozen=True, eq=False)
class RobotMotion:
    """Joint positions of a robot.

    Attributes:
        robot: Its name.
        origin: Where the motion comes from, in words.
        joint_names: In the robot's order, n of them.
        stamps: (N,) int64 [ns], rising: exposure of the person's frame, or of the measurement, or of the command.
        position: (N, n) [rad]; NaN where there is none.
        base: (N, 7) place [m] and rotation xyzw of a floating base, or None.
        flags: (N,) of `hsr_core.retarget.Flag`; 0 where nothing is known.
        states: (N,) of a live session, numbers of hsr_msgs/RetargetStatus; None = it was none.
        target: (N, n) what a live session wished for, before the governor's limits [rad]; None = it was none.
    """

    robot: str
    origin: str
    joint_names: tuple[str, ...]
    stamps: NDArray[np.int64]
    position: Array
    base: Array | None
    flags: NDArray[np.int64]
    states: NDArray[np.int64] | None = None
    target: Array | None = None

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Frames in which every joint is known, (N,)."""
        return np.isfinite(self.position).all(axis=1)

    def in_order_of(self, joint_names: Sequence[str]) -> RobotMotion:
        """Return a measured motion with these joints first, as far as it has them, and then its others by name."""
        mine = [name for name in joint_names if name in self.joint_names]
        names = (*mine, *sorted(set(self.joint_names) - set(mine)))
        columns = [self.joint_names.index(name) for name in names]
        return replace(self, joint_names=names, position=self.position[:, columns])


def read_csv(path: Path) -> RobotMotion:
    """Read what `--format csv` writes; without flags and base columns, too.

    Raises:
        BadFile: No such file, no stamp_ns, no joints, or a cell that is no number; the message names its line.
    """
    try:
        with path.open(newline="") as file:
            rows = csv.reader(file)
            head = next(rows, [])
            if STAMP not in head:
                raise BadFile(f"{path}: the first line must name the columns, {STAMP} and joints; it is {head[:6]}")
            values = [_numbers(path, rows.line_num, head, row) for row in rows if row]
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path} is no CSV: {error}") from error
    base = list(BASE) if set(BASE) <= set(head) else []
    joints = [name for name in head if name not in (STAMP, FLAGS, STATE, "valid", *BASE)]
    if not joints or not values:
        raise BadFile(f"{path} has {len(joints)} joints and {len(values)} rows")
    column = {name: i for i, name in enumerate(head)}
    if len(column) < len(head):
        raise BadFile(f"{path} names a column twice: {', '.join(sorted({n for n in head if head.count(n) > 1}))}")
    table = np.array([numbers for _, numbers in values])
    stamps = np.array([stamp for stamp, _ in values], np.int64)
    _check_rising(path, stamps)
    flags = (
        np.nan_to_num(table[:, column[FLAGS]]).astype(np.int64) if FLAGS in column else np.zeros(len(table), np.int64)
    )
    return RobotMotion(
        path.stem, f"read from {path.name}", tuple(joints), stamps, table[:, [column[name] for name in joints]],
        table[:, [column[name] for name in base]] if base else None, flags,
        table[:, column[STATE]].astype(np.int64) if STATE in column else None,
    )  # fmt: skip


def _numbers(path: Path, line: int, head: Sequence[str], row: Sequence[str]) -> tuple[int, list[float]]:
    if len(row) != len(head):
        raise BadFile(f"{path}:{line} has {len(row)} cells, the first line {len(head)}")
    try:
        return int(row[head.index(STAMP)]), [float(cell) if cell else np.nan for cell in row]
    except ValueError as error:
        raise BadFile(f"{path}:{line}: {error}") from error


def _check_rising(path: Path | str, stamps: NDArray[np.int64]) -> None:
    back = np.flatnonzero(np.diff(stamps) <= 0)
    if len(back):
        raise BadFile(f"{path}: stamps must rise, row {back[0] + 2} has {stamps[back[0] + 1]} after {stamps[back[0]]}")


def read_joint_states(bag: str, topic: str) -> RobotMotion:
    """Read the positions of a topic of sensor_msgs/JointState.

    Several drivers may publish on it, each its own joints: a frame is what has one stamp, and the joints of which
    nothing came at it are NaN. Messages without a stamp are left out, and of each set of joints those whose stamp
    repeats or goes back.

    Raises:
        SourceError: No such topic.
        BadFile: It has no positions, or all have one stamp or none.
    """
    from ..sources.bag_reader import BagReader

    rows: list[tuple[int, tuple[int, ...], Array]] = []
    columns: dict[str, int] = {}
    newest: dict[frozenset[int], int] = {}
    left_out = unstamped = 0
    with BagReader(bag) as reader:
        if topic not in reader.topics or not reader.topics[topic].kind.endswith("JointState"):
            raise SourceError(f"{bag} has no JointState topic {topic}; it has: {reader.describe_topics()}")
        for _, _, data in reader.messages([topic]):
            msg = reader.decode(topic, data)
            stamp = stamp_to_ns(msg.header.stamp)
            if len(msg.position) != len(msg.name):
                continue
            if stamp == 0:  # its joints would be columns that are never known
                unstamped += 1
                continue
            mine = tuple(columns.setdefault(name, len(columns)) for name in msg.name)
            if stamp <= newest.get(frozenset(mine), stamp - 1):
                left_out += 1
                continue
            newest[frozenset(mine)] = stamp
            rows.append((stamp, mine, np.array(msg.position)))  # a copy: a view would keep the whole message
    if not rows:
        why = f"{unstamped} messages of {topic} have no stamp" if unstamped else f"{topic} has no positions"
        raise BadFile(f"{bag}: {why}")
    stamps = np.unique([stamp for stamp, _, _ in rows])
    if len(stamps) == 1 and left_out:
        raise BadFile(
            f"{bag}: {len(rows) + left_out} messages of {topic} have one stamp, {stamps[0]} ns: their driver sets none"
        )
    position = np.full((len(stamps), len(columns)), np.nan)
    for stamp, places, values in rows:
        position[np.searchsorted(stamps, stamp), places] = values
    return RobotMotion(
        "robot", f"{topic} of {Path(bag).name}", tuple(columns), stamps, position, None, np.zeros(len(stamps), np.int64)
    )


def retargeted(motion: Motion, robot: str, mode: str) -> RobotMotion:
    """Retarget a motion to a robot: see `retarget_motion`.

    Args:
        motion: Whole.
        robot: A shipped mapping's name or a YAML file.
        mode: `upper_body` or `whole_body`.

    Raises:
        MissingPackage, ConfigError: As `hsr_core.retarget.load_robot`.
    """
    from ..retarget import Retargeter, load_robot

    return retarget_motion(motion, Retargeter(load_robot(robot, mode)))


def retarget_motion(
    motion: Motion, retargeter: Retargeter, watch: Callable[[int, Target, Solution], None] | None = None
) -> RobotMotion:
    """Retarget a whole motion: the solver with its limits, without the governor of a live session.

    Args:
        motion: Whole.
        retargeter: New.
        watch: Called with the number of each frame that has an answer, and the answer.
    """
    import pinocchio as pin

    from ..retarget.recorded import follow_recorded

    model, track = retargeter.robot, motion.track
    position, base = np.full((len(track), len(model.joint_names)), np.nan), np.full((len(track), 7), np.nan)
    flags = np.zeros(len(track), np.int64)
    for frame, answer in enumerate(follow_recorded(retargeter, lambda: _everybody(motion))):
        progress.report("retargeting", frame + 1, len(track))
        if answer is None:
            continue
        target = answer[0]
        position[frame], flags[frame] = target.position, int(target.flags)
        if target.T_world_base is not None:
            base[frame] = pin.SE3ToXYZQUAT(pin.SE3(target.T_world_base))
        if watch is not None:
            watch(frame, *answer)
    floats = model.floating and bool(np.isfinite(base).any())
    origin = (
        f"retargeted from person {track.track_id}, {model.mapping.mode}, {motion.smoothing}; limits of position and "
        "velocity, no governor"
    )
    return RobotMotion(
        model.mapping.name, origin, tuple(model.joint_names), track.stamps, position, base if floats else None, flags
    )


def _everybody(motion: Motion) -> Iterator[Human | None]:
    for at in chunks(len(motion.track)):
        yield from people_of(motion, at)


def people_of(motion: Motion, at: slice) -> Iterator[Human | None]:
    """Yield a `retarget.Human` for each frame of a slice, None where the person is missing."""
    from ..retarget.human import POINTS, SMPLX_NAMES, Human, hand_points

    joints_of = [J[SMPLX_NAMES[name]] for name in POINTS]
    pose = motion.read(at)
    joints, rotations = place(pose, motion.offsets)
    score = motion.track.read("joint_score", at)
    parts, sources = motion.track.read("parts", at), motion.track.read("metric_source", at)
    confidence = motion.track.read("confidence", at)
    for i, valid in enumerate(motion.valid[at]):
        if not valid:
            yield None
            continue
        hands = {
            f"{side}_hand": hand_points(joints[i], rotations[i], side)
            for side, part in (("left", Part.LEFT_HAND), ("right", Part.RIGHT_HAND)) if int(parts[i]) & part
        }  # fmt: skip
        seen = np.nan_to_num(score[i][joints_of], nan=1.0) >= _MIN_JOINT_SCORE
        yield Human(
            int(pose.stamps[i]), motion.track.track_id, joints[i][joints_of], seen, rotations[i][joints_of],
            float(np.nan_to_num(confidence[i], nan=1.0)), metric_source=MetricSource(int(sources[i])), **hands,
        )  # fmt: skip


_MIN_JOINT_SCORE = 0.3
"""Joints below count as not seen, as in a live session."""


def need_one(robot: RobotMotion | None, name: str) -> RobotMotion:
    """Return the robot's motion.

    Raises:
        ConfigError: There is none.
    """
    if robot is None:
        raise ConfigError(
            f"{name} holds a robot's joints: --robot NAME retargets the person, --robot-joints FILE.csv or "
            "--robot-joints /topic of a recording brings them"
        )
    return robot
