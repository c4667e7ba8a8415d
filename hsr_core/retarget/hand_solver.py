"""A robot's hand after vectors: damped Gauss-Newton from the last posture, limits of position and speed inside.

With v_i(x) the n vectors of the robot's hand, v*_i the wanted ones, and thumb and finger u_j(x) apart, it minimises

    (1/N) [ sum_i w_i rho(|v_i - v*_i|) + sum_j w(s_j) rho(||u_j| - g_j|) ] + a |x - x_last|^2 + b |x - x_neutral|^2

where rho is the smooth absolute value of width `huber_m` (quadratic within, linear beyond: a finger that cannot reach
its target does not drag the others), N the sum of the w_i, s_j how far the person pinches and g_j the distance at which
the tips touch, or nearly. The weight of a pinch grows geometrically, w(s) = (1 + pinch_weight)^s - 1: a straight line
would pass the vectors' 1 at the first touch of s, and the hand would snap.

Source:
    Vectors, smooth absolute value and the pull to the last command: Qin et al., AnyTeleop, RSS 2023, sec. IV; pinching:
    Handa et al., DexPilot, ICRA 2020. Differs in: a pinch fades in over a range of distances where DexPilot switches,
    its target is a distance and not a vector, and the QP has the speed limit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..types import Array
from .hand_model import HandModel
from .hand_targets import HandGoals
from .settings import FingerSettings

DAMPING = 1e-6
"""On every joint's step: keeps H positive definite."""
STILL_RAD = 1e-4
"""A smaller step ends the iterations."""
SHORTER = 0.25
"""A step that made it worse is tried again as this part of it."""


class Expansion(NamedTuple):
    """The objective about one posture: value, H and c of 1/2 dx^T H dx + c^T dx; largest error of a vector [m]."""

    x: Array
    value: float
    H: Array
    c: Array
    error_m: float


class HandSolver:
    """Follows one hand's goals. Deterministic; no clock, and no posture of its own.

    Attributes:
        hand: The model.
        settings: As given.
    """

    def __init__(self, hand: HandModel, settings: FingerSettings) -> None:
        self.hand, self.settings = hand, settings
        self._data = hand.model.createData()
        self._points = hand.place(hand.neutral)
        self._slopes = np.zeros((len(hand.points), 3, len(hand.names)))
        joint_of = [hand.model.frames[frame].parent for frame in hand.points]
        self._moving = [(i, frame) for i, frame in enumerate(hand.points) if joint_of[i] > 0]
        self._weights = hand.weights / hand.weights.sum()
        self._sum = float(hand.weights.sum())

    def solve(self, x: Array, goals: HandGoals, dt_s: float, speed_rad_s: float = np.inf) -> tuple[Array, float]:
        """Return the next posture and the largest error of a vector.

        Args:
            x: The last posture, (m,) [rad]; a joint outside its limits is brought in at its speed.
            goals: What to reach.
            dt_s: Time that the step may take [s].
            speed_rad_s: A further limit on every joint's speed.

        Returns:
            Posture (m,) [rad], within the limits and within reach; largest |v_i - v*_i| there [m].
        """
        lower, upper = self._bounds(x, dt_s, speed_rad_s)
        wanted = goals.vectors @ self.hand.R_root_hand.T
        home = goals.weight * self.settings.still_cost * dt_s / self.settings.return_s
        best, step, trial = None, np.zeros_like(x), np.clip(x, lower, upper)
        for _ in range(self.settings.iterations):
            here = self.expand(trial, x, wanted, goals, home)
            if best is None or here.value < best.value:
                best = here
                step = box_step(here.H, here.c, lower - here.x, upper - here.x)
            else:
                step = SHORTER * step
            if np.abs(step).max() < STILL_RAD:
                break
            trial = np.clip(best.x + step, lower, upper)
        assert best is not None
        return best.x, best.error_m

    def rest(self, x: Array, dt_s: float, speed_rad_s: float = np.inf) -> Array:
        """Return the next posture of a hand without goals: on the way to neutral, or where it is."""
        lower, upper = self._bounds(x, dt_s, speed_rad_s)
        part = 0.0 if self.settings.unseen == "keep" else 1 - float(np.exp(-dt_s / self.settings.return_s))
        return np.clip(x + part * (self.hand.neutral - x), lower, upper)

    def expand(self, x: Array, last: Array, wanted: Array, goals: HandGoals, home: float) -> Expansion:
        """Return the objective about `x` to second order, after Gauss and Newton.

        Args:
            x: Posture (m,) [rad].
            last: The last command, (m,) [rad].
            wanted: Vectors (n, 3) in the model's axes [m].
            goals: For pinch and weight.
            home: Pull to the neutral posture, per rad².
        """
        hand, width, still = self.hand, self.settings.huber_m, self.settings.still_cost
        self._place(x)
        away, pull = x - last, x - hand.neutral
        H, c = (2 * (still + home) + DAMPING) * np.eye(len(x)), 2 * still * away + 2 * home * pull
        value = still * float(away @ away) + home * float(pull @ pull)
        e = self._points[hand.end] - self._points[hand.start] - wanted
        J = self._slopes[hand.end] - self._slopes[hand.start]
        size, weight = np.sqrt(np.einsum("ij,ij->i", e, e)), goals.weight * self._weights
        value += float(weight @ smooth_abs(size, width))
        weighted = J.reshape(-1, len(x)) * np.repeat(weight / np.maximum(size, width), 3)[:, None]
        H += weighted.T @ J.reshape(-1, len(x))
        c += e.ravel() @ weighted
        if len(hand.fingers) and goals.pinch.any():
            u = self._points[hand.fingers] - self._points[hand.thumb]
            apart = np.maximum(np.sqrt(np.einsum("ij,ij->i", u, u)), 1e-9)
            rows = np.einsum("ij,ijk->ik", u / apart[:, None], self._slopes[hand.fingers] - self._slopes[hand.thumb])
            r = apart - hand.touch - goals.gap
            weight = goals.weight / self._sum * np.expm1(np.log1p(self.settings.pinch_weight) * goals.pinch)
            value += float(weight @ smooth_abs(np.abs(r), width))
            weighted = rows * (weight / np.maximum(np.abs(r), width))[:, None]
            H += weighted.T @ rows
            c += r @ weighted
        return Expansion(x, value, H, c, float(size.max()))

    def _bounds(self, x: Array, dt_s: float, speed_rad_s: float) -> tuple[Array, Array]:
        """Return the box of position and speed; never empty."""
        most = np.minimum(self.hand.velocity, speed_rad_s) * dt_s
        return np.clip(self.hand.lower, x - most, x + most), np.clip(self.hand.upper, x - most, x + most)

    def _place(self, x: Array) -> None:
        """Place the hand's points and their derivatives (points, 3, m); those that do not move stay."""
        import pinocchio as pin

        model, data = self.hand.model, self._data
        pin.computeJointJacobians(model, data, self.hand.C @ x + self.hand.d)
        for i, frame in self._moving:
            self._points[i] = pin.updateFramePlacement(model, data, frame).translation
            J = pin.getFrameJacobian(model, data, frame, pin.LOCAL_WORLD_ALIGNED)
            np.matmul(J[:3], self.hand.C, out=self._slopes[i])


def smooth_abs(x: Array, width: float) -> Array:
    """Return x^2 / 2 width within `width` and x - width / 2 beyond, for x >= 0."""
    return np.where(x < width, x * x / (2 * width), x - width / 2)


def box_step(H: Array, c: Array, lower: Array, upper: Array) -> Array:
    """Return the dx in a box with the least 1/2 dx^T H dx + c^T dx; the box holds 0, H is positive definite."""
    free = np.linalg.solve(H, -c)
    if np.all((free >= lower) & (free <= upper)):
        return free
    import daqp

    n = len(c)
    found, _, status, _ = daqp.solve(H, c, np.empty((0, n)), upper, lower, np.zeros(n, np.int32))
    found = np.array(found) if status > 0 else np.zeros(n)
    return np.clip(found if np.isfinite(found).all() else np.zeros(n), lower, upper)
