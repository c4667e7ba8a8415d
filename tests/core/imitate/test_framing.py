"""The window keeps the person in the panel, inside the picture, and moves slowly."""

from __future__ import annotations

import numpy as np
import pytest

from hsr_core.geometry.camera import project
from hsr_core.imitate.framing import windows
from hsr_core.types import Camera

CAMERA = Camera(np.array([[1000.0, 0, 639.5], [0, 1000, 359.5], [0, 0, 1]]), (720, 1280))
PANEL = 360, 480


def person_at(x: np.ndarray, z: float = 6.0) -> np.ndarray:
    """A box of joints about (x, 0, z), 1.7 m high: (T, 8, 3)."""
    corners = np.array([[a, b, c] for a in (-0.3, 0.3) for b in (-0.85, 0.85) for c in (-0.1, 0.1)])
    return corners + np.stack([x, 0 * x, 0 * x + z], -1)[:, None]


def test_who_walks_stays_in_the_panel_and_the_window_in_the_picture():
    joints = person_at(np.linspace(-2.5, 2.5, 90))
    for person, window in zip(joints, windows(joints, CAMERA, PANEL, 30), strict=True):
        A = window.A_panel_img
        uv = project(person, CAMERA) @ A[:, :2].T + A[:, 2]
        assert (uv > 0).all()
        assert (uv < (PANEL[1], PANEL[0])).all()
        assert np.ptp(uv[:, 1]) == pytest.approx(PANEL[0] / 1.5, rel=0.05)
        corners = (np.array([[-0.5, -0.5], [PANEL[1] - 0.5, PANEL[0] - 0.5]]) - A[:, 2]) / window.scale
        assert (corners > -0.5 - 1e-6).all()
        assert (corners < np.array([1280, 720]) - 0.5 + 1e-6).all()


def test_the_panel_s_middle_is_the_window_s_ray():
    joints = person_at(np.full(5, 0.4))
    window = windows(joints, CAMERA, PANEL, 30)[2]
    middle = window.A_panel_img[:, :2] @ window.center + window.A_panel_img[:, 2]
    np.testing.assert_allclose(middle, ((PANEL[1] - 1) / 2, (PANEL[0] - 1) / 2), atol=1e-9)


def test_a_missing_person_is_bridged_and_noise_does_not_shake_it():
    x = np.zeros(60) + np.random.default_rng(0).normal(0, 0.02, 60)
    joints = person_at(x)
    joints[20:30] = np.nan
    centers = np.array([window.center for window in windows(joints, CAMERA, PANEL, 30)])
    assert np.isfinite(centers).all()
    assert np.abs(np.diff(centers[:, 0])).max() < 0.5  # the noise alone is 3.3 px


def test_a_near_person_is_shown_with_the_whole_picture():
    window = windows(person_at(np.zeros(3), z=1.0), CAMERA, PANEL, 30)[0]
    assert window.scale == pytest.approx(480 / 1280)
