"""A robot on the web page: its parts in the scene, a line over its head, a table and buttons in the panel.

The triangles are sent once for each visitor; after that only the poses of those parts that moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..geometry.rotations import rotmat_to_quat_wxyz
from ..types import Array
from .snapshot import RobotView

if TYPE_CHECKING:
    import viser

BESIDE_M = 1.3
"""How far from the person the robot stands, to the camera's left: a skeleton may be on the right."""
_MOVED = 1e-4
"""Parts that moved less stay where they are on the page: metres, and components of a quaternion."""
_RGB = (222, 226, 232), (150, 158, 170)
_LABEL_M = 0.45
"""Height of the line over the highest joint."""
_GROUND_M = 0.01


class Part(Protocol):
    """What moves as one; vertices (V, 3) [m] in its own axes, faces (F, 3)."""

    name: str
    vertices: Array
    faces: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RobotOnPage:
    """What the page needs to know of a robot before the first posture.

    Attributes:
        name: Shown over its head.
        parts: What is drawn.
        sole_m: How far below its root the soles are [m].
        actions: Buttons: label and hint.
        on_action: Called with the label of a button that a visitor pressed, in a thread of the web server.
    """

    name: str
    parts: Sequence[Part]
    sole_m: float
    actions: Sequence[tuple[str, str]] = ()
    on_action: Callable[[str], None] = lambda label: None


class RobotPanel:
    """The robot's part of the panel."""

    def __init__(self, gui: viser.GuiApi, robot: RobotOnPage) -> None:
        with gui.add_folder(f"Robot: {robot.name}"):
            self._rows = gui.add_markdown("waiting for the robot …")
            for label, hint in robot.actions:
                gui.add_button(label, hint=hint, color="red" if label == "stop" else None).on_click(
                    lambda event, label=label: robot.on_action(label)
                )

    def show(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show a table; the first row is its head."""
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        self._rows.content = "\n".join([lines[0], "| --- | --- |", *lines[1:]]) if lines else ""


class RobotNodes:
    """The robot in the scene. Only the drawing thread calls it."""

    def __init__(self, server: viser.ViserServer, robot: RobotOnPage) -> None:
        self._name, self._sole_m = robot.name, robot.sole_m
        self._root = server.scene.add_frame("/robot", show_axes=False, visible=False)
        self._parts = [
            server.scene.add_mesh_simple(
                f"/robot/{i}_{part.name}",
                np.asarray(part.vertices, np.float32),
                np.asarray(part.faces, np.uint32),
                color=_RGB[i % 2],
                flat_shading=True,
                side="double",
                receive_shadow=False,
            )
            for i, part in enumerate(robot.parts)
        ]
        self._label = server.scene.add_label("/robot_label", "", visible=False)
        self._drawn = np.full((len(self._parts), 7), np.nan)  # position, wxyz
        self._stands: tuple[tuple[float, float], float] | None = None
        self._ground_z = np.inf
        self._placed: tuple[float, ...] = ()
        self._text = ""

    @property
    def stands(self) -> bool:
        """Whether it has a place."""
        return self._stands is not None

    def stand(self, xy: Array, yaw: float) -> None:
        """Give it a place: where its root is over the ground, (2,) [m], and where its x axis points [rad]."""
        self._stands = (float(xy[0]), float(xy[1])), float(yaw)

    def leave(self) -> None:
        """Take its place away: another world."""
        self._stands = None

    def draw(self, view: RobotView, ground_z: float) -> None:
        """Move the parts that moved; hide the robot while its posture or its place is not known."""
        T = view.T_root_part
        if T is None or self._stands is None:
            self._root.visible = self._label.visible = False
            return
        self._put(ground_z, float(T[:, 2, 3].max()))
        poses = np.concatenate([T[:, :3, 3], rotmat_to_quat_wxyz(T[:, :3, :3])], axis=1)
        for i in np.flatnonzero(~(np.abs(poses - self._drawn).max(axis=1) < _MOVED)):
            self._parts[i].position = tuple(poses[i, :3].tolist())
            self._parts[i].wxyz = tuple(poses[i, 3:].tolist())
            self._drawn[i] = poses[i]
        if view.label != self._text:
            self._text = view.label
            self._label.text = f"{self._name}: {view.label}" if view.label else self._name
        self._root.visible = self._label.visible = True

    def _put(self, ground_z: float, top_m: float) -> None:
        """Stand on the ground, which is an estimate that trembles."""
        assert self._stands is not None
        if not abs(ground_z - self._ground_z) < _GROUND_M:
            self._ground_z = ground_z
        (x, y), yaw = self._stands
        z = self._ground_z + self._sole_m
        if self._placed == (x, y, z, yaw):
            return
        self._placed = (x, y, z, yaw)
        self._root.position = (x, y, z)
        self._root.wxyz = (float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))
        self._label.position = (x, y, z + top_m + _LABEL_M)
