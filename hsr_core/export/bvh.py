"""BVH: the motion format of animation programs. A frozen skeleton, y up, Euler angles ZXY, a uniform rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy.spatial.transform import Rotation

from ..body.joints import JOINT_NAMES, N_JOINTS, PARENTS
from ..errors import ConfigError
from ..types import Array
from .base import ExportOptions, Job, as_json, files_whole, numbered
from .motion import Motion, Pose, Stretch, sample_count

R_YUP_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""x_file = R x_world: files are y up, as the programs that read BVH expect it."""
UNITS = {"cm": 100.0, "m": 1.0}
_CHANNELS = "Zrotation Xrotation Yrotation"
_TIP_M = 0.02
"""Length of the last bone of each chain: SMPL-X has no joint at its end."""


class BvhExporter:
    """One file a stretch; the unit is in its name. What BVH cannot say is in a JSON file beside it."""

    title = "BVH"
    suffix = ".bvh"
    needs_robot = False

    def check(self, out: Path, options: ExportOptions) -> None:
        """Refuse an unknown unit."""
        if options.units not in UNITS:
            raise ConfigError(f"--units wants {' or '.join(UNITS)}, not {options.units}")

    def write(self, job: Job) -> dict[str, Any]:
        units = job.options.units
        motion = job.motion("zero-phase")
        fps, stretches = job.rate(motion), job.moving(motion)
        mark = "" if job.out.stem.endswith(f"_{units}") else f"_{units}"
        names, written, bridged = numbered(job.out, len(stretches), mark), [], 0
        with files_whole(job.out) as folder:
            for name, stretch in zip(names, stretches, strict=True):
                with (folder / name.name).open("w") as file:
                    flags = write_bvh(file, motion, stretch, fps, UNITS[units])
                facts = {
                    "fps": fps, "units": units, "axes": "y up; at rest x left, y up, z forward",
                    "first_stamp_ns": int(stretch.stamps[0]), "frames_bridged": flags,
                }  # fmt: skip
                (folder / f"{name.name}.json").write_text(as_json(job.header(motion, **facts)))
                written += [name.name, f"{name.name}.json"]
                bridged += len(flags)
        return {"files": written, "fps": fps, "frames": sum(sample_count(s, fps) for s in stretches),
                "frames_bridged": bridged}  # fmt: skip


def write_bvh(file: TextIO, motion: Motion, stretch: Stretch, fps: float, scale: float) -> list[int]:
    """Write one file and return the numbers of the frames that lie in gaps."""
    for line in hierarchy(motion.offsets * scale):
        file.write(line + "\n")
    file.write(f"MOTION\nFrames: {sample_count(stretch, fps)}\nFrame Time: {1 / fps:.9f}\n")
    bridged, done = [], 0
    for pose in motion.resampled(stretch, fps):
        np.savetxt(file, channels(pose, motion.offsets, scale), "%.6f")
        bridged += (done + np.flatnonzero(~pose.measured)).tolist()
        done += len(pose.stamps)
    return bridged


def hierarchy(offsets: Array) -> Iterator[str]:
    """Yield the lines of the skeleton; offsets (55, 3) in the file's unit."""
    tip = _TIP_M * np.linalg.norm(offsets[JOINT_NAMES.index("left_knee")]) / 0.4
    yield "HIERARCHY"
    yield from _joint(0, offsets, tip, 0)


def _joint(j: int, offsets: Array, tip: float, depth: int) -> Iterator[str]:
    pad = "  " * depth
    yield f"{pad}{'JOINT' if j else 'ROOT'} {JOINT_NAMES[j]}"
    yield pad + "{"
    yield f"{pad}  OFFSET {offsets[j, 0]:.6f} {offsets[j, 1]:.6f} {offsets[j, 2]:.6f}"
    yield f"{pad}  CHANNELS {3 if j else 6} {'' if j else 'Xposition Yposition Zposition '}{_CHANNELS}"
    children = [k for k in range(N_JOINTS) if PARENTS[k] == j]
    for child in children:
        yield from _joint(child, offsets, tip, depth + 1)
    if not children:
        direction = offsets[j] / max(float(np.linalg.norm(offsets[j])), 1e-9) * tip
        yield f"{pad}  End Site\n{pad}  {{"
        yield f"{pad}    OFFSET {direction[0]:.6f} {direction[1]:.6f} {direction[2]:.6f}\n{pad}  }}"
    yield pad + "}"


def file_order() -> list[int]:
    """Return the joints in the order of the file: depth first."""
    order: list[int] = []
    stack = [0]
    while stack:
        j = stack.pop()
        order.append(j)
        stack += [k for k in reversed(range(N_JOINTS)) if PARENTS[k] == j]
    return order


def channels(pose: Pose, offsets: Array, scale: float) -> Array:
    """Return the numbers of some frames, (n, 3 + 3 * 55): position, then Z, X, Y [deg] of each joint in file order."""
    rotmats = pose.rotmats.copy()
    rotmats[:, 0] = R_YUP_WORLD @ rotmats[:, 0]
    angles = Rotation.from_matrix(rotmats[:, file_order()].reshape(-1, 3, 3)).as_euler("ZXY", degrees=True)
    # A reader adds a root's offset to nothing: the position is the pelvis itself (its offset is zero).
    place = scale * (pose.pelvis @ R_YUP_WORLD.T)
    return np.concatenate([place, angles.reshape(len(place), -1)], axis=1)


def create() -> BvhExporter:
    """Return the exporter."""
    return BvhExporter()
