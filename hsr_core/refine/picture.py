"""Before and after, side by side: what a person looks at to judge a refinement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..body.ehm import EhmBody
from ..geometry.raster import Topology
from ..types import Array, Camera, HumanParams
from ..viz.colors import person_rgb
from ..viz.overlay import draw_mesh, put_text
from .frames import RefineFrame
from .offline import RefinedClip
from .render import render
from .view import View, Window

COLUMNS = 6
ROWS = ("image", "before", "after", "avatar", "error")
GAIN = 3.0
"""The error is shown this much brighter."""


def write_strip(path: Path, clip: RefinedClip, frames: Sequence[RefineFrame], body: EhmBody) -> None:
    """Write a PNG: a few frames beside each other; below them the incoming and the refined mesh over the image, the
    rendered avatar, and its difference from the image."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int))
    topology = Topology(body.faces)
    columns = []
    for i in chosen:
        frame, window = frames[i], clip.windows[i]
        image = np.ascontiguousarray((frame.image[..., ::-1] * 255).astype(np.uint8))
        before, after = (
            _mesh_over(image, person, frame, body, topology) for person in (clip.incoming[i], clip.candidate[i])
        )
        drawn, error = _avatar(clip, clip.views[i], clip.candidate[i])
        shown = [_cut(part, window) for part in (image, before, after)] + [drawn, error]
        size = drawn.shape[1::-1]
        columns.append(np.concatenate([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in shown]))
    picture = np.concatenate(columns, axis=1)
    height = len(picture) // len(ROWS)
    for row, name in enumerate(ROWS):
        put_text(picture, [name], (4, (row + 1) * height - 6), (255, 255, 255))
    cv2.imwrite(str(path), picture)


def _mesh_over(image: Array, person: HumanParams, frame: RefineFrame, body: EhmBody, topology: Topology) -> Array:
    canvas = image.copy()
    camera = Camera(frame.K, frame.image_hw)
    draw_mesh(canvas, body.pose_one(person).vertices, topology, camera, lambda uv: uv, person_rgb(1))
    return canvas


def _cut(image: Array, window: Window) -> Array:
    return image[window.y0 : window.y1, window.x0 : window.x1]


def _avatar(clip: RefinedClip, view: View, person: HumanParams) -> tuple[Array, Array]:
    """Return the rendered avatar on white and its difference from the image within the mask, BGR."""
    with torch.no_grad():
        gaussians = clip.avatar.pose_person(person)
        drawn = render(gaussians, view.K[None], view.image_hw, view.image.new_ones(1, 3), max_weight=False).color[0]
        error = (drawn - view.image).abs() * view.mask[..., None] * GAIN
    return _bgr(drawn.cpu().numpy()), _bgr(error.cpu().numpy())


def _bgr(rgb: Array) -> Array:
    return np.ascontiguousarray((np.clip(rgb, 0, 1)[..., ::-1] * 255).astype(np.uint8))
