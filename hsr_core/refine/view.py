"""One frame as the optimiser sees it: cropped around the person, on the renderer's grid, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError
from ..geometry.regions import bounds
from ..mask.base import core_and_band
from ..types import Array
from .frames import RefineFrame
from .losses import back_project

CORE_PROBABILITY = 0.9
BAND_SHARE = 0.5
"""How much a pixel counts around the outline of a mask that is not exact."""
PADDING_PX = 20
"""Around the person's box."""
HELD_OUT_BLOCK_PX = 16


@dataclass(frozen=True, eq=False)
class View:
    """Everything of one frame, on one device.

    Attributes:
        image: (H, W, 3) RGB in [0, 1]. mask: (H, W) in [0, 1].
        valid: (H, W) in [0, 1], how much a pixel counts in the photometric terms: not at all where it says nothing of
            this person (somebody else is in front) or is held out, half around the outline of a mask that is not exact.
        core: (H, W) bool, certainly this person: where depth counts.
        depth_m: (H, W) z-depth [m], 0 where it does not count; None without depth.
        points: (P, 3) the same as points in the camera frame [m], thinned out; None without depth.
        K: (3, 3) [px], the renderer's: pixel centres at +0.5.
        held_out: (H, W) bool, pixels kept for judging: they count in no loss.
        held_out_depth_m: (H, W) their depth [m], 0 elsewhere; None without depth.
        stamp_ns: Of the frame.
        mask_weight: Most weight of the mask term.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    core: Tensor
    depth_m: Tensor | None
    points: Tensor | None
    K: Tensor
    held_out: Tensor
    held_out_depth_m: Tensor | None
    stamp_ns: int
    mask_weight: float = float("inf")

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1]


@dataclass(frozen=True)
class Window:
    """A part of the image, half open, in whole pixels, and by how much it is shrunk."""

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float = 1.0


def whole_image(image_hw: tuple[int, int]) -> Window:
    return Window(0, 0, image_hw[1], image_hw[0])


def person_window(mask: Array, uv: Array, *, max_height_px: int) -> Window:
    """Return the union of the mask's box and of the box of projected points, padded, cut at the image, and its scale.

    Args:
        mask: (H, W) in [0, 1].
        uv: (N, 2) [px], of the body's vertices; points that are not finite are left out.
        max_height_px: The person is shrunk to this height at most, never enlarged.

    Raises:
        ShapeError: Nothing of the person is in the image.
    """
    height, width = mask.shape
    seen = uv[np.isfinite(uv).all(1)]
    seen = seen[(seen >= 0).all(1) & (seen[:, 0] < width) & (seen[:, 1] < height)]
    box = bounds(mask > 0.5)
    corners = np.array([box[:2], (box[2] - 1, box[3] - 1)]) if box else np.zeros((0, 2))
    places = [part for part in (seen, corners) if len(part)]
    if not places:
        raise ShapeError("nothing of the person is in the image: neither mask nor body")
    both = np.concatenate(places)
    low = np.floor(both.min(0)).astype(int)
    high = np.ceil(both.max(0)).astype(int) + 1
    scale = min(1.0, max_height_px / max(int(high[1] - low[1]), 1))
    x0, y0 = (max(int(value) - PADDING_PX, 0) for value in low)
    x1, y1 = (min(int(value) + PADDING_PX, size) for value, size in zip(high, (width, height), strict=True))
    return Window(x0, y0, x1, y1, scale)


def common_windows(windows: Sequence[Window], image_hw: tuple[int, int]) -> list[Window]:
    """Return windows of one size and one scale: the largest side and the smallest scale, moved back into the image."""
    width = min(max(w.x1 - w.x0 for w in windows), image_hw[1])
    height = min(max(w.y1 - w.y0 for w in windows), image_hw[0])
    scale = min(w.scale for w in windows)
    out = []
    for window in windows:
        x0 = int(np.clip((window.x0 + window.x1 - width) // 2, 0, image_hw[1] - width))
        y0 = int(np.clip((window.y0 + window.y1 - height) // 2, 0, image_hw[0] - height))
        out.append(Window(x0, y0, x0 + width, y0 + height, scale))
    return out


def prepare_view(
    frame: RefineFrame,
    window: Window | None = None,
    *,
    held_out: float = 0.0,
    device: str | torch.device = "cpu",
) -> View:
    """Cut a frame to a window and bring it onto the renderer's grid.

    Args:
        frame: As stored.
        window: None = the whole image as it is.
        held_out: Part of the blocks within the mask that are kept for judging, chosen by stamp and place alone.
        device: Where the tensors go.
    """
    window = window or whole_image(frame.image_hw)
    part = np.s_[window.y0 : window.y1, window.x0 : window.x1]
    known = np.ones(frame.image_hw, bool) if frame.ignore is None else ~frame.ignore
    size = tuple(max(1, round(side * window.scale)) for side in (window.x1 - window.x0, window.y1 - window.y0))
    image, mask = (_shrunk(values[part], size) for values in (frame.image, frame.mask))
    known = _picked(known[part], size)
    K = _renderer_K(frame.K, window, size)
    blocks = _held_out_blocks(mask > 0.5, frame.stamp_ns, held_out)
    valid = (known & ~blocks).astype(np.float32)
    if frame.traits is None:
        core = _picked(frame.mask[part] > CORE_PROBABILITY, size)
    else:
        core, band = core_and_band(mask > 0.5, frame.traits, window.scale)
        valid[band] *= BAND_SHARE
        if not frame.traits.composite:
            valid[~core] = 0
    core &= known

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), device=device)

    depth = points = held_out_depth = None
    if frame.depth_m is not None:
        measured = _picked(frame.depth_m[part], size)
        measured = np.where(core & np.isfinite(measured) & (measured > 0), measured, 0).astype(np.float32)
        depth, held_out_depth = tensor(np.where(blocks, 0, measured)), tensor(np.where(blocks, measured, 0))
        points = back_project(depth, depth > 0, torch.as_tensor(K, device=device))
    return View(
        image=tensor(image),
        mask=tensor(mask),
        valid=tensor(valid),
        core=tensor(core & ~blocks),
        depth_m=depth,
        points=points,
        K=tensor(K.astype(np.float32)),
        held_out=tensor(blocks),
        held_out_depth_m=held_out_depth,
        stamp_ns=frame.stamp_ns,
        mask_weight=float("inf") if frame.traits is None else frame.traits.max_weight,
    )


def _shrunk(values: Array, size: tuple[int, int]) -> Array:
    """Resize by area: a pixel is the mean of what it covers."""
    if values.shape[1::-1] == size:
        return values.astype(np.float32)
    return cv2.resize(np.ascontiguousarray(values, np.float32), size, interpolation=cv2.INTER_AREA)


def _picked(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize by picking: depths and labels are not averaged."""
    if values.shape[1::-1] == size:
        return values
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * side / n).astype(int), side - 1)
        for n, side in zip(size[::-1], values.shape, strict=True)
    )
    return values[np.ix_(rows, columns)]


def _renderer_K(K: Array, window: Window, size: tuple[int, int]) -> Array:
    """Return the intrinsics of the cut and resized image with pixel centres at +0.5."""
    scale = np.array(size) / (window.x1 - window.x0, window.y1 - window.y0)
    out = K.astype(np.float64).copy()
    out[:2, 2] += 0.5 - np.array([window.x0, window.y0])
    out[:2] *= scale[:, None]
    return out


def _held_out_blocks(inside: NDArray[np.bool_], stamp_ns: int, part: float) -> NDArray[np.bool_]:
    """Return pixels (H, W) of blocks chosen by a hash of stamp and block: the same for every run."""
    height, width = inside.shape
    if part <= 0:
        return np.zeros((height, width), bool)
    block = HELD_OUT_BLOCK_PX
    rng = np.random.default_rng(stamp_ns & 0xFFFFFFFF)
    chosen = rng.random((-(-height // block), -(-width // block))) < part
    return np.kron(chosen, np.ones((block, block), bool))[:height, :width] & inside
