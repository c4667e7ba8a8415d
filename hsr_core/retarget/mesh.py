"""A robot's surface in a posture: for pictures, videos and viewers beside the person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingFile
from ..types import Array
from .find import package_folders
from .recipe import shape_points
from .robot import Robot


class RobotMesh:
    """The shapes of a URDF as one triangle mesh that moves with the joints.

    Attributes:
        faces: (F, 3), counter-clockwise from outside as far as the files are.
        links: (V,) index of the shape that each vertex belongs to.
    """

    def __init__(self, robot: Robot, *, collision: bool = False, package_dirs: tuple[str, ...] = ()) -> None:
        """Load the meshes.

        Args:
            robot: Whose URDF names them.
            collision: Take the coarser shapes that are meant for collisions.
            package_dirs: Folders in which `package://` names are looked for, beside those of installed robots.

        Raises:
            MissingFile: A mesh is not found.
        """
        import pinocchio as pin

        kind = pin.GeometryType.COLLISION if collision else pin.GeometryType.VISUAL
        folders = [*package_dirs, *package_folders(), *(str(parent) for parent in list(robot.urdf.parents)[:4])]
        try:
            self._shapes = pin.buildGeomFromUrdf(robot.model, str(robot.urdf), kind, package_dirs=folders)
        except Exception as error:  # pinocchio raises what its parser raises
            raise MissingFile(
                f"{robot.urdf}: a mesh is not found ({error}); give its folder as package_dirs"
            ) from error
        self._model, self._data = robot.model, robot.model.createData()
        self._placed = self._shapes.createData()
        parts = [_triangles(shape) for shape in self._shapes.geometryObjects]
        sizes = [len(vertices) for vertices, _ in parts]
        starts = np.cumsum([0, *sizes])
        self._local = np.concatenate([vertices for vertices, _ in parts])
        self.links = np.repeat(np.arange(len(parts)), sizes)
        self.faces: NDArray[np.intp] = np.concatenate(
            [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
        )

    def by_joint(self) -> dict[int, tuple[Array, NDArray[np.intp]]]:
        """Return what moves with each joint: vertices (V, 3) [m] in the joint's axes and faces (F, 3), by joint id."""
        shapes = self._shapes.geometryObjects
        T = np.array([shape.placement.homogeneous for shape in shapes])[self.links]
        vertices = np.einsum("vij,vj->vi", T[:, :3, :3], self._local) + T[:, :3, 3]
        joint_of = np.array([shape.parentJoint for shape in shapes])[self.links]
        out = {}
        for joint in np.unique(joint_of):
            rows = joint_of == joint
            out[int(joint)] = vertices[rows], (np.cumsum(rows) - 1)[self.faces[rows[self.faces[:, 0]]]]
        return out

    def posed(self, q: Array) -> Array:
        """Return the vertices (V, 3) [m] in the world for a configuration of the whole model."""
        import pinocchio as pin

        pin.updateGeometryPlacements(self._model, self._data, self._shapes, self._placed, q)
        T = np.array([placement.homogeneous for placement in self._placed.oMg])
        R, t = T[:, :3, :3], T[:, :3, 3]
        return np.einsum("vij,vj->vi", R[self.links], self._local) + t[self.links]


def _triangles(shape: Any) -> tuple[Array, NDArray[np.intp]]:
    geometry = shape.geometry
    if hasattr(geometry, "num_tris"):
        faces = np.array([[geometry.tri_indices(i)[k] for k in range(3)] for i in range(geometry.num_tris)], np.intp)
        mirrored = np.prod(np.ravel(shape.meshScale)) < 0
        return np.array(geometry.vertices(), np.float64), faces[:, ::-1] if mirrored else faces
    from scipy.spatial import ConvexHull

    points = shape_points(geometry)
    hull = ConvexHull(points)
    faces = hull.simplices.astype(np.intp)
    a, b, c = points[faces].swapaxes(0, 1)
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces
