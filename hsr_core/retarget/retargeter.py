"""One person's frame to one posture of a robot: the whole computation, without a clock."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import ConfigError
from ..types import Array
from .command import Flag, Target
from .hands import Hands
from .human import Human
from .robot import Robot
from .settings import TeleopSettings
from .solve import Solution, Solver
from .targets import WRISTS, TargetMaker, Targets


class Retargeter:
    """Follows one person with one robot. The same frames give the same postures, however long they took.

    Attributes:
        robot: Loaded and checked.
        targets: Makes targets; holds what is learnt about the person.
        solver: Holds the robot's posture.
        hands: Moves the fingers in it.
        first_dt_s: What the first frame counts as [s].
    """

    def __init__(self, robot: Robot, settings: TeleopSettings | None = None) -> None:
        settings = settings or TeleopSettings()
        if settings.limits != robot.limits:
            raise ConfigError("the robot was loaded with other limits: load_robot(name, mode, settings.limits)")
        self.robot, self.hand_mode = robot, settings.hands
        self.targets = TargetMaker(
            robot, settings.missing, settings.ground, mirror=settings.mirror, clutched=settings.hands == "clutched"
        )
        self.solver, self._ahead = (
            Solver(robot, settings.solver, settings.collision, settings.limits) for _ in range(2)
        )
        self.hands = Hands(robot, settings)
        self._fingers = robot.idx_q[~robot.solved]
        self.first_dt_s = 1 / settings.freshness.source_hz
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
            self.targets.learn(person)

    def start_from(self, q: Array) -> None:
        """Take a measured configuration of the whole model as the present posture, at rest."""
        self.solver.reset(q)
        self._ahead.reset(q)

    def engage(self) -> None:
        """Take the pose of the next frame as the zero of clutched hands."""
        self.targets.engage(self._wrists)

    def _wrists(self) -> dict[str, Array]:
        placed = self.robot.frame_placements(self.solver.q)
        return {part: placed[part][:3, 3] for part in WRISTS if part in placed}

    def retarget(self, person: Human, speed_rad_s: float = np.inf) -> tuple[Target, Solution] | None:
        """Return the posture for one frame; None where there is none (see `TargetMaker.make`).

        Args:
            person: Frames in the order of their stamps; a repeated or older stamp gives None.
            speed_rad_s: A further limit on the joints' speed, for a slow start; `Target.goal` then tells how far it is.

        Raises:
            BadFrame: See `TargetMaker.make`.
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
        dt_s = self.first_dt_s if last is None else (person.stamp_ns - last) * 1e-9
        flags = self.hands.see(person)
        before = self.solver.q[self._fingers]
        errors_m = self.hands.move(self.solver.q, self.solver.clipped(dt_s), speed_rad_s)
        solution = self.solver.solve(targets, dt_s, speed_rad_s)
        goal = None
        if np.isfinite(speed_rad_s):
            most = speed_rad_s * self.solver.clipped(dt_s) * (1 - 1e-6)
            held = np.abs(solution.q[self._fingers] - before).max(initial=0) >= most
            goal = self._goal(targets, dt_s, solution, held or Flag.LIMITED_VELOCITY in solution.flags)
        T = None
        if self.robot.floating:
            import pinocchio as pin

            T = pin.XYZQUATToSE3(solution.q[:7]).homogeneous
        return Target(
            person.stamp_ns, person.track_id, solution.position, T, targets.flags | solution.flags | flags,
            solution.task_error_m | errors_m, solution.task_error_rad, self.hand_mode, goal,
        ), solution  # fmt: skip

    def _goal(self, targets: Targets, dt_s: float, slow: Solution, held: bool) -> Array:
        """Return where the joints would be without the slow start's limit; what it does not hold up is there."""
        if not held:
            self._ahead.reset(slow.q)
            return slow.position
        self.hands.move(self._ahead.q, self._ahead.clipped(dt_s))
        return self._ahead.solve(targets, dt_s).position

    def _place_base(self, targets: Targets) -> None:
        """Put a floating base where the person is first seen: nothing measures it, and it need not walk there."""
        import pinocchio as pin

        q = self.solver.q
        frame = pin.SE3(self.robot.frame_placements(q)["pelvis"])
        turn = targets.rotations["pelvis"].value if "pelvis" in targets.rotations else frame.rotation
        base = pin.SE3(turn, targets.points["pelvis"].value) * frame.inverse() * pin.XYZQUATToSE3(q[:7])
        self.solver.q[:7] = pin.SE3ToXYZQUAT(base)
        self._placed = True
