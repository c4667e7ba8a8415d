"""Differential inverse kinematics: targets to joints, a small QP warm-started from the last posture.

Each iteration solves   min 1/2 dq^T H dq + c^T dq   subject to   lower <= dq <= upper,   A dq >= b
with the tasks in H and c (pink), limits of position, speed and acceleration as bounds, and a velocity damper for each
near pair of capsules as a row. Of k iterations each gets dt/k, so the limits hold per elapsed time.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..types import Array
from .barriers import Barriers
from .command import Flag
from .ground import FEET
from .robot import Robot
from .settings import CollisionSettings, LimitSettings, SolverSettings
from .targets import ROOT_OF, Targets

if TYPE_CHECKING:
    from pink.tasks import Task

DAMPING = 1e-4
"""Tikhonov term on every joint's step: keeps H positive definite."""
STANDING_COST = 4.0
"""Cost of a foot on the ground over its own cost."""
SOFT = 1e-6
"""DAQP's rho_soft: how cheap a broken soft row is."""
_REGULAR, _SOFT = 0, 8
"""DAQP's kinds of rows."""
_INFINITE = 1e30


@dataclass(frozen=True, eq=False)
class Solution:
    """Where one frame's targets led.

    Attributes:
        q: Configuration of the whole model.
        position: Commanded joints (n,) [rad].
        flags: FALLBACK_QP, BARRIER_ACTIVE, AT_POSITION_LIMIT, LIMITED_VELOCITY, LIMITED_ACCELERATION, COLLISION.
        task_error_m, task_error_rad: By human part, against the unlimited target.
    """

    q: Array
    position: Array
    flags: Flag
    task_error_m: dict[str, float]
    task_error_rad: dict[str, float]


class Solver:
    """Follows targets within a robot's limits. Deterministic; no clock.

    Attributes:
        q: The present posture, whole model.
        counts: How often each fallback was needed: `acceleration`, `barriers`, `braked`, and `collision`.
    """

    def __init__(
        self,
        robot: Robot,
        solver: SolverSettings | None = None,
        collision: CollisionSettings | None = None,
        limits: LimitSettings | None = None,
    ) -> None:
        from pink import Configuration

        self.robot = robot
        self.settings, self.collision = solver or SolverSettings(), collision or CollisionSettings()
        limits = limits or LimitSettings()
        self.counts: Counter[str] = Counter()
        model = robot.model
        base = np.arange(6) if robot.floating else np.arange(0)
        self._columns = np.concatenate([base, robot.idx_v[robot.solved]])
        self._idx_q = robot.idx_q[robot.solved]
        self._nb = len(base)
        self._lower, self._upper = robot.lower[robot.solved], robot.upper[robot.solved]
        self._speed = np.concatenate([
            np.repeat([limits.base_m_s, limits.base_rad_s], 3)[: self._nb], robot.velocity[robot.solved]
        ])  # fmt: skip
        self._neutral = robot.neutral[self._idx_q]
        self._configuration = Configuration(model, model.createData(), robot.neutral, copy_data=False)
        self._barriers = Barriers(robot, self.collision)
        self._made: dict[tuple[str, str], Any] = {}
        self.reset(robot.neutral)

    def reset(self, q: Array) -> None:
        """Start from a posture at rest: the measured one, never the first human frame."""
        self.q = np.array(q, np.float64)
        self._v = np.zeros(len(self._columns))

    def set_frozen(self, q: Array) -> None:
        """Put the joints that are not commanded where they were measured; `q` is of the whole model."""
        moved = self.q[self.robot.idx_q]
        base = self.q[:7].copy() if self.robot.floating else None
        self.q = np.array(q, np.float64)
        self.q[self.robot.idx_q] = moved
        if base is not None:
            self.q[:7] = base

    def solve(self, targets: Targets, dt_s: float, speed_rad_s: float = np.inf) -> Solution:
        """Move towards the targets for one source frame.

        Args:
            targets: Unlimited.
            dt_s: Time since the last frame [s]; clipped to `solver.max_dt_s`.
            speed_rad_s: A further limit on every joint's speed, for a slow start.
        """
        if not len(self._columns):  # a hand alone
            return self._solution(targets, Flag.NONE)
        dt_s = self.clipped(dt_s)
        k, start, flags = self.settings.iterations, self.q, Flag.NONE
        before: Array | None = None
        total = np.zeros(len(self._columns))
        speed = self._speed.copy()
        speed[self._nb :] = np.minimum(speed[self._nb :], speed_rad_s)
        for _ in range(k):
            step, more = self._iterate(targets, dt_s / k, dt_s, speed)
            before = self._barriers.margins if before is None else before
            total += step
            flags |= more
            self.q = self._moved(self.q, step)
        after = self._placed(self.q)
        if before is not None and np.any((after < 0) & (after < before - 1e-6)):
            flags |= Flag.COLLISION
            self.counts["collision"] += 1
            self.q, total = start, np.zeros_like(total)
            self._placed(self.q)
        self._v = total / dt_s
        return self._solution(targets, flags)

    def clipped(self, dt_s: float) -> float:
        """Return the time that a frame counts as [s]."""
        return float(np.clip(dt_s, 1e-3, self.settings.max_dt_s))

    def _moved(self, q: Array, step: Array) -> Array:
        import pinocchio as pin

        full = np.zeros(self.robot.model.nv)
        full[self._columns] = step
        moved = pin.integrate(self.robot.model, q, full)
        # Rounding alone can pass a limit; a joint that was outside stays free to come in.
        own = self._idx_q
        moved[own] = np.clip(moved[own], np.minimum(self._lower, q[own]), np.maximum(self._upper, q[own]))
        return moved

    def _placed(self, q: Array) -> Array:
        """Place the frames at `q` and return the distances to what must not be touched [m]."""
        import pinocchio as pin

        data = self._configuration.data
        pin.framesForwardKinematics(self.robot.model, data, q)
        return self._barriers.measure(data)

    def _iterate(self, targets: Targets, dt_s: float, frame_s: float, speed: Array) -> tuple[Array, Flag]:
        self._configuration.update(self.q)
        H, c = self._objective(targets)
        box = self._bounds(dt_s, speed)
        rows, least = self._barriers.rows(self._configuration.data)
        tight = self._within_acceleration(*box, dt_s, frame_s)
        step, flags = self._solve_qp(H, c, box, tight, rows[:, self._columns], least)
        if step is None:
            step = self._braked(box, dt_s, frame_s)
        moving = slice(self._nb, None)
        if np.any(np.abs(step[moving]) >= speed[moving] * dt_s * (1 - 1e-6)):
            flags |= Flag.LIMITED_VELOCITY
        near = np.minimum(self.q[self._idx_q] - self._lower, self._upper - self.q[self._idx_q])
        if np.any(near < 1e-6):
            flags |= Flag.AT_POSITION_LIMIT
        return step, flags

    def _objective(self, targets: Targets) -> tuple[Array, Array]:
        """Return H and c of all tasks: what pink sums task by task, in one product.

        Source: pink's `Task.compute_qp_objective`; Levenberg-Marquardt damping after Sugihara, IEEE T-RO 2011.
        """
        configuration = self._configuration
        tasks = self._tasks(targets)
        rows = [task.cost[:, None] * task.compute_jacobian(configuration)[:, self._columns] for task in tasks]
        errors = [task.cost * task.compute_error(configuration) for task in tasks]
        J, e = (
            (np.concatenate(x) for x in (rows, errors)) if tasks else (np.empty((0, len(self._columns))), np.empty(0))
        )
        H = J.T @ J
        damping = DAMPING + sum(
            task.lm_damping * float(error @ error) for task, error in zip(tasks, errors, strict=True)
        )
        c = J.T @ e
        own, cost = slice(self._nb, None), self.settings.posture_cost**2
        H[np.diag_indices_from(H)] += damping
        H[own, own][np.diag_indices(len(c) - self._nb)] += cost
        c[own] += cost * (self.q[self._idx_q] - self._neutral)
        return H, c

    def _tasks(self, targets: Targets) -> list[Task]:
        out = []
        for part, goal in targets.relative.items():
            task = self._task("relative", part)
            if task is not None:
                task.target = goal.value
                out.append(_weighted(task, goal.weight))
        for kind, goals in (("points", targets.points), ("rotations", targets.rotations)):
            for part, goal in goals.items():
                task = self._task(kind, part)
                if task is not None:
                    task.aim(self._configuration, goal.value)
                    out.append(_weighted(task, goal.weight))
        return out

    def _task(self, kind: str, part: str) -> Any:
        """Return the task of a part, made when it is first needed; None where the mapping gives it no cost."""
        key = (kind, part)
        if key not in self._made:
            from .tasks import PointTask, RotationTask, VectorTask

            link, frames, damping = self.robot.mapping.links[part], self.robot.frames, self.settings.lm_damping
            cost = link.orientation if kind == "rotations" else link.position
            if kind == "points" and part in FEET:
                cost *= STANDING_COST
            if not cost > 0:
                task = None
            elif kind == "relative":
                task = VectorTask(frames[ROOT_OF[part]], frames[part], cost, damping)
            else:
                task = (PointTask if kind == "points" else RotationTask)(link.frame, cost, damping)
            if task is not None:
                task.full_cost = task.cost.copy()
            self._made[key] = task
        return self._made[key]

    def _bounds(self, dt_s: float, speed: Array) -> tuple[Array, Array]:
        """Return the bounds of position and speed on a step; never empty: a joint outside is brought in."""
        most = speed * dt_s
        lower, upper = -most, most.copy()
        own, q = slice(self._nb, None), self.q[self._idx_q]
        lower[own] = np.clip(self._lower - q, -most[own], most[own])
        upper[own] = np.clip(self._upper - q, -most[own], most[own])
        return lower, upper

    def _within_acceleration(
        self, lower: Array, upper: Array, dt_s: float, frame_s: float
    ) -> tuple[Array, Array] | None:
        """Return tighter bounds that also hold the acceleration since the last frame; None where they are empty."""
        a = self.settings.acceleration_rad_s2
        if a <= 0:
            return lower, upper
        low, high = np.maximum(lower, (self._v - a * frame_s) * dt_s), np.minimum(upper, (self._v + a * frame_s) * dt_s)
        return None if np.any(low > high) else (low, high)

    def _solve_qp(
        self, H: Array, c: Array, box: tuple[Array, Array], tight: tuple[Array, Array] | None, rows: Array, least: Array
    ) -> tuple[Array | None, Flag]:
        """Solve, giving up one kind of row after another: acceleration, then the barriers' hardness, then the solution.

        The bounds of position and speed are never given up. None: there is no solution, the robot is to brake.
        """
        flags = Flag.NONE
        for name, bounds, kind in (("", tight, _REGULAR), ("acceleration", box, _REGULAR), ("barriers", box, _SOFT)):
            if name:
                self.counts[name] += 1
                flags |= Flag.FALLBACK_QP
            step = None if bounds is None else _daqp(H, c, bounds, rows, least, kind)
            if step is None:
                continue
            step = np.clip(step, *bounds)
            if len(rows) and np.any(rows @ step <= least + 1e-6):
                flags |= Flag.BARRIER_ACTIVE
            if (
                tight is not None
                and bounds is tight
                and np.any(((step <= tight[0]) & (tight[0] > box[0])) | ((step >= tight[1]) & (tight[1] < box[1])))
            ):
                flags |= Flag.LIMITED_ACCELERATION
            return step, flags
        self.counts["braked"] += 1
        return None, flags | Flag.FALLBACK_QP

    def _braked(self, box: tuple[Array, Array], dt_s: float, frame_s: float) -> Array:
        """Return a step that slows every joint down at its acceleration limit."""
        base = np.full(self._nb, self.settings.acceleration_rad_s2)
        a = np.concatenate([base, self.robot.acceleration[self.robot.solved]])
        slower = np.sign(self._v) * np.maximum(np.abs(self._v) - a * frame_s, 0)
        return np.clip(slower * dt_s, *box)

    def _solution(self, targets: Targets, flags: Flag) -> Solution:
        frames, placed = self.robot.frames, self._configuration.data.oMf
        error_m, error_rad = {}, {}
        for part, goal in targets.relative.items():
            vector = placed[frames[part]].translation - placed[frames[ROOT_OF[part]]].translation
            error_m[part] = float(np.linalg.norm(vector - goal.value))
        for part, goal in targets.points.items():
            error_m[part] = float(np.linalg.norm(placed[frames[part]].translation - goal.value))
        for part, goal in targets.rotations.items():
            cosine = (float(np.vdot(goal.value, placed[frames[part]].rotation)) - 1) / 2
            error_rad[part] = math.acos(min(max(cosine, -1.0), 1.0))
        return Solution(self.q.copy(), self.q[self.robot.idx_q], flags, error_m, error_rad)


def _weighted(task: Any, weight: float) -> Any:
    task.cost = task.full_cost * weight
    return task


def _daqp(H: Array, c: Array, bounds: tuple[Array, Array], rows: Array, least: Array, kind: int) -> Array | None:
    """Return the solution, or None where the rows contradict each other."""
    import daqp

    n, m = len(c), len(least)
    lower, upper = np.concatenate([bounds[0], least]), np.concatenate([bounds[1], np.full(m, _INFINITE)])
    sense = np.zeros(n + m, np.int32)
    sense[n:] = kind
    x, _, status, _ = daqp.solve(H, c, np.ascontiguousarray(rows), upper, lower, sense, rho_soft=SOFT)
    return np.array(x) if status > 0 and np.isfinite(x).all() else None
