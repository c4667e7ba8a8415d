"""A robot's fingers after a person's hands, each side by what its mapping says.

By fingertip vectors (`hand_solver`), or, for grippers and simple hands, by how far each finger is bent, without solving
anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..types import Array
from .command import Flag
from .hand_model import HandModel
from .hand_solver import HandSolver
from .hand_targets import H, HandGoals, HandTargets
from .human import Human
from .mapping import Finger
from .robot import Robot
from .settings import TeleopSettings

FULL_BEND_RAD = np.radians(200.0)
"""Sum of a finger's three bends when it is closed; the thumb's is less."""
THUMB_BEND_RAD = np.radians(90.0)
OPEN_PINCH = 1.0
"""Distance of thumb and index tip of an open hand, over the length of the palm (wrist to the middle finger's base)."""

_FINGERS = {finger: [H[f"{finger}{i}"] for i in range(4)] for finger in ("thumb", "index", "middle", "ring", "little")}


class Hands:
    """Moves the joints of the group `fingers`.

    Attributes:
        by_vectors: Side -> the hand that follows by fingertip vectors.
    """

    def __init__(self, robot: Robot, settings: TeleopSettings) -> None:
        self._robot, self._mirror = robot, settings.mirror
        self.by_vectors = {side: VectorHand(hand, settings) for side, hand in robot.hands.items()}
        rows = {name: row for row, name in enumerate(robot.joint_names)}
        self._by_closure = {
            side: [(rows[name], finger) for name, finger in joints.items() if name in rows]
            for side, joints in robot.mapping.hands.items()
        }
        self._closed: dict[str, dict[str, float] | None] = dict.fromkeys(self._by_closure)

    def forget(self) -> None:
        """Another person follows."""
        for hand in self.by_vectors.values():
            hand.targets.reset()

    def see(self, person: Human) -> Flag:
        """Take one frame, and return HOLDOVER or JOINT_MISSING; a hand that is None or not finite was not seen."""
        flags = Flag.NONE
        for side, hand in self.by_vectors.items():
            source, points = self._source(person, side)
            flags |= hand.see(person.stamp_ns, points, source)
        for side in self._by_closure:
            _, points = self._source(person, side)
            seen = points is not None and np.isfinite(points).all()
            self._closed[side] = closures(points) if seen else None
        return flags

    def move(self, q: Array, dt_s: float, speed_rad_s: float = np.inf) -> Mapping[str, float]:
        """Move the fingers in a configuration of the whole robot, in place, towards what was seen last.

        Args:
            q: The last posture, (nq,) [rad].
            dt_s: Time since the last frame [s].
            speed_rad_s: A further limit on the speed of joints that follow by vectors.

        Returns:
            By hand the largest error of a vector [m].
        """
        errors = {}
        for side, hand in self.by_vectors.items():
            error_m = hand.move(q, dt_s, speed_rad_s)
            if error_m is not None:
                errors[f"{side}_hand"] = error_m
        for side, joints in self._by_closure.items():
            closed = self._closed[side]
            if closed is not None:
                self._close(closed, joints, q, dt_s)
        return errors

    def _source(self, person: Human, side: str) -> tuple[str, Array | None]:
        """Return which hand of the person moves the robot's of that side, and its points."""
        source = {"left": "right", "right": "left"}[side] if self._mirror else side
        return source, person.left_hand if source == "left" else person.right_hand

    def _close(self, closed: dict[str, float], joints: list[tuple[int, Finger]], q: Array, dt_s: float) -> None:
        """Move the joints that follow how far a hand is closed, no faster than they may."""
        robot = self._robot
        for row, finger in joints:
            value = finger.open + closed[finger.follows] * (finger.closed - finger.open)
            i, most = robot.idx_q[row], robot.velocity[row] * dt_s
            q[i] = np.clip(np.clip(value, q[i] - most, q[i] + most), robot.lower[row], robot.upper[row])


class VectorHand:
    """One hand of a robot that follows by fingertip vectors.

    Attributes:
        model: Its joints.
        targets: Makes goals; holds what is learnt about the person's hand.
        solver: Reaches them.
    """

    def __init__(self, model: HandModel, settings: TeleopSettings) -> None:
        self.model, mapping = model, model.mapping
        rows = np.array([[H[vector.start], H[vector.end]] for vector in mapping.vectors], np.intp)
        pinch = np.array([H[tip] for tip in mapping.pinch], np.intp)
        self.targets = HandTargets(
            mapping.palm, (rows[:, 0], rows[:, 1]), model.scales, pinch, settings.fingers, settings.missing
        )
        self.solver = HandSolver(model, settings.fingers)

        self._goals: HandGoals | None = None

    def see(self, stamp_ns: int, points: Array | None, source: str) -> Flag:
        """Take one frame; see `Hands.see`.

        Args:
            stamp_ns: Of the frame.
            points: (21, 3) [m] of a person's hand.
            source: left or right: which hand of the person that is; the other one than the robot's is mirrored.
        """
        self._goals, flags = self.targets.make(stamp_ns, points, source, source != self.model.side)
        return flags

    def move(self, q: Array, dt_s: float, speed_rad_s: float = np.inf) -> float | None:
        """Move the hand's joints in `q`, in place; see `Hands.move`.

        Args:
            q: Configuration of the whole robot.
            dt_s, speed_rad_s: As for `HandSolver.solve`.
        """
        model, error_m = self.model, None
        x = q[model.idx_own]
        if self._goals is None:
            x = self.solver.rest(x, dt_s, speed_rad_s)
        else:
            x, error_m = self.solver.solve(x, self._goals, dt_s, speed_rad_s)
        q[model.idx_q] = model.C @ x + model.d
        return error_m


def closures(hand: Array) -> dict[str, float]:
    """Return how far each finger is bent and how near thumb and index are, 0 open to 1 closed.

    Args:
        hand: (21, 3) in the order of `HAND_POINTS`, any axes.
    """
    out = {"pinch": 1 - _clip(np.linalg.norm(hand[H["thumb3"]] - hand[H["index3"]]) / (OPEN_PINCH * palm_m(hand)))}
    for finger, rows in _FINGERS.items():
        points = hand[[H["wrist"], *rows]] if finger != "thumb" else hand[rows]
        bones = np.diff(points, axis=0)
        bones = bones / np.maximum(np.linalg.norm(bones, axis=1, keepdims=True), 1e-9)
        bend = float(np.arccos(np.clip(np.sum(bones[1:] * bones[:-1], axis=1), -1, 1)).sum())
        out[finger] = _clip(bend / (THUMB_BEND_RAD if finger == "thumb" else FULL_BEND_RAD))
    return out


def palm_m(hand: Array) -> float:
    """Return the length of the palm [m]."""
    return max(float(np.linalg.norm(hand[H["middle0"]] - hand[H["wrist"]])), 1e-6)


def _clip(value: float) -> float:
    return float(np.clip(value, 0, 1))
