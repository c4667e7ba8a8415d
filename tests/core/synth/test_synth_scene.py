"""Scenes: a turning person is a turning camera; several people hide one another; the room is a box that stays put."""

from __future__ import annotations

import numpy as np
import pytest

from hsr_core.errors import ConfigError
from hsr_core.geometry.camera import project, unproject
from hsr_core.synth.room import CEILING_M, Room, shadow
from hsr_core.synth.scene import NOISE, Scene, SceneOptions
from hsr_core.types import Camera

SMALL = (96, 128)


def scene(body, **changes) -> Scene:
    return Scene(SceneOptions(**({"frames": 3, "image_hw": SMALL} | changes)), body)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_turning_camera_sees_what_a_still_one_sees_of_a_turning_person(body, seed):
    """Parameters in the camera frame, masks and depth are the same; light and room are not."""
    still = scene(body, seed=seed, background="none", noise="none", frames=5)
    moving = scene(body, seed=seed, background="none", noise="none", frames=5, orbit="camera")
    for a, b in zip(still, moving, strict=True):
        p, q = a.people[0].truth, b.people[0].truth
        np.testing.assert_allclose(p.transl, q.transl, atol=1e-5)
        x, y = (body.pose_one(params).vertices for params in (p, q))
        np.testing.assert_allclose(x, y, atol=1e-4)
        # A sample on the outline may fall to either side: a ninth of a pixel each.
        assert np.abs(a.people[0].mask - b.people[0].mask).sum() < 2.0
        both = (a.exact_depth_m > 0) & (b.exact_depth_m > 0)
        assert np.median(np.abs(a.exact_depth_m - b.exact_depth_m)[both]) < 1e-5
    assert np.abs(a.people[0].image - b.people[0].image).max() > 0.05  # the light stands still in the room
    assert not np.allclose(moving.T_cam_stage[0], moving.T_cam_stage[1])


def test_true_joints_are_inside_the_mask_of_everybody(body):
    s = scene(body, people=3, seed=2)
    for frame in s:
        assert len(frame.people) == 3
        for person in frame.people:
            joints = body.pose_one(person.truth, vertices=False).joints[:22]
            uv = np.rint(project(joints, s.camera)).astype(int)
            there = person.mask[uv[:, 1], uv[:, 0]] + person.ignore[uv[:, 1], uv[:, 0]]
            assert np.count_nonzero(there < 0.2) <= 1  # at 128 pixels a wrist is two pixels thick


def test_people_share_image_and_depth_and_no_pixel_twice(body):
    for frame in scene(body, people=4, orbit="camera", seed=3, frames=4):
        masks = np.stack([p.mask for p in frame.people])
        assert masks.sum(0).max() <= 1 + 1e-5
        assert all(p.image is frame.people[0].image for p in frame.people)
        assert all(p.depth_m is frame.people[0].depth_m for p in frame.people)


def test_what_hides_somebody_is_marked_as_unknown(body):
    """Everything in front of a person is in the ignore mask; the nearest person has nothing there."""
    hidden = 0
    for frame in scene(body, people=3, orbit="camera", seed=3, frames=6):
        z = [body.pose_one(p.truth, vertices=False).joints[0, 2] for p in frame.people]
        assert not frame.people[int(np.argmin(z))].ignore.any()
        for i, person in enumerate(frame.people):
            for k, other in enumerate(frame.people):
                if z[k] < z[i]:
                    assert person.ignore[other.mask > 0].all()
                    hidden += (other.mask > 0).sum()
    assert hidden > 100


def test_every_pass_gives_the_same_bits(body):
    s = scene(body, people=2)
    for a, b in zip(s, s, strict=True):
        for p, q in zip(a.people, b.people, strict=True):
            assert np.array_equal(p.image, q.image)
            assert np.array_equal(p.depth_m, q.depth_m)
            assert np.array_equal(p.mask, q.mask)


def test_seeds_make_other_people(body):
    a, b = (scene(body, seed=seed, frames=1) for seed in (0, 1))
    assert np.abs(a.truth[0][0].betas - b.truth[0][0].betas).max() > 0.1
    assert np.abs(next(iter(a)).people[0].image - next(iter(b)).people[0].image).mean() > 0.02


def test_depth_of_the_room_is_a_box_around_the_people(body):
    """Every pixel that nobody covers unprojects onto one of the six planes."""
    s = scene(body, orbit="camera", noise="none", frames=5)
    half = s.pivot[2] + 0.7
    for frame in s:
        v, u = np.nonzero(frame.people[0].mask == 0)
        points = unproject(np.stack([u, v], 1), frame.exact_depth_m[v, u], s.camera.K)
        T = frame.T_cam_stage
        stage = (points - T[:3, 3]) @ T[:3, :3] - s.pivot
        distance = np.stack(
            [half - np.abs(stage[:, 0]), half - np.abs(stage[:, 2]), 1.3 - stage[:, 1], stage[:, 1] + CEILING_M - 1.3]
        )
        assert np.abs(distance).min(0).max() < 1e-4
        assert distance.min() > -1e-4


def test_noise_named_none_is_the_truth_and_the_others_are_not(body):
    frame = next(iter(scene(body, noise="none", frames=1))).people[0]
    np.testing.assert_allclose(frame.params.body_pose, frame.truth.body_pose, atol=1e-6)
    for name in NOISE.keys() - {"none"}:
        frame = next(iter(scene(body, noise=name, frames=1))).people[0]
        assert np.abs(frame.params.body_pose - frame.truth.body_pose).max() > 0.01


@pytest.mark.parametrize("background", ["plain", "none"])
def test_other_backgrounds_have_no_depth(body, background):
    frame = next(iter(scene(body, background=background, frames=1))).people[0]
    outside = frame.mask == 0
    assert not frame.depth_m[outside].any()
    np.testing.assert_allclose(frame.image[outside], 0.55 if background == "plain" else 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": 0}, r"people must lie in 1\.\.5, not 0"),
        ({"frames": 0}, "frames must lie"),
        ({"image_hw": (8, 8)}, "image height must lie"),
        ({"noise": "loud"}, "noise must be one of regressor, .*not 'loud'"),
        ({"orbit": "moon"}, "orbit must be one of person, camera"),
        ({"clothing": float("nan")}, "clothing must lie"),
        ({"seed": -1}, "seed must lie"),
        ({"fps": 0}, "fps must lie"),
    ],
)
def test_options_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SceneOptions(**change)


# --- the room -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room():
    return Room(np.array([0, 1.3, 3.2]), 3.9, np.random.default_rng(0))


def test_a_point_of_the_room_has_one_colour_from_wherever_it_is_seen(room):
    """Pixels of one camera, carried by depth into another 40 cm to the side: their colours agree."""
    cam = Camera(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), (240, 320))
    there = np.eye(4)
    there[0, 3] = -0.4
    color, depth, _ = room.draw(cam, np.eye(4))
    other, other_depth, _ = room.draw(cam, there)
    v, u = np.mgrid[20:220:3, 150:300:3].reshape(2, -1)
    points = unproject(np.stack([u, v], 1), depth[v, u], cam.K) + there[:3, 3]
    uv = np.rint(project(points, cam)).astype(int)
    np.testing.assert_allclose(other_depth[uv[:, 1], uv[:, 0]], points[:, 2], rtol=0.03)
    difference = np.abs(color[v, u] - other[uv[:, 1], uv[:, 0]]).max(1)
    assert np.median(difference) < 0.02
    assert color.std() > 0.1


def test_shadows_lie_under_the_feet_and_on_the_floor_alone(room):
    cam = Camera(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), (240, 320))
    _, _, floor = room.draw(cam, np.eye(4))
    dark = shadow(floor, np.array([[0.0, 0.08, 3.5]]), np.array([[0.0, 3.5]]))
    foot = np.nanargmin((floor[..., 0] - 0.0) ** 2 + (floor[..., 1] - 3.5) ** 2)
    assert dark.flat[foot] == pytest.approx(0.55 * 0.70, abs=0.03)
    assert np.all(dark[np.isnan(floor[..., 0])] == 1)
    far = np.nan_to_num(np.abs(floor[..., 0])) > 2
    np.testing.assert_allclose(dark[far], 1, atol=1e-3)
    lifted = shadow(floor, np.array([[0.0, 0.38, 3.5]]), np.zeros((0, 2)))
    assert lifted.min() > 0.95
