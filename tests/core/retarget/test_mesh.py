"""A robot's surface moves with its links."""

from __future__ import annotations

import numpy as np
import pytest

from hsr_core.errors import MissingFile
from hsr_core.geometry.raster import Topology, render_mesh
from hsr_core.retarget import find
from hsr_core.retarget.mesh import RobotMesh
from hsr_core.types import Camera

from .conftest import loaded
from .urdf_walk import walk


def test_vertices_move_with_their_links_as_a_walk_over_the_urdf_says() -> None:
    robot = loaded("jvrc1", "upper_body")
    mesh = RobotMesh(robot, collision=True)
    rng = np.random.default_rng(0)
    rest, q = robot.neutral, robot.configuration(rng.uniform(robot.lower, robot.upper))
    joints = list(robot.model.names)[1:]
    before, after = (walk(robot.urdf, dict(zip(joints, x, strict=True))) for x in (rest, q))
    a, b = mesh.posed(rest), mesh.posed(q)
    for i, shape in enumerate(mesh._shapes.geometryObjects):
        link, rows = robot.model.frames[shape.parentFrame].name, mesh.links == i
        T = after[link] @ np.linalg.inv(before[link])
        np.testing.assert_allclose(b[rows], a[rows] @ T[:3, :3].T + T[:3, 3], atol=1e-6)


def test_it_can_be_seen_from_the_front() -> None:
    """Surfaces face outwards, mirrored and primitive ones too: culling leaves out nearly nothing."""
    robot = loaded("talos", "upper_body")
    mesh = RobotMesh(robot, collision=True)
    x, y, z = mesh.posed(robot.rest).T
    seen = np.stack([y, -z, 3.5 - x], axis=1)
    camera = Camera.from_hfov(40, (200, 200))
    topology = Topology(mesh.faces)
    closed, every = (render_mesh(seen, topology, camera, cull=cull)[2].sum() for cull in (True, False))
    assert every > 2000
    assert closed > 0.97 * every


def test_missing_meshes_are_said(monkeypatch) -> None:
    robot = loaded("jvrc1", "upper_body")
    monkeypatch.setattr(find, "PACKAGES", {})
    monkeypatch.setattr("hsr_core.retarget.mesh.package_folders", list)
    monkeypatch.setattr(type(robot.urdf), "parents", property(lambda self: []))
    with pytest.raises(MissingFile, match=r"a mesh is not found"):
        RobotMesh(robot)


def test_primitive_shapes_have_their_size() -> None:
    """Volumes of the hulls, by hand, to what 16 corners and 5 slopes lack of a circle."""
    import hppfcl
    from scipy.spatial import ConvexHull

    from hsr_core.retarget.recipe import shape_points

    ball, rod = 4 / 3 * np.pi * 0.1**3, np.pi * 0.1**2 * 0.4
    for shape, volume in (
        (hppfcl.Box(0.1, 0.2, 0.3), 0.006),
        (hppfcl.Cylinder(0.1, 0.4), rod),
        (hppfcl.Capsule(0.1, 0.4), rod + ball),
        (hppfcl.Sphere(0.1), ball),
    ):
        assert ConvexHull(shape_points(shape), qhull_options="QJ").volume == pytest.approx(volume, rel=0.07)
