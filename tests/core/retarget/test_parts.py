"""Rigid parts put where the joints are make up the surface of the posture."""

from __future__ import annotations

import numpy as np
from scenes import sphere

from hsr_core.retarget.mesh import RobotMesh
from hsr_core.retarget.parts import RobotParts, coarser

from .conftest import loaded


def areas(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = vertices[faces].swapaxes(0, 1)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_parts_that_are_moved_are_the_mesh_that_is_posed() -> None:
    robot = loaded("jvrc1", "upper_body")
    parts, mesh = RobotParts(robot), RobotMesh(robot)
    rng = np.random.default_rng(3)
    q = robot.configuration(rng.uniform(robot.lower, robot.upper))
    whole = mesh.posed(q)
    moved = [p.vertices @ T[:3, :3].T + T[:3, 3] for p, T in zip(parts.parts, parts.placements(q), strict=True)]
    pool = np.concatenate(moved)
    assert len(pool) == len(whole)
    order = lambda points: points[np.lexsort(points.round(6).T)]  # noqa: E731
    np.testing.assert_allclose(order(pool), order(whole), atol=2e-6)
    area = sum(areas(vertices, part.faces) for vertices, part in zip(moved, parts.parts, strict=True))
    np.testing.assert_allclose(area, areas(whole, mesh.faces), rtol=1e-9)


def test_the_lowest_point_is_the_sole() -> None:
    robot = loaded("jvrc1", "upper_body")
    low = RobotMesh(robot).posed(robot.neutral)[:, 2].min()
    np.testing.assert_allclose(RobotParts(robot, cell_m=0.005).sole_m, -low, atol=0.005)


def test_a_coarser_ball_is_still_a_ball_of_that_size() -> None:
    vertices, faces = sphere((0, 0, 0), 0.1)
    fewer, triangles = coarser(vertices, faces, 0.02)
    assert len(triangles) < len(faces)
    assert triangles.max() < len(fewer)
    assert (np.linalg.norm(fewer, axis=1) < 0.1 + 1e-6).all()  # float32
    assert (np.linalg.norm(fewer, axis=1) > 0.1 - 0.02).all()
    np.testing.assert_allclose(areas(fewer, triangles), 4 * np.pi * 0.1**2, rtol=0.2)
