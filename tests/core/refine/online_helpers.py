"""A stream of synthetic frames for the online refinement, and settings small enough for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from hsr_core.refine.avatar import AvatarSettings
from hsr_core.refine.frames import RefineFrame
from hsr_core.refine.online import OnlineRefiner
from hsr_core.refine.online_settings import (
    BootstrapSettings,
    GateSettings,
    OnlineSettings,
    WindowSettings,
    online_settings,
)
from hsr_core.refine.window import RefinedWindow

TRACK = 7
FRAME_NS = 100_000_000

TINY: OnlineSettings = replace(
    online_settings("cpu_test"), budget_ms=600_000, pose_iterations=2, joint_iterations=4, crop_height_px=96,
    avatar=AvatarSettings(start=200), window=WindowSettings(optimised=3, max_frames=20),
    gate=GateSettings(min_frames=4, min_iou=0.3, min_height_px=40),
    bootstrap=BootstrapSettings(iterations=12, color_iterations=2, keyframes=2, psnr_db=0),
)  # fmt: skip
"""A few steps: states and rules, no accuracy."""


def stream(frames: Sequence[RefineFrame], *, start: int = 0, spacing_ns: int = FRAME_NS) -> list[RefineFrame]:
    """Return the frames without their truth, evenly spaced in time from place `start` on."""
    return [replace(f, truth=None, stamp_ns=(start + i) * spacing_ns) for i, f in enumerate(frames)]


def feed(refiner: OnlineRefiner, frames: Iterable[RefineFrame], track_id: int = TRACK, **known) -> list[RefinedWindow]:
    """Add frames one by one; after each, work on what is due."""
    windows = []
    for frame in frames:
        refiner.add(track_id, frame, **{"depth_source": "topic", **known})
        windows += drain(refiner)
    return windows


def drain(refiner: OnlineRefiner, limit: int = 50) -> list[RefinedWindow]:
    """Return all windows that are due."""
    windows = []
    for _ in range(limit):
        window = refiner.refine()
        if window is None:
            return windows
        windows.append(window)
    raise AssertionError("windows are due without end")


class FakeClock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def moved(frame: RefineFrame, shift_m: Sequence[float]) -> RefineFrame:
    """Return the frame with its estimate moved."""
    transl = frame.params.transl + np.asarray(shift_m, np.float32)
    return replace(frame, params=replace(frame.params, transl=transl))
