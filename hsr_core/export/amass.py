"""SMPL-X npz as AMASS has it: one shape, a uniform rate, axis-angle, world z up.

Source:
    Mahmood et al., AMASS, 2019, and the keys that its SMPL-X files have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..body.joints import JOINT_NAMES
from ..geometry.rotations import rotmat_to_rotvec
from .base import ExportOptions, Job, files_whole, numbered
from .motion import Motion, Stretch
from .npz_stream import Columns
from .smplx_shape import SmplxShape, shape_for, smplx_folder, smplx_mesh

SPLIT = {
    "root_orient": slice(0, 3), "pose_body": slice(3, 66), "pose_jaw": slice(66, 69), "pose_eye": slice(69, 75),
    "pose_hand": slice(75, 165),
}  # fmt: skip
"""Parts of `poses`, which follows the 55 joints: root, body, jaw, left and right eye, left and right hand."""


class AmassExporter:
    """One file a stretch between gaps."""

    title = "SMPL-X npz (AMASS keys)"
    suffix = ".npz"
    needs_robot = False

    def check(self, out: Path, options: ExportOptions) -> None:
        """Refuse without a folder of SMPL-X files."""
        smplx_folder(options.body_models)

    def write(self, job: Job) -> dict[str, Any]:
        motion = job.motion("zero-phase")
        mesh = smplx_mesh(job.options.body_models)
        shape = shape_for(motion, mesh)
        raw = job.motion("raw") if motion.track.has_raw else None
        fps, stretches = job.rate(motion), job.moving(motion)
        note = "fitted to another body's joints and rotations" if shape.fitted else "taken over"
        facts = {"shape": note, "fit_residual_mm": round(shape.residual_mm, 3), "joint_names": list(JOINT_NAMES)}
        names, frames = numbered(job.out, len(stretches)), 0
        with files_whole(job.out) as folder:
            for i, (name, stretch) in enumerate(zip(names, stretches, strict=True)):
                scratch = job.folder / f"amass_{i}"
                scratch.mkdir()
                frames += _write(
                    folder / name.name, scratch, motion, raw, stretch, shape, fps, job.header(motion, **facts)
                )
        return {"files": [name.name for name in names], "fps": fps, "frames": frames, "shape": note,
                "fit_residual_mm": facts["fit_residual_mm"]}  # fmt: skip


def _write(
    path: Path, scratch: Path, motion: Motion, raw: Motion | None, stretch: Stretch, shape: SmplxShape, fps: float,
    header: dict[str, Any],
) -> int:  # fmt: skip
    columns = Columns(scratch)
    for pose in motion.resampled(stretch, fps):
        carried = shape.carried(pose)
        poses = rotmat_to_rotvec(carried.rotmats).reshape(len(pose.stamps), 165)
        # x' = R x about the pelvis: a SMPL-X program adds trans to a body whose pelvis rests at `shape.pelvis`.
        columns.append("trans", pose.pelvis - shape.pelvis)
        columns.append("poses", poses)
        for name, part in SPLIT.items():
            columns.append(name, poses[:, part])
        columns.append("hsr_stamp_ns", pose.stamps)
        columns.append("hsr_measured", pose.measured)
    for pose in raw.resampled(stretch, fps) if raw else ():
        carried = shape.carried(pose)
        columns.append("hsr_raw_trans", pose.pelvis - shape.pelvis)
        columns.append("hsr_raw_poses", rotmat_to_rotvec(carried.rotmats).reshape(len(pose.stamps), 165))
    fixed = {
        "gender": np.array("neutral"),
        "surface_model_type": np.array("smplx"),
        "mocap_frame_rate": np.array(fps),
        "mocap_time_length": np.array(columns.rows["poses"] / fps),
        "betas": shape.betas,
        "num_betas": np.array(len(shape.betas)),
        "hsr_header": np.array(json.dumps(header)),
    }
    with path.open("wb") as file:
        columns.save(file, fixed)
    return columns.rows["poses"]


def create() -> AmassExporter:
    """Return the exporter."""
    return AmassExporter()
