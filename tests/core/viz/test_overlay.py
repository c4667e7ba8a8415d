"""What is painted over an image, where, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import camera, frame, person, result, sphere

from hsr_core.body.joints import N_JOINTS
from hsr_core.geometry.camera import project
from hsr_core.geometry.raster import render_mesh
from hsr_core.types import Frame
from hsr_core.viz.overlay import draw_overlay, label


def at(z: float) -> np.ndarray:
    """55 joints in one point on the optical axis."""
    return np.tile(np.array([0.0, 0.0, z]), (N_JOINTS, 1))


NOWHERE = at(-5.0)  # behind the camera: no skeleton, for tests of the mesh
OUTSIDE = (-50, -50, -40, -40)


def painted(picture: np.ndarray, grey: int = 128) -> np.ndarray:
    return (np.abs(picture.astype(int) - grey).max(axis=2)) > 12


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("dist", [(0.0,) * 5, (-0.25, 0.08, 0.001, 0.002, 0.0)])
def test_mesh_lands_where_its_points_project(scale, dist):
    cam, centre = camera(640, 480, 600.0, dist), np.array([0.4, -0.3, 3.0])
    vertices, faces = sphere(tuple(centre), 0.25)
    picture = draw_overlay(
        frame(cam), result(cam, person(NOWHERE, cam, bbox=OUTSIDE)), lambda _: vertices, faces, scale=scale
    )
    assert picture.shape == (round(480 * scale), round(640 * scale), 3)
    v, u = np.nonzero(painted(picture))
    expected = (project(vertices, cam).mean(axis=0) + 0.5) * scale - 0.5
    np.testing.assert_allclose([u.mean(), v.mean()], expected, atol=1.0)
    # and it covers what the silhouette covers, up to the soft outline
    _, _, mask = render_mesh(vertices, faces, cam)
    assert abs(len(u) / (mask.sum() * scale**2) - 1) < 0.15


def test_nearer_person_covers_the_farther_one_whatever_their_order():
    cam = camera(320, 240, 300.0)
    near, faces = sphere((0, 0, 2.0), 0.3)
    far, _ = sphere((0.1, 0, 4.0), 0.3)
    people = [person(at(2.0), cam, 1, OUTSIDE), person(at(4.0), cam, 2, OUTSIDE)]
    meshes = {1: near, 2: far}
    one, other = (
        draw_overlay(frame(cam), result(cam, *order), lambda p: meshes[p.track_id], faces)
        for order in (people, people[::-1])
    )
    assert (one == other).all()
    alone = draw_overlay(frame(cam), result(cam, people[0]), lambda _: near, faces)
    middle = (slice(90, 110), slice(130, 150))  # the near sphere's surface, away from the skeleton's single point
    np.testing.assert_allclose(one[middle].astype(int), alone[middle], atol=45)  # the rest of 15 % shines through


def test_mesh_hides_its_own_far_side():
    """Two spheres in one mesh, one behind the other: the nearer's brightness is seen, whatever the face order."""
    cam = camera(320, 240, 300.0)
    a, faces = sphere((0, 0, 2.0), 0.3)
    b, _ = sphere((0, 0, 3.0), 0.3)
    both = np.concatenate([a, b])
    views = []
    for order in ([faces, faces + len(a)], [faces + len(a), faces]):
        scene = result(cam, person(NOWHERE, cam, bbox=OUTSIDE))
        views.append(draw_overlay(frame(cam), scene, lambda _: both, np.concatenate(order)))
    alone = draw_overlay(frame(cam), result(cam, person(NOWHERE, cam, bbox=OUTSIDE)), lambda _: a, faces)
    assert (views[0] == views[1]).all()
    assert (views[0] == alone).all()


def test_a_person_who_fills_the_picture_is_drawn_whole():
    cam = camera(1280, 720, 900.0)
    vertices, faces = sphere((0, 0, 1.0), 0.3)
    picture = draw_overlay(frame(cam), result(cam, person(NOWHERE, cam, bbox=OUTSIDE)), lambda _: vertices, faces)
    _, _, mask = render_mesh(vertices, faces, cam)
    agreement = np.mean(painted(picture) == mask)
    assert agreement > 0.99


@pytest.mark.parametrize(
    "vertices",
    [
        np.full((642, 3), np.nan, np.float32),
        np.zeros((642, 3), np.float32),
        sphere((0, 0, -3.0), 0.4, 3)[0],
        sphere((50, 0, 3.0), 0.4, 3)[0],
        None,
    ],
    ids=["not finite", "at the camera", "behind", "outside", "no mesh"],
)
def test_what_cannot_be_drawn_leaves_the_image_as_it_is(vertices):
    cam, faces = camera(), sphere((0, 0, 3), 0.4, 3)[1]
    clean = frame(cam)
    picture = draw_overlay(clean, result(cam, person(NOWHERE, cam, bbox=OUTSIDE)), lambda _: vertices, faces)
    assert not painted(picture).any()


def test_nobody_leaves_the_image_and_gives_memory_of_its_own():
    cam, faces = camera(), sphere((0, 0, 3), 0.4)[1]
    clean = frame(cam)
    picture = draw_overlay(clean, result(cam), lambda _: None, faces)
    assert (picture == clean.image).all()
    assert not np.shares_memory(picture, clean.image)


@pytest.mark.parametrize(("channels", "order"), [(1, "mono"), (3, "rgb"), (3, "bgr"), (4, "rgb"), (4, "bgr")])
def test_every_kind_of_image_becomes_the_same_bgr(channels, order):
    cam = camera()
    vertices, faces = sphere((0, 0, 2), 0.3)
    scene = result(cam, person(NOWHERE, cam))
    expected = draw_overlay(frame(cam), scene, lambda _: vertices, faces)
    picture = draw_overlay(frame(cam, channels=channels, order=order), scene, lambda _: vertices, faces)
    assert (picture == expected).all()


def test_colours_keep_their_order():
    cam = camera()
    image = np.zeros((*cam.image_hw, 3), np.uint8)
    image[..., 0] = 200
    faces = np.zeros((0, 3), np.int32)
    assert draw_overlay(Frame(image, 0, "rgb", camera=cam), result(cam), None, faces)[0, 0].tolist() == [0, 0, 200]
    assert draw_overlay(Frame(image, 0, "bgr", camera=cam), result(cam), None, faces)[0, 0].tolist() == [200, 0, 0]


def test_strided_image_is_read_and_not_written_to():
    cam = camera()
    padded = np.full((*cam.image_hw, 4), 90, np.uint8)
    joints = np.random.default_rng(0).normal((0, 0, 2), 0.3, (N_JOINTS, 3))
    draw_overlay(
        Frame(padded[..., :3], 0, "bgr", camera=cam), result(cam, person(joints, cam)), None, np.zeros((0, 3), int)
    )
    assert (padded == 90).all()


def test_skeleton_passes_through_observed_joints_only():
    cam = camera(640, 480, 600.0)
    joints = np.random.default_rng(3).normal((0, 0, 3), 0.25, (N_JOINTS, 3))
    seen = person(joints, cam, bbox=OUTSIDE)
    picture = draw_overlay(frame(cam), result(cam, seen), None, np.zeros((0, 3), np.int32))
    uv = np.rint(seen.keypoints2d[:22, :2]).astype(int)
    assert painted(picture)[uv[:, 1], uv[:, 0]].all()
    seen.keypoints2d[:, 2] = 0
    blank = draw_overlay(frame(cam), result(cam, seen), None, np.zeros((0, 3), np.int32))
    assert not painted(blank).any()


def test_label_tells_a_measured_distance_from_an_assumed_one():
    cam = camera()
    somebody = person(np.tile([0.0, 3.0, 4.0], (N_JOINTS, 1)), cam, track_id=7)
    assert label(somebody) == "#7  ~5.00 m"
