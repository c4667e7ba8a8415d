"""A robot on a ground grid, seen from where the camera saw the person."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.raster import Topology
from ..retarget.mesh import RobotMesh
from ..retarget.robot import Robot
from ..types import Array, Camera
from ..viz.overlay import draw_mesh

BACKGROUND, LINE = 244, 205
ROBOT_RGB, IDLE_RGB = (126, 146, 172), (206, 208, 210)
"""Of a robot with a command, and of one without."""
GRID_M, REACH_M = 0.5, 5.0
"""Distance of the grid's lines, and how far they go from the robot."""
NEAR_M = 0.2


@dataclass(frozen=True, eq=False)
class View:
    """Where the robot is seen from.

    Attributes:
        camera: Of the panel.
        T_view_world: (4, 4).
    """

    camera: Camera
    T_view_world: Array

    def of(self, points: Array) -> Array:
        """Return points (..., 3) of the world in the view's optical axes."""
        return points @ self.T_view_world[:3, :3].T + self.T_view_world[:3, 3]


class RobotScene:
    """Draws one robot.

    Attributes:
        height_m: Of the robot in its neutral posture.
        sole_m: Its lowest point there, in the model's world.
    """

    def __init__(self, robot: Robot) -> None:
        parts = RobotMesh(robot).by_joint()
        sizes = [len(vertices) for vertices, _ in parts.values()]
        self._model, self._data = robot.model, robot.model.createData()
        self._local = np.concatenate([vertices for vertices, _ in parts.values()])
        self._joints = np.repeat(list(parts), sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        self._topology = Topology(np.concatenate([f + s for (_, f), s in zip(parts.values(), starts, strict=True)]))
        z = self._posed(robot.neutral)[:, 2]
        self.sole_m, self.height_m = float(z.min()), float(np.ptp(z))

    def draw(self, q: Array, T_world_model: Array, view: View, *, idle: bool) -> NDArray[np.uint8]:
        """Return the panel, BGR.

        Args:
            q: Configuration of the whole model.
            T_world_model: (4, 4); the identity where the base floats in the world.
            view: Where from.
            idle: Nothing is commanded: the last posture, pale.
        """
        canvas = np.full((*view.camera.image_hw, 3), BACKGROUND, np.uint8)
        vertices = self._posed(q) @ T_world_model[:3, :3].T + T_world_model[:3, 3]
        _draw_grid(canvas, vertices[:, :2].mean(axis=0), view)
        color = IDLE_RGB if idle else ROBOT_RGB
        draw_mesh(canvas, view.of(vertices), self._topology, view.camera, lambda uv: uv, color)
        return canvas

    def _posed(self, q: Array) -> Array:
        import pinocchio as pin

        pin.forwardKinematics(self._model, self._data, q)
        T = np.array([placement.homogeneous for placement in self._data.oMi])
        R, t = T[:, :3, :3], T[:, :3, 3]
        return np.einsum("vij,vj->vi", R[self._joints], self._local) + t[self._joints]


def _draw_grid(canvas: NDArray[np.uint8], middle: Array, view: View) -> None:
    """Draw the ground's grid around a place; lines fade with the distance from it."""
    first = np.floor((middle - REACH_M) / GRID_M) * GRID_M
    marks = np.arange(round(2 * REACH_M / GRID_M) + 2) * GRID_M
    for axis in (0, 1):
        for start in first[axis] + marks:
            along = first[1 - axis] + marks
            line = np.zeros((len(along), 3))
            line[:, axis], line[:, 1 - axis] = start, along
            shade = _fade(abs(start - middle[axis]))
            _polyline(canvas, view.of(line), view.camera, shade)


def _fade(distance_m: float) -> int:
    return round(LINE + (BACKGROUND - LINE) * min(1.0, distance_m / REACH_M) ** 2)


def _polyline(canvas: NDArray[np.uint8], points: Array, camera: Camera, level: int) -> None:
    """Draw a line through points in optical axes, cut where it comes too near."""
    K = camera.K
    for a, b in pairwise(points):
        if a[2] < NEAR_M and b[2] < NEAR_M:
            continue
        if min(a[2], b[2]) < NEAR_M:
            cut = a + (NEAR_M - a[2]) / (b[2] - a[2]) * (b - a)
            a, b = (cut, b) if a[2] < NEAR_M else (a, cut)
        ends = [(K[:2, :2] @ (p[:2] / p[2]) + K[:2, 2]) for p in (a, b)]
        if max(np.abs(end).max() for end in ends) > 16_000:
            continue
        (x0, y0), (x1, y1) = (np.rint(16 * end).astype(int).tolist() for end in ends)
        cv2.line(canvas, (x0, y0), (x1, y1), (level, level, level), 1, cv2.LINE_AA, shift=4)
