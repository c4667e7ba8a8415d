"""What the refiner says of itself in /diagnostics."""

from __future__ import annotations

import time

import numpy as np

from .diagnostics import Status
from .refine_pipeline import RefinePipeline
from .stats import Counters

NONE_ACCEPTED_S = 60.0
_SHOWN = (
    "pairs", "frames", "thinned", "dropped_busy", "unpaired", "dropped_stale", "dropped_bad", "no_camera_info",
    "bad_people", "no_mask", "bad_mask", "no_depth", "windows", "accepted", "rejected", "stale_windows", "interrupted",
    "refined", "bad_results", "errors",
)  # fmt: skip


def windows_status(pipeline: RefinePipeline, counters: Counters, people_hz: float, no_stamps: bool) -> Status:
    """Return how the newest windows went, and what became of what came in."""
    counts = counters.snapshot()
    status = Status("windows", {"people_hz": round(people_hz, 1), **{name: counts.get(name, 0) for name in _SHOWN}})
    now_s, newest = time.monotonic(), pipeline.newest
    if newest is not None:
        quality = newest.quality
        status.values |= {
            "status": quality.status, "reason": quality.reason, "time_ms": quality.seconds * 1e3,
            "iterations": quality.iterations, "psnr_db": quality.psnr_db, "iou": f"{quality.iou:.3f}",
            "depth": quality.depth_source,
        }  # fmt: skip
    if np.isfinite(ratio := pipeline.slowdown.ratio):
        status.values["perception_slower_by"] = f"{100 * (ratio - 1):.0f} %"
    if no_stamps:
        status.error("images have no stamps: people cannot be paired with them")
    if recent := str(pipeline.errors.recent):
        status.error(recent)
    accepted = list(pipeline.accepted)
    if accepted and sum(accepted) < 0.5 * len(accepted):
        status.warn(f"{len(accepted) - sum(accepted)} of the last {len(accepted)} windows rejected")
    if now_s - pipeline.accepted_s > NONE_ACCEPTED_S and now_s - pipeline.fed_s < NONE_ACCEPTED_S / 2:
        reason = f": {newest.quality.reason}" if newest is not None and newest.quality.reason else ""
        status.error(f"no window accepted for {now_s - pipeline.accepted_s:.0f} s{reason}")
    if people_hz == 0:
        status.note("no people are published")
    return status


def avatar_status(pipeline: RefinePipeline) -> Status:
    newest = pipeline.newest
    status = Status("avatar", {"gaussians": 0, "version": 0})
    if newest is None or not newest.avatar_version:
        status.note("none yet")
        return status
    status.values = {"gaussians": newest.quality.gaussians, "version": newest.avatar_version}
    return status


def provider_status(part: str, name: str, text: str) -> Status:
    """Return what gives depth or masks, and why it gave nothing the last time."""
    status = Status(part, {"provider": name})
    if text:
        status.note(text)
    return status
