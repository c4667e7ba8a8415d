"""A robot that follows a person's recorded motion, and how well it does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench_retarget import slides
from ..export.motion import Motion
from ..export.robot_motion import RobotMotion, retarget_motion
from ..retarget.command import Flag, Target
from ..retarget.ground import SEGMENTS
from ..retarget.retargeter import Retargeter
from ..retarget.robot import Robot
from ..retarget.settings import TeleopSettings
from ..retarget.solve import Solution
from ..types import Array

ROUNDING = 1e-6
"""Relative; of limits."""


@dataclass(frozen=True, eq=False)
class Followed:
    """What a robot makes of a motion.

    Attributes:
        motion: Its joints.
        standing: (T, 2) bool: left, right foot is held.
        figures: JSON-able; see `docs/imitate.md`.
    """

    motion: RobotMotion
    standing: NDArray[np.bool_]
    figures: dict[str, Any]


def follow(motion: Motion, robot: Robot, settings: TeleopSettings) -> Followed:
    """Retarget a whole motion, with the solver's limits; no governor, because there is no clock.

    Nothing measured says where the robot was before: it begins settled in the first posture.
    """
    retargeter, notes = Retargeter(robot, settings), _Notes(robot)
    standing = np.zeros((len(motion.track), 2), bool)

    def watch(frame: int, target: Target, solution: Solution) -> None:
        standing[frame] = retargeter.targets.contacts.on
        notes.add(frame, solution.q, target.task_error_m)

    made = retarget_motion(motion, retargeter, watch)
    figures = _figures(robot, retargeter, made, standing, notes)
    return Followed(made, standing, figures)


class _Notes:
    """What is kept of each frame to be summed up."""

    def __init__(self, robot: Robot) -> None:
        self._robot, self._data = robot, robot.model.createData()
        self.frames: list[int] = []
        self.feet: list[list[Array]] = []
        self.wrists: list[list[float]] = []
        self.clearance: list[float] = []

    def add(self, frame: int, q: Array, error_m: Any) -> None:
        import pinocchio as pin

        robot = self._robot
        pin.framesForwardKinematics(robot.model, self._data, q)
        feet = [robot.frames[f"{side}_ankle"] for side in ("left", "right") if f"{side}_ankle" in robot.frames]
        self.frames.append(frame)
        self.feet.append([self._data.oMf[foot].translation.copy() for foot in feet])
        self.wrists.append([error_m.get(f"{side}_wrist", np.nan) for side in ("left", "right")])
        if len(robot.capsules):
            self.clearance.append(float(robot.capsules.distances(robot.capsules.place(self._data.oMf))[0].min()))


def _figures(
    robot: Robot, retargeter: Retargeter, made: RobotMotion, standing: NDArray[np.bool_], notes: _Notes
) -> dict[str, Any]:
    flags = [Flag(int(value)) for value in made.flags[made.valid]]
    out: dict[str, Any] = {
        "frames_followed": int(made.valid.sum()),
        "limits": limits_of(robot, made),
        "wrist_error_mm": _errors_mm(notes.wrists),
        "closest_parts_mm": round(1e3 * min(notes.clearance), 1) if notes.clearance else None,
        "flags": dict(Counter(str(one.name) for value in flags for one in Flag if one and one in value)),
        "fallbacks": dict(retargeter.solver.counts),
        "person_m": _lengths(retargeter),
    }
    if robot.floating and notes.feet:
        out["feet"] = slides(np.array(notes.feet), standing[notes.frames])
    return out


def limits_of(robot: Robot, made: RobotMotion) -> dict[str, Any]:
    """Return how often a motion leaves the limits in force, and its largest speed as part of its limit.

    From one posture to the next that is known, over missing frames as well.
    """
    q, stamps = made.position[made.valid], made.stamps[made.valid]
    span = robot.upper - robot.lower
    outside = (q < robot.lower - ROUNDING * span) | (q > robot.upper + ROUNDING * span)
    part = np.abs(np.diff(q, axis=0)) / (np.diff(stamps) * 1e-9)[:, None] / robot.velocity
    return {
        "position_violations": int(outside.sum()),
        "speed_violations": int((part > 1 + ROUNDING).sum()),
        "speed_most": round(float(part.max(initial=0)), 4),
    }


def _errors_mm(wrists: list[list[float]]) -> dict[str, float | None]:
    known = np.array(wrists, np.float64).reshape(-1)
    known = 1e3 * known[np.isfinite(known)]
    if not known.size:
        return {"rms": None, "p95": None}
    return {"rms": round(float(np.sqrt(np.mean(known**2))), 1), "p95": round(float(np.percentile(known, 95)), 1)}


def _lengths(retargeter: Retargeter) -> dict[str, float | None]:
    frozen = retargeter.targets.lengths.frozen
    if frozen is None:
        return {}
    return {
        f"{a} to {b}": None if np.isnan(length) else round(float(length), 3)
        for (a, b), length in zip(SEGMENTS, frozen, strict=True)
    }
