"""What the robot must not run into: its own parts, and the walls of its workspace. Rows for the solver's QP.

A row lets a step use up a part of the remaining distance d and no more: n J dq >= -gain (d - clearance).

Source:
    Velocity damper: Faverjon and Tournassoud, ICRA 1987.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry.rotations import hat
from ..types import Array
from .collision import Watched
from .robot import Robot
from .settings import CollisionSettings

_AXES = np.concatenate([-np.eye(3), np.eye(3)])
"""Inward normals of a box: of its upper, then of its lower faces."""


class Barriers:
    """Distances to what must not be touched, and their derivatives.

    Attributes:
        margins: The last distances that were computed, pairs of capsules first, then six faces for each hand with a
            workspace [m]; negative = inside.
    """

    def __init__(self, robot: Robot, settings: CollisionSettings) -> None:
        self.settings, self._model = settings, robot.model
        self._capsules = robot.capsules if settings.enabled and len(robot.capsules) else None
        self._watched = Watched(settings.enter_m, settings.leave_m, settings.pairs)
        self._hands = [(robot.frames[part], *box) for part, box in robot.workspace.items()]
        self.margins = np.zeros(0)

    def measure(self, data: Any) -> Array:
        """Return the distances for the placed frames of `data`, and remember them."""
        self.margins = np.concatenate([self._pairs(data)[0], *(self._walls(data, hand) for hand in self._hands)])
        return self.margins

    def rows(self, data: Any) -> tuple[Array, Array]:
        """Return A (m, nv) and b (m,) of A dq >= b for what is near; `data` has its Jacobians. Measures, too."""
        clearance, on_a, on_b = self._pairs(data)
        walls = [self._walls(data, hand) for hand in self._hands]
        self.margins = np.concatenate([clearance, *walls])
        A, b = self._pair_rows(data, clearance, on_a, on_b)
        for hand, distance in zip(self._hands, walls, strict=True):
            near = distance < self.settings.enter_m
            A = np.concatenate([A, _AXES[near] @ self._jacobian(data, hand[0])[:3]])
            b = np.concatenate([b, -self.settings.gain * distance[near]])
        return A, b

    def _pairs(self, data: Any) -> tuple[Array, Array, Array]:
        if self._capsules is None:
            return np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3))
        return self._capsules.distances(self._capsules.place(data.oMf))

    def _pair_rows(self, data: Any, clearance: Array, on_a: Array, on_b: Array) -> tuple[Array, Array]:
        capsules = self._capsules
        if capsules is None:
            return np.zeros((0, self._model.nv)), np.zeros(0)
        watched = self._watched.update(clearance)
        gap = on_a[watched] - on_b[watched]
        normal = gap / np.maximum(np.sqrt(np.einsum("ij,ij->i", gap, gap)), 1e-9)[:, None]
        rows = np.zeros((len(watched), self._model.nv))
        for sign, which, points in ((1, capsules.first, on_a), (-1, capsules.second, on_b)):
            frames = [capsules.frame_ids[i] for i in which[watched]]
            arms = points[watched] - np.array([data.oMf[frame].translation for frame in frames]).reshape(-1, 3)
            # The speed of a point of a body along the normal: the normal's wrench times the frame's twist.
            wrenches = sign * np.concatenate([normal, np.einsum("nij,nj->ni", hat(arms), normal)], axis=1)
            for row, frame, wrench in zip(rows, frames, wrenches, strict=True):
                row += wrench @ self._jacobian(data, frame)
        return rows, -self.settings.gain * (clearance[watched] - self.settings.clearance_m)

    @staticmethod
    def _walls(data: Any, hand: tuple[int, Array, Array]) -> Array:
        """Return the distances of a hand's origin to the faces of its box, (6,) [m]."""
        frame, low, high = hand
        point = data.oMf[frame].translation
        return np.concatenate([high - point, point - low])

    def _jacobian(self, data: Any, frame: int) -> Array:
        import pinocchio as pin

        return pin.getFrameJacobian(self._model, data, frame, pin.LOCAL_WORLD_ALIGNED)
