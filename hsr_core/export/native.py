"""The people file of `hsr run --out`, of the chosen people: nothing is lost but those who were not chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..body.joints import JOINT_NAMES
from ..geometry.rotations import rotmat_to_quat_wxyz, rotmat_to_rotvec, wxyz_to_xyzw
from ..paths import written_whole
from ..results import CONVENTIONS, FORMAT, INTEGERS, SEEN
from ..types import Array
from .base import Job
from .motion import LEVEL_CAMERA, Motion, Pose, place
from .npz_stream import Columns
from .spool import Track, chunks


class NativeExporter:
    """`hsr-people/1`, which `hsr_core.results.load_people` and numpy read."""

    title = "people file (hsr-people/1)"
    suffix = ".npz"
    needs_robot = False

    def write(self, job: Job) -> dict[str, Any]:
        tracks = job.tracks
        first = min(track.first for track in tracks)
        stop = max(track.first + len(track) for track in tracks)
        slots = _slots(tracks)
        columns = Columns(job.folder)
        for at in chunks(stop - first):
            frames = slice(at.start + first, at.stop + first)
            columns.append("stamp_ns", job.recorded.stamps[frames])
            rows = _rows(tracks, slots, frames)
            columns.append("valid", np.isin(rows["state"], SEEN))
            for name, values in rows.items():
                columns.append(name, values)
            if tracks[0].knows_world:
                columns.append("T_world_cam", job.recorded.T_world_cam(frames))
            if job.options.smoothing == "zero-phase":
                for name, values in _smoothed(job, slots, frames).items():
                    columns.append(name, values)
        header = job.header() | self._metadata(job)
        with written_whole(job.out) as file:
            more = {"metadata": np.array(json.dumps(header)), "joint_names": np.array(JOINT_NAMES)}
            columns.save(file, more | dict(job.recorded.facts.camera or {}))
        return {"files": [job.out.name], "frames": stop - first, "people": len(tracks)}

    def _metadata(self, job: Job) -> dict[str, Any]:
        facts = job.recorded.facts
        zero_phase = {"zero_phase_*": "smoothed without delay over the whole track; camera frame"}
        smoothed = zero_phase if job.options.smoothing == "zero-phase" else {}
        return {
            "format": FORMAT,
            "version": job.header()["code_version"],
            "settings": facts.settings,
            "conventions": CONVENTIONS | smoothed,
            "complete": not facts.damage,
        }


def _slots(tracks: Sequence[Track]) -> dict[int, int]:
    """Return a slot for each track; one is used again when its person is gone."""
    ends: list[int] = []
    slots = {}
    for track in sorted(tracks, key=lambda track: track.first):
        free = next((slot for slot, end in enumerate(ends) if end <= track.first), len(ends))
        if free == len(ends):
            ends.append(0)
        ends[free] = track.first + len(track)
        slots[track.track_id] = free
    return slots


def within(track: Track, frames: slice) -> tuple[slice, slice] | None:
    """Return the part of `frames` that a track covers: in the track, and in `frames`."""
    start, stop = max(frames.start, track.first), min(frames.stop, track.first + len(track))
    if start >= stop:
        return None
    return slice(start - track.first, stop - track.first), slice(start - frames.start, stop - frames.start)


def _rows(tracks: Sequence[Track], slots: dict[int, int], frames: slice) -> dict[str, Array]:
    rows = tracks[0].recorded.rows
    shape = frames.stop - frames.start, 1 + max(slots.values())
    out = {}
    for name in rows.dtype.names:
        kind, inner = rows.dtype[name].base, rows.dtype[name].shape
        out[name] = np.full((*shape, *inner), INTEGERS.get(name, np.nan), kind)
    for track in tracks:
        found = within(track, frames)
        if found is None:
            continue
        mine, here = found
        there = track.row_of[mine] >= 0
        for name, values in out.items():
            values[here, slots[track.track_id]][there] = track.read(name, mine)[there]
    return out


def _smoothed(job: Job, slots: dict[int, int], frames: slice) -> dict[str, Array]:
    """Return the joints and the parameters that a zero-phase motion has, in the camera's frame."""
    shape = frames.stop - frames.start, 1 + max(slots.values())
    out = {
        "zero_phase_joints": np.full((*shape, 55, 3), np.nan, np.float32),
        "zero_phase_joint_quats_xyzw": np.full((*shape, 55, 4), np.nan, np.float32),
        "zero_phase_rotvecs": np.full((*shape, 55, 3), np.nan, np.float32),
    }
    for track in job.tracks:
        found = within(track, frames)
        if found is None:
            continue
        mine, here = found
        motion = job.motion("zero-phase", track)
        pose = in_camera(motion, motion.read(mine), mine)
        joints, rotmats = place(pose, motion.offsets)
        slot = slots[track.track_id]
        out["zero_phase_joints"][here, slot] = joints
        out["zero_phase_joint_quats_xyzw"][here, slot] = wxyz_to_xyzw(rotmat_to_quat_wxyz(rotmats))
        out["zero_phase_rotvecs"][here, slot] = rotmat_to_rotvec(pose.rotmats)
    return out


def in_camera(motion: Motion, pose: Pose, at: slice) -> Pose:
    """Return a pose in the world in the camera's frame."""
    n = len(pose.stamps)
    T = np.broadcast_to(LEVEL_CAMERA, (n, 4, 4)) if motion.assumes_world else motion.track.T_world_cam(at)
    R = np.swapaxes(T[:, :3, :3], -1, -2)
    rotmats = pose.rotmats.copy()
    rotmats[:, 0] = R @ rotmats[:, 0]
    return Pose(pose.stamps, np.einsum("nab,nb->na", R, pose.pelvis - T[:, :3, 3]), rotmats, pose.measured)


def create() -> NativeExporter:
    """Return the exporter."""
    return NativeExporter()
