"""Correct a person's poses by an avatar of them, every few frames, and carry the corrections to the frames between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import progress
from ..body.ehm import EhmBody
from ..errors import BadFile
from ..export.lerobot import paired
from ..export.motion import Motion
from ..export.spool import Track
from ..geometry.camera import project
from ..geometry.raster import Topology
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..geometry.view import BodyView, FrameView
from ..mask.base import MaskSettings
from ..mask.select import MaskSelector, open_masks
from ..refine.collect import Straightener
from ..refine.frames import RefineFrame
from ..refine.offline import OfflineSettings, RefinedClip, refine_clip
from ..types import Array, Camera, Frame, HumanParams
from .person import PersonBody, joints_in_camera, poses_in_camera

EVERY, WINDOW, LEAST = 4, 60, 8
"""Each n-th frame is refined; so many share an avatar; fewer teach it nothing."""
SETTINGS = replace(
    OfflineSettings(),
    max_height_px=256,
    avatar=replace(OfflineSettings().avatar, start=5000),
    refine=replace(OfflineSettings().refine, steps=1200, color_steps=100),
)
"""As `hsr refine` has them by default."""
ROOM = 1.25
"""Pictures are shrunk until the person is this much taller than the refiner wants."""


@dataclass(frozen=True, eq=False)
class Corrections:
    """What was changed about some frames.

    Attributes:
        stamps: (n,) [ns], rising.
        turns: (n, 22, 3) [rad]; the root's in camera axes, the others' in the joint's own.
        shifts: (n, 3) [m], camera frame.
    """

    stamps: NDArray[np.int64]
    turns: Array
    shifts: Array

    def at(self, stamps: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return turns and shifts at other times: linear between two refined frames, the nearest outside of them."""
        flat = np.concatenate([self.turns.reshape(len(self.stamps), -1), self.shifts], axis=1)
        have, want = ((x - self.stamps[0]) * 1e-9 for x in (self.stamps, stamps))
        out = np.stack([np.interp(want, have, column) for column in flat.T], axis=1)
        return out[:, :-3].reshape(len(stamps), *self.turns.shape[1:]), out[:, -3:]


def refined_track(
    motion: Motion, body: EhmBody, camera: Camera, frames: Iterator[Frame], folder: Path, height_m: float
) -> tuple[Track, dict[str, Any]]:
    """Return the track with corrected parameters, raw ones as well, and what was done.

    A window whose verdict is against it changes nothing. Joints as they were recorded move with the corrected place
    and do not turn: only the person's proportions are read from them.

    Args:
        motion: Smoothed: where refinement begins.
        body: Whose parameters the motion has.
        camera: Of the pictures.
        frames: The pictures, in the order of their stamps.
        folder: For the corrected rows.
        height_m: Of the person.

    Raises:
        BadFile: No mask of the person is good enough.
    """
    collected, refused = _collect(PersonBody(motion, body), camera, frames, height_m)
    if len(collected) < LEAST:
        why = ", ".join(f"{reason} ({count})" for reason, count in refused.items()) or "too few frames"
        raise BadFile(
            f"--refine has {len(collected)} frames of person {motion.track.track_id}, it needs {LEAST}: {why}"
        )
    clips: list[tuple[Sequence[RefineFrame], RefinedClip]] = []
    for part in _windows(collected):
        clips.append((part, _refine(part, body, len(clips))))
    corrections = corrections_of(clips)
    facts = {
        "windows": len(clips),
        "windows_taken": sum(clip.verdict.accepted for _, clip in clips),
        "frames": len(collected),
        "masks_refused": dict(refused),
        "verdicts": [
            {name: getattr(clip.verdict, name) for name in ("accepted", "reason", "before", "after")}
            for _, clip in clips
        ],
    }
    return corrected_track(motion.track, corrections, folder), facts


def _collect(
    person: PersonBody, camera: Camera, frames: Iterator[Frame], height_m: float
) -> tuple[list[RefineFrame], Counter[str]]:
    """Return every n-th frame with a mask of the person."""
    motion, refused, out = person.motion, Counter(), []
    chosen = np.flatnonzero(motion.valid)[::EVERY]
    stamps = motion.track.stamps[chosen]
    part = _part(motion, camera, chosen)
    straighten, topology, masks = Straightener(), Topology(person.body.faces), open_masks(MaskSettings(), topic=False)
    try:
        for k, frame in enumerate(paired(frames, stamps, 0.5e9 / motion.fps)):
            progress.report("finding masks", k + 1, len(chosen))
            if frame is None:
                refused["no picture"] += 1
                continue
            params = person.params(poses_in_camera(motion, slice(chosen[k], chosen[k] + 1)), 0)
            found = _frame(params, person.body, topology, *straighten(frame, camera), masks, height_m)
            if isinstance(found, str):
                refused[found] += 1
            else:
                out.append(shrunk(found, part))
    finally:
        masks.close()
    return out, refused


def _part(motion: Motion, camera: Camera, chosen: NDArray[np.int64]) -> float:
    """Return the factor at which pictures are kept: so that they fit into memory, and the person is large enough."""
    some = chosen[np.unique(np.linspace(0, len(chosen) - 1, 20).astype(int))]
    uv = np.concatenate([project(joints_in_camera(motion, slice(i, i + 1)), camera) for i in some])
    height = np.ptp(uv[..., 1], axis=1)
    smallest = float(np.nanpercentile(height, 10)) if np.isfinite(height).any() else np.inf
    return min(1.0, ROOM * SETTINGS.max_height_px / max(smallest, 1.0))


def _frame(
    params: HumanParams, body: EhmBody, topology: Topology, frame: Frame, camera: Camera, masks: MaskSelector,
    height_m: float,
) -> RefineFrame | str:  # fmt: skip
    """Return a frame for the refiner, or why there is none."""
    posed = body.pose_one(params)
    view = BodyView(0, posed.vertices, topology, camera, posed.joints, None, height_m)
    whole = FrameView(frame, camera, (view,))
    found = masks.masks_for(whole)
    if not found or not found[0].for_pose:
        return (found[0].reason or "low quality") if found else "no mask"
    image = whole.rgb.astype(np.float32) / 255
    return RefineFrame(image, found[0].prob, frame.depth_m, camera.K, params, frame.stamp_ns, traits=found[0].traits)


def _windows(frames: Sequence[RefineFrame]) -> list[Sequence[RefineFrame]]:
    """Return the frames in windows of even length."""
    count = max(1, round(len(frames) / WINDOW))
    edges = np.linspace(0, len(frames), count + 1).round().astype(int)
    return [frames[a:b] for a, b in pairwise(edges)]


def _refine(frames: Sequence[RefineFrame], body: EhmBody, window: int) -> RefinedClip:
    steps = SETTINGS.refine.steps

    def show(step: int, terms: dict[str, float]) -> None:
        progress.report(f"refining window {window + 1}", step + 1, steps)

    return refine_clip(frames, body, SETTINGS, on_step=show)


def corrections_of(clips: Sequence[tuple[Sequence[RefineFrame], RefinedClip]]) -> Corrections:
    """Return what was changed about every refined frame; nothing where a window was refused."""
    stamps = [frame.stamp_ns for frames, _ in clips for frame in frames]
    pairs = [pair for _, clip in clips for pair in zip(clip.incoming, clip.people, strict=True)]
    turns = np.zeros((len(pairs), 22, 3))
    for k, (before, after) in enumerate(pairs):
        a, b = (rotvec_to_rotmat(np.concatenate([p.global_orient[None], p.body_pose])) for p in (before, after))
        turns[k, 0] = rotmat_to_rotvec(b[0] @ a[0].T)
        turns[k, 1:] = rotmat_to_rotvec(np.swapaxes(a[1:], -1, -2) @ b[1:])
    shifts = np.array([after.transl - before.transl for before, after in pairs])
    return Corrections(np.array(stamps, np.int64), turns, shifts)


def corrected_track(track: Track, corrections: Corrections, folder: Path) -> Track:
    """Return a track with the corrections in its parameters."""
    present = np.flatnonzero(track.row_of >= 0)
    path = folder / f"refined_{track.track_id}_{track.first}.bin"
    rows = np.memmap(path, track.recorded.rows.dtype, "w+", shape=len(present))
    rows[:] = track.recorded.rows[track.row_of[present]]
    turns, shifts = corrections.at(track.stamps[present])
    turn = rotvec_to_rotmat(turns)
    for prefix in ("", "raw_") if track.has_raw else ("",):
        rows[f"{prefix}transl"] += shifts.astype(np.float32)
        root = rotvec_to_rotmat(rows[f"{prefix}global_orient"].astype(np.float64))
        body = rotvec_to_rotmat(rows[f"{prefix}body_pose"].astype(np.float64))
        rows[f"{prefix}global_orient"] = rotmat_to_rotvec(turn[:, 0] @ root)
        rows[f"{prefix}body_pose"] = rotmat_to_rotvec(body @ turn[:, 1:])
    rows["joints"] += shifts[:, None].astype(np.float32)
    row_of = np.full(len(track), -1, np.int64)
    row_of[present] = np.arange(len(present))
    recorded = replace(
        track.recorded, rows=rows, frame_of=track.first + present, track_of=np.full(len(present), track.track_id)
    )
    return replace(track, recorded=recorded, row_of=row_of)


def shrunk(frame: RefineFrame, part: float) -> RefineFrame:
    """Return a frame at another size; pixel edges align."""
    size = tuple(max(1, round(n * part)) for n in frame.image_hw)
    camera = Camera(frame.K, frame.image_hw).scaled(size)

    def smaller(image: Array) -> Array:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)

    depth = frame.depth_m
    if depth is not None:
        depth = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
    return replace(frame, image=smaller(frame.image), mask=smaller(frame.mask), depth_m=depth, K=camera.K)
