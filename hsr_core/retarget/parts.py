"""A robot's surface as rigid parts: for a viewer that keeps the triangles and is told poses only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Array
from .mesh import RobotMesh
from .robot import Robot


@dataclass(frozen=True, eq=False)
class RigidPart:
    """All that moves with one joint.

    Attributes:
        name: Of the joint.
        vertices: (V, 3) [m], in the joint's axes.
        faces: (F, 3).
    """

    name: str
    vertices: Array
    faces: NDArray[np.intp]


class RobotParts:
    """The parts of a robot and where they are.

    Attributes:
        parts: One for each joint that carries something.
        sole_m: How far below the root's origin the lowest point is in the neutral posture [m].
    """

    def __init__(self, robot: Robot, *, cell_m: float = 0.0, package_dirs: tuple[str, ...] = ()) -> None:
        """Load the meshes.

        Args:
            robot: Whose URDF names them.
            cell_m: Vertices in the same cell of a grid become one, so that a page has less to load [m]; 0: all stay.
            package_dirs: As in `RobotMesh`.

        Raises:
            MissingFile: A mesh is not found.
        """
        self._model, self._data = robot.model, robot.model.createData()
        self._joints: list[int] = []
        parts = []
        for joint, (vertices, faces) in RobotMesh(robot, package_dirs=package_dirs).by_joint().items():
            vertices, faces = coarser(vertices, faces, cell_m) if cell_m > 0 else (vertices, faces)
            if len(faces):
                self._joints.append(joint)
                parts.append(RigidPart(robot.model.names[joint], vertices, faces))
        self.parts = tuple(parts)
        placed = zip(self.placements(robot.neutral), parts, strict=True)
        self.sole_m = -min(float((part.vertices @ T[2, :3]).min() + T[2, 3]) for T, part in placed)

    def placements(self, q: Array) -> Array:
        """Return T_world_part (n, 4, 4) of the parts for a configuration of the whole model."""
        import pinocchio as pin

        pin.forwardKinematics(self._model, self._data, q)
        return np.array([self._data.oMi[joint].homogeneous for joint in self._joints])


def coarser(vertices: Array, faces: NDArray[np.intp], cell_m: float) -> tuple[Array, NDArray[np.intp]]:
    """Return a mesh whose vertices within a cell of a grid are one, in their mean; triangles that lose a corner go."""
    cells = np.floor(np.asarray(vertices) / cell_m).astype(np.int64)
    _, cell_of = np.unique(cells, axis=0, return_inverse=True)
    cell_of = cell_of.reshape(-1)  # numpy 2.0 gives it another shape
    counts = np.bincount(cell_of)
    merged = np.stack([np.bincount(cell_of, weights=column) / counts for column in np.transpose(vertices)], axis=1)
    faces = cell_of[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)  # several may have become the same
    return merged, faces[np.sort(first)]
