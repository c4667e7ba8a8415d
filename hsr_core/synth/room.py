"""A furnished room around the people, drawn by casting rays at its six planes: floor boards, pictures, a door, a lamp.

It is there so that a person has to be told from something, and so that a moving camera sees the world move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array, Camera
from .clothing import ramp
from .texture import RGB, hue_to_rgb

OVERSAMPLING = 2
CEILING_M = 2.7
_FLOOR, _CEILING = 0, 1
_WALLS = ((0, 1), (0, -1), (2, 1), (2, -1))
"""Axis and side: right, left, far, near."""


@dataclass(frozen=True)
class _Panel:
    """A rectangle on a wall: a picture, a door, a shelf.

    Attributes:
        wall: Index in `_WALLS`.
        left, right: Along the wall from its middle [m]. low, high: Above the floor [m].
        color, second: Colours of its pattern. wavelength_m: Of the pattern. frame_m: Width of its rim.
    """

    wall: int
    left: float
    right: float
    low: float
    high: float
    color: RGB
    second: RGB
    wavelength_m: float
    frame_m: float = 0.04


class Room:
    """A closed room on the stage.

    Args:
        middle: Point of the floor (3,) [m] about which the room is built.
        half_m: Half its width and depth.
        rng: Draws colours and what hangs on the walls.
    """

    def __init__(self, middle: Array, half_m: float, rng: np.random.Generator) -> None:
        self.middle, self.half = np.asarray(middle, np.float64), half_m
        tint = rng.uniform(0.05, 0.6)
        self.paint = [np.array(hue_to_rgb(tint + 0.04 * i, 0.10, 0.80 - 0.03 * i), np.float32) for i in range(4)]
        self.wood = np.array([0.55, 0.40, 0.27], np.float32) * np.float32(rng.uniform(0.85, 1.15))
        self.panels = [panel for wall in range(4) for panel in _furnish(wall, half_m, rng)]

    def draw(self, camera: Camera, T_cam_stage: Array) -> tuple[Array, Array, Array]:
        """Return colour (H, W, 3), z-depth (H, W) [m], and where each pixel lies on the floor.

        The last is (H, W, 2), x and z on the stage [m], NaN off the floor.
        """
        n, (height, width) = OVERSAMPLING, camera.image_hw
        points, _, plane = self._cast(camera.scaled((n * height, n * width)), T_cam_stage)
        color = self._paint(points, plane).reshape(height, n, width, n, 3).mean((1, 3), dtype=np.float32)
        points, depth_m, plane = self._cast(camera, T_cam_stage)
        floor = np.where((plane == _FLOOR)[:, None], points[:, [0, 2]], np.nan)
        return color, depth_m.reshape(height, width), floor.reshape(height, width, 2)

    def _cast(self, camera: Camera, T_cam_stage: Array) -> tuple[Array, Array, Array]:
        """Return points on the stage (N, 3), z-depth (N,), and which plane was hit (N,)."""
        height, width = camera.image_hw
        v, u = np.mgrid[:height, :width].reshape(2, -1)
        K, R = camera.K, T_cam_stage[:3, :3]
        rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(len(u))], 1) @ R
        eye = -R.T @ T_cam_stage[:3, 3] - self.middle
        reach = np.array([self.half, np.inf, self.half])
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.where(rays > 0, reach - eye, -reach - eye)
            ahead[:, 1] = np.where(rays[:, 1] > 0, -eye[1], -CEILING_M - eye[1])  # the floor is at 0, y is down
            far = np.where(rays == 0, np.inf, ahead / rays)
        axis = far.argmin(1)
        depth = far[np.arange(len(far)), axis]
        plus = rays[np.arange(len(far)), axis] > 0
        plane = np.select(
            [axis == 1, axis == 0], [np.where(plus, _FLOOR, _CEILING), np.where(plus, 2, 3)], np.where(plus, 4, 5)
        )
        return eye + depth[:, None] * rays + self.middle, depth.astype(np.float32), plane

    def _paint(self, points: Array, plane: Array) -> Array:
        p = (points - self.middle).astype(np.float32)
        color = np.empty((len(p), 3), np.float32)
        floor = plane == _FLOOR
        color[floor] = self._boards(p[floor])
        color[plane == _CEILING] = 0.86
        for wall, (axis, side) in enumerate(_WALLS):
            here = plane == 2 + wall
            along = p[here, 2 - axis] * side
            color[here] = self._wall(wall, along, -p[here, 1])
        return np.clip(color * self._light(p)[:, None], 0, 1)

    def _boards(self, p: Array) -> Array:
        row = np.floor(p[:, 0] / 0.14)
        shifted = p[:, 2] / 1.3 + _hash(row)
        tone = 0.84 + 0.28 * _hash(row + 17.3 * np.floor(shifted))
        grain = 1 + 0.05 * np.sin(2 * np.pi * (p[:, 0] / 0.045 + 0.7 * np.sin(2.1 * p[:, 2] + row)))
        gap = np.abs((p[:, 0] / 0.14) % 1 - 0.5) * 0.14
        end = np.abs(shifted % 1 - 0.5) * 1.3
        joint = 1 - 0.30 * np.maximum(ramp(gap, 0.062, 0.069), ramp(end, 0.642, 0.649))
        color = self.wood * (tone * grain * joint)[:, None]
        # A rug in the middle.
        inside = ramp(np.maximum(np.abs(p[:, 0]) / 1.5, np.abs(p[:, 2]) / 1.0), 1.0, 0.985)
        rim = ramp(np.maximum(np.abs(p[:, 0]) / 1.5, np.abs(p[:, 2]) / 1.0), 0.90, 0.91)
        weave = 0.5 + 0.5 * np.sin(2 * np.pi * p[:, 0] / 0.5) * np.sin(2 * np.pi * p[:, 2] / 0.5)
        rug = np.array([0.45, 0.47, 0.50], np.float32) * (0.85 + 0.2 * weave - 0.3 * rim)[:, None]
        return color + inside[:, None] * (rug - color)

    def _wall(self, wall: int, along: Array, up: Array) -> Array:
        plaster = 1 + 0.015 * np.sin(9 * along + 2 * np.sin(7 * up)) * np.sin(8 * up)
        color = self.paint[wall] * plaster[:, None]
        color += ramp(up, 0.105, 0.095)[:, None] * (np.float32(0.84) - color)  # skirting board
        for panel in self.panels:
            if panel.wall == wall:
                color = _hang(color, panel, along, up)
        return color.astype(np.float32)

    def _light(self, p: Array) -> Array:
        """A lamp left of the middle under the ceiling, and darker corners."""
        d2 = (p[:, 0] + 1.0) ** 2 + (p[:, 1] + 2.3) ** 2 + (p[:, 2] + 1.0) ** 2
        light = 0.74 + 0.42 * np.exp(-d2 / 14)
        for d in (self.half - np.abs(p[:, 0]), self.half - np.abs(p[:, 2]), -p[:, 1], p[:, 1] + CEILING_M):
            # On its own plane d is 0 everywhere: that factor is the same for the whole plane.
            light = light * (1 - 0.22 * np.exp(-np.maximum(d, 0) / 0.35) * (d > 1e-3))
        return light


def shadow(floor: Array, feet: Array, body: Array) -> Array:
    """Return how bright the floor is under people, (H, W) in [0, 1].

    Args:
        floor: (H, W, 2) as `Room.draw` gives it.
        feet: Ankles, (N, 3): x, height above the floor, z [m].
        body: Pelvises (P, 2): x, z.
    """
    out = np.ones(floor.shape[:2], np.float32)
    for x, up, z in feet:
        d2 = (floor[..., 0] - x) ** 2 + (floor[..., 1] - z) ** 2
        out *= 1 - np.nan_to_num(0.45 * np.exp(-d2 / 0.13**2) * np.exp(-max(up - 0.08, 0) / 0.10))
    for x, z in body:
        d2 = (floor[..., 0] - x) ** 2 + (floor[..., 1] - z) ** 2
        out *= 1 - np.nan_to_num(0.30 * np.exp(-d2 / 0.45**2))
    return out


def _furnish(wall: int, half: float, rng: np.random.Generator) -> list[_Panel]:
    """A door on one wall, a window on another, a shelf on the third; pictures where there is room."""
    panels = []
    if wall == 0:
        panels.append(_Panel(wall, -1.3, -0.4, 0.0, 2.05, (0.50, 0.36, 0.26), (0.45, 0.32, 0.22), 0.9, 0.07))
    if wall == 1:
        panels.append(_Panel(wall, -1.0, 0.9, 0.95, 2.15, (0.93, 0.96, 1.0), (0.78, 0.88, 0.98), 1.6, 0.07))
    if wall == 2:
        for shelf in range(4):
            low = 0.35 + 0.4 * shelf
            board = (0.42, 0.30, 0.20)
            panels.append(_Panel(wall, -half + 0.45, -half + 1.85, low - 0.03, low, board, board, 1.0, 0.004))
            x = -half + 0.5
            while x < -half + 1.7:
                book = float(rng.uniform(0.05, 0.12))
                color = hue_to_rgb(rng.uniform(), 0.5, rng.uniform(0.35, 0.8))
                panels.append(_Panel(wall, x, x + book, low, low + rng.uniform(0.2, 0.3), color, color, 1.0, 0.008))
                x += book
    free = {0: (0.6, half - 0.6), 1: (1.4, half - 0.5), 2: (-0.9, half - 0.4), 3: (-half + 0.5, half - 0.5)}[wall]
    x = free[0]
    while x + 0.8 < free[1]:
        width, height = rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.7)
        middle = rng.uniform(1.35, 1.65)
        first, second = (hue_to_rgb(rng.uniform(), 0.55, rng.uniform(0.4, 0.9)) for _ in range(2))
        wavelength = float(rng.uniform(0.15, 0.4))
        panels.append(
            _Panel(wall, x, x + width, middle - height / 2, middle + height / 2, first, second, wavelength)
        )  # fmt: skip
        x += width + rng.uniform(0.35, 0.9)
    return panels


def _hang(color: Array, panel: _Panel, along: Array, up: Array) -> Array:
    soft = 0.008
    near = np.flatnonzero(
        (along > panel.left - soft) & (along < panel.right + soft) & (up > panel.low - soft) & (up < panel.high + soft)
    )
    a, b = along[near], up[near]
    depth = np.minimum.reduce([a - panel.left, panel.right - a, b - panel.low, panel.high - b])
    k = 2 * np.pi / panel.wavelength_m
    wave = 0.5 + 0.5 * np.sin(k * a + 1.3 * np.sin(0.7 * k * b)) * np.cos(0.8 * k * b)
    inner = np.array(panel.color, np.float32) + wave[:, None] * (
        np.array(panel.second, np.float32) - np.array(panel.color, np.float32)
    )
    rim = np.array(panel.color, np.float32) * np.float32(0.45)
    inner += ramp(depth, panel.frame_m + soft, panel.frame_m)[:, None] * (rim - inner)
    out = color.copy()
    out[near] += ramp(depth, -soft / 2, soft / 2)[:, None] * (inner - color[near])
    return out


def _hash(x: Array) -> Array:
    """Return numbers in [0, 1) that look random, the same for the same x."""
    return (np.sin(x * 12.9898 + 4.1) * 43758.547).astype(np.float64) % 1
