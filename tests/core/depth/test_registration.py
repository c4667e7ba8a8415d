"""Whether depth is registered, and re-projection against analytic depth and OpenCV."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from analytic_scenes import CENTER, NORMAL, OFFSET, camera, plane_depth, rays, sphere_depth

from hsr_core.depth.registration import Registration, check_registered, fill_holes
from hsr_core.errors import BadFrame
from hsr_core.geometry.regions import shrink

COLOR = camera()
DEPTH = camera(width=280, height=200, fx=260.0, fy=258.0, cx=141.0, cy=97.5, frame_id="depth")


def pose() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
    T[:3, 3] = [-0.05, 0.004, 0.01]
    return T


def seen_by_depth(T_color_depth: np.ndarray, normal, offset) -> np.ndarray:
    """Depth in the depth camera of a plane given in the colour camera."""
    R, t = T_color_depth[:3, :3], T_color_depth[:3, 3]
    return (offset - normal @ t) / (rays(DEPTH) @ (R.T @ normal))


def test_a_plane_seen_by_two_cameras_comes_back():
    T = pose()
    out = Registration(DEPTH, COLOR, T)(seen_by_depth(T, NORMAL, OFFSET).astype(np.float32))
    expected = plane_depth(COLOR)
    covered = out > 0
    points = (rays(COLOR) * expected[..., None] - T[:3, 3]) @ T[:3, :3]
    uv = points[..., :2] / points[..., 2:] * [DEPTH.K[0, 0], DEPTH.K[1, 1]] + DEPTH.K[:2, 2]
    both_see = ((uv > 1) & (uv < [278, 198])).all(-1)
    assert both_see.mean() > 0.8
    assert covered[both_see].mean() > 0.999
    error = np.abs(out - expected)[covered]
    # Half a pixel of the nearest sample on this slant is up to 1 mm; the median of a plane is far below.
    assert np.median(error) < 1e-3
    assert error.max() < 4e-3


def test_a_sphere_before_a_wall_is_not_mixed_with_it():
    """Occlusion too: the wall behind must not shine through the ball, nor the ball's rim be filled with it."""
    T = pose()
    inverse = np.linalg.inv(T)
    center_in_depth = inverse[:3, :3] @ CENTER + inverse[:3, 3]
    sharp = sphere_depth(DEPTH, center_in_depth)
    depth_m = np.where(sharp > 0, sharp, seen_by_depth(T, NORMAL, OFFSET)).astype(np.float32)
    out = Registration(DEPTH, COLOR, T)(depth_m)

    ball = sphere_depth(COLOR)
    inner = shrink(ball > 0, 3)
    assert (out[inner] > 0).mean() > 0.999
    error = np.abs(out - ball)[inner & (out > 0)]
    assert np.median(error) < 2e-3
    # At three pixels from the rim the ball is steep: a pixel is up to 5 cm deep. Nowhere the wall, half a metre behind.
    assert error.max() < 0.06


def test_points_land_where_opencv_projects_them():
    T, lens = pose(), replace(COLOR, dist=np.array([-0.1, 0.02, 0.001, -0.002, 0.0]))
    rng = np.random.default_rng(1)
    register = Registration(DEPTH, lens, T)
    for v, u in rng.integers([30, 40], [170, 240], (20, 2)):
        depth_m = np.zeros(DEPTH.image_hw, np.float32)
        depth_m[v, u] = 2.0
        point = rays(DEPTH)[v, u] * 2.0
        pixel, _ = cv2.projectPoints(point[None], cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], lens.K, lens.dist)
        rows, columns = np.nonzero(register(depth_m))
        centre = np.array([columns.mean(), rows.mean()])
        assert np.abs(centre - pixel[0, 0]).max() <= 0.5 + 1e-6
        assert register(depth_m)[rows[0], columns[0]] == pytest.approx((T[:3, :3] @ point + T[:3, 3])[2], abs=1e-5)


def test_a_depth_camera_of_lower_resolution_leaves_no_gaps():
    small = camera(width=80, height=60, fx=75.0, fy=77.5, cx=37.5, cy=29.2, frame_id="depth")
    out = Registration(small, COLOR, np.eye(4))(plane_depth(small).astype(np.float32))
    assert (out[8:-8, 8:-8] > 0).mean() > 0.999


def test_holes_of_one_pixel_are_filled_and_edges_are_not_grown():
    depth_m = np.zeros((20, 20), np.float32)
    depth_m[5:15, 5:15] = 2.0
    depth_m[9, 9] = 0
    depth_m[12, 5:15] = 2.01
    fill_holes(depth_m)
    assert depth_m[9, 9] == pytest.approx(2.0)
    assert (depth_m > 0).sum() == 100


def test_nothing_valid_gives_nothing():
    assert not Registration(DEPTH, COLOR, pose())(np.zeros(DEPTH.image_hw, np.float32)).any()


def test_registered_depth_is_accepted_with_and_without_its_info():
    check_registered(COLOR.image_hw, "color", COLOR, COLOR)
    check_registered(COLOR.image_hw, "color", None, COLOR)
    slightly = replace(COLOR, K=COLOR.K + np.diag([1.0, -1.0, 0.0]))
    check_registered(COLOR.image_hw, "color", slightly, COLOR)


@pytest.mark.parametrize(
    ("hw", "frame_id", "info", "said"),
    [
        (DEPTH.image_hw, "color", None, "depth is 280x200, the image 320x240"),
        (COLOR.image_hw, "depth", None, "frame 'depth'"),
        (COLOR.image_hw, "color", replace(COLOR, K=COLOR.K * np.array([[1.02], [1.02], [1]])), "fx 306.0"),
    ],
)
def test_unregistered_depth_is_refused_with_the_remedy(hw, frame_id, info, said):
    with pytest.raises(BadFrame, match=rf"{said}.*depth\.register"):
        check_registered(hw, frame_id, info, COLOR)
