"""Where a picture is cut so that a person stays in it: a window that follows them slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..geometry.camera import project, undistort_points
from ..types import Array, Camera

ROOM = 1.5
"""Height of the window over the height of the joints' box; a head reaches above its joint."""
STEADY_S = 0.7
"""The window moves with a Gaussian mean of this deviation [s]; it sees what comes, too."""
LEAST_PX = 48.0


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image, shown in a panel.

    Attributes:
        A_panel_img: (2, 3), pixels of the image to pixels of the panel.
        center: (2,) middle of the window in the image without lens distortion [px].
        scale: Panel pixels a pixel of the image.
    """

    A_panel_img: Array
    center: Array
    scale: float


def windows(joints: Array, camera: Camera, panel_hw: tuple[int, int], fps: float) -> list[Window]:
    """Return a window for each frame.

    Args:
        joints: (T, J, 3) [m], camera frame; NaN where the person is missing: the window goes on between.
        camera: Of the image.
        panel_hw: Height and width of the panel.
        fps: Of the frames [Hz].
    """
    uv = project(joints, camera)
    known = np.isfinite(uv).all(axis=(1, 2))
    low, high = (np.where(known[:, None], f(np.nan_to_num(uv), axis=1), np.nan) for f in (np.min, np.max))
    aspect = panel_hw[1] / panel_hw[0]
    size = high - low
    height = np.maximum(size[:, 1], size[:, 0] / aspect)
    track = steady(np.column_stack([(low + high) / 2, height]), fps)
    return [_window(row, camera, panel_hw) for row in track]


def steady(values: Array, fps: float) -> Array:
    """Return rows (T, n) that move slowly; between rows that are not finite it goes on. All NaN where none is."""
    index, known = np.arange(len(values)), np.isfinite(values).all(axis=1)
    if not known.any():
        return np.full_like(values, np.nan)
    full = np.column_stack([np.interp(index, index[known], column[known]) for column in values.T])
    return gaussian_filter1d(full, STEADY_S * fps, axis=0, mode="nearest")


def _window(row: Array, camera: Camera, panel_hw: tuple[int, int]) -> Window:
    height, width = camera.image_hw
    aspect = panel_hw[1] / panel_hw[0]
    whole = max(height, width / aspect)
    cut_h = float(np.clip(ROOM * row[2], LEAST_PX, whole)) if np.isfinite(row).all() else whole
    cut_w = cut_h * aspect
    center = row[:2] if np.isfinite(row).all() else np.array([(width - 1) / 2, (height - 1) / 2])
    u, v = (
        _inside(place, cut, limit) for place, cut, limit in zip(center, (cut_w, cut_h), (width, height), strict=True)
    )
    scale = panel_hw[0] / cut_h
    # Edges on edges, pixel centres at integers.
    A = np.array([[scale, 0, (0.5 - u) * scale - 0.5], [0, scale, (0.5 - v) * scale - 0.5]])
    middle = np.array([u + cut_w / 2 - 0.5, v + cut_h / 2 - 0.5])
    return Window(A, undistort_points(middle, camera), scale)


def _inside(center: float, cut: float, limit: float) -> float:
    """Return where the window begins (edge coordinates): inside the image, or the image in its middle."""
    start = center + 0.5 - cut / 2
    return float(np.clip(start, 0, limit - cut)) if cut <= limit else (limit - cut) / 2
