"""One person's frame to one posture of a robot: the whole computation, without a clock."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..types import Array
from .command import Target
from .hands import Hands
from .human import Human, mirrored
from .robot import Robot
from .settings import TeleopSettings
from .solve import Solution, Solver
from .targets import TargetMaker, Targets


class Retargeter:
    """Follows one person with one robot. The same frames give the same postures, however long they took.

    Attributes:
        robot: Loaded and checked.
        targets: Makes targets; holds what is learnt about the person.
        solver: Holds the robot's posture.
        hands: Moves the fingers in it.
    """

    def __init__(self, robot: Robot, settings: TeleopSettings | None = None) -> None:
        settings = settings or TeleopSettings()
        self.robot, self.hand_mode = robot, settings.hands
        self.targets = TargetMaker(
            robot, settings.missing, settings.ground, mirror=settings.mirror, clutched=settings.hands == "clutched"
        )
        self.solver = Solver(robot, settings.solver, settings.collision, settings.limits)
        self.hands = Hands(robot, settings)
        self._mirror = settings.mirror
        self._first_dt_s = 1 / settings.freshness.source_hz
        self._last_ns: int | None = None
        self._placed = False

    def forget(self) -> None:
        """Another person follows."""
        self.targets.reset()
        self.hands.forget()
        self._last_ns, self._placed = None, False

    def learn(self, people: Iterable[Human]) -> None:
        """Take the person's lengths from frames of a recording before it is retargeted."""
        for person in people:
            self.targets.lengths.update(mirrored(person) if self._mirror else person)

    def start_from(self, q: Array) -> None:
        """Take a measured configuration of the whole model as the present posture, at rest."""
        self.solver.reset(q)

    def engage(self, person: Human) -> None:
        """Take the person's present pose as the zero of clutched hands."""
        placed = self.robot.frame_placements(self.solver.q)
        wrists = {part: placed[part][:3, 3] for part in ("left_wrist", "right_wrist") if part in placed}
        self.targets.engage(person, wrists)

    def retarget(self, person: Human, speed_rad_s: float = np.inf) -> tuple[Target, Solution] | None:
        """Return the posture for one frame; None where there is none (see `TargetMaker.make`).

        Args:
            person: Frames in the order of their stamps; a repeated or older stamp gives None.
            speed_rad_s: A further limit on the joints' speed.

        Raises:
            BadFrame: `mirror` is set and pelvis or hips were not seen.
        """
        last = self._last_ns
        if last is not None and person.stamp_ns <= last:
            return None
        targets = self.targets.make(person) if self.robot.frames else Targets()  # a hand alone needs no body
        self._last_ns = person.stamp_ns
        if targets is None:
            return None
        if self.robot.floating and not self._placed and "pelvis" in targets.points:
            self._place_base(targets)
        dt_s = self._first_dt_s if last is None else (person.stamp_ns - last) * 1e-9
        flags, errors_m = self.hands.move(person, self.solver.q, self.solver.clipped(dt_s), speed_rad_s)
        solution = self.solver.solve(targets, dt_s, speed_rad_s)
        T = None
        if self.robot.floating:
            import pinocchio as pin

            T = pin.XYZQUATToSE3(solution.q[:7]).homogeneous
        return Target(
            person.stamp_ns, person.track_id, solution.position, T, targets.flags | solution.flags | flags,
            solution.task_error_m | errors_m, solution.task_error_rad, self.hand_mode,
        ), solution  # fmt: skip

    def _place_base(self, targets: Targets) -> None:
        """Put a floating base where the person is first seen: nothing measures it, and it need not walk there."""
        import pinocchio as pin

        q = self.solver.q
        frame = pin.SE3(self.robot.frame_placements(q)["pelvis"])
        turn = targets.rotations["pelvis"].value if "pelvis" in targets.rotations else frame.rotation
        base = pin.SE3(turn, targets.points["pelvis"].value) * frame.inverse() * pin.XYZQUATToSE3(q[:7])
        self.solver.q[:7] = pin.SE3ToXYZQUAT(base)
        self._placed = True
