"""A person as controllers of whole bodies are fed with them: 24 SMPL joints, their rotations, and stamps; npz.

Source:
    NVIDIA, GR00T-WholeBodyControl (SONIC), fields of its stream protocol 2; the order of the joints is SMPL's, which
    OpenXR's XR_BD_body_tracking has, too. Differs from it in: arrays in a file, no network; the pelvis is the origin.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..body.joints import BODY, JOINT_NAMES, SMPLX_TO_ROS_BODY, J
from ..errors import ConfigError
from ..geometry.rotations import rotmat_to_quat_wxyz, rotmat_to_rotvec
from ..paths import written_whole
from ..retarget.settings import GateSettings
from ..types import Array, Part
from .base import Job
from .engagement import STATES
from .motion import Motion, place
from .npz_stream import Columns
from .pairing import nearest
from .spool import chunks

HANDS = {"left_hand": ("left_middle1", Part.LEFT_HAND), "right_hand": ("right_middle1", Part.RIGHT_HAND)}
"""SMPL's hands are joints that SMPL-X lacks: the base of the middle finger is next to them."""
SMPL_NAMES = (*JOINT_NAMES[:22], *HANDS)
_PLACES = [*range(22), *(J[joint] for joint, _ in HANDS.values())]
_CONVENTIONS = {
    "smpl_joints": "m, from the pelvis, in the axes of body_quat",
    "smpl_pose": "rotation vectors, rad, each joint relative to its parent, without the root",
    "body_quat": "wxyz, the pelvis (x forward, y left, z up) to the world (z up)",
    "frame_index": "number of the frame since the first one; what is missing is left out",
    "joint_valid": "whether the joint was seen",
}


class PoseStreamExporter:
    """Frames in which the person was seen; of an engagement those alone in which the robot followed (TRACKING)."""

    title = "SMPL pose stream (npz)"
    suffix = ".npz"
    needs_robot = False

    def write(self, job: Job) -> dict[str, Any]:
        motion = job.motion("recorded")
        wanted = motion.valid & _followed(job, motion)
        if not wanted.any():
            raise ConfigError("the robot followed in no frame of this engagement")
        first = int(np.flatnonzero(wanted)[0])
        columns = Columns(job.folder)
        for at in chunks(len(wanted), start=first):
            _append(columns, motion, at, wanted[at], first)
        governor = "TRACKING" if job.engagement else "none: these poses passed no governor"
        facts = {"conventions": _CONVENTIONS, "governor": governor, "hands": {k: v[0] for k, v in HANDS.items()}}
        header = np.array(json.dumps(job.header(motion, **facts)))
        with written_whole(job.out) as file:
            columns.save(file, {"joint_names": np.array(SMPL_NAMES), "hsr_header": header})
        return {"files": [job.out.name], "frames": int(wanted.sum()), "frames_missing": int((~wanted[first:]).sum())}


def _followed(job: Job, motion: Motion) -> NDArray[np.bool_]:
    """Return the frames at whose time the robot followed, all where there is no engagement."""
    if job.engagement is None:
        return np.ones(len(motion.valid), bool)
    sent = job.engagement.sent
    pick = nearest(sent.stamps, motion.track.stamps, motion.fps)
    return (pick >= 0) & (sent.states[np.maximum(pick, 0)] == STATES.index("tracking"))


def _append(columns: Columns, motion: Motion, at: slice, wanted: NDArray[np.bool_], first: int) -> None:
    pose = motion.read(at)
    joints = place(pose, motion.offsets)[0][wanted][:, _PLACES]
    R_world_body = pose.rotmats[wanted, 0] @ np.array(SMPLX_TO_ROS_BODY).T
    columns.append("stamp_ns", pose.stamps[wanted])
    columns.append("frame_index", np.arange(at.start, at.stop)[wanted] - first)
    local = np.einsum("nba,njb->nja", R_world_body, joints - joints[:, :1])
    columns.append("smpl_joints", local.astype(np.float32))
    columns.append("smpl_pose", rotmat_to_rotvec(pose.rotmats[wanted][:, BODY]).astype(np.float32))
    columns.append("body_quat", rotmat_to_quat_wxyz(R_world_body).astype(np.float32))
    columns.append("joint_valid", _seen(motion, at)[wanted])


def _seen(motion: Motion, at: slice) -> Array:
    seen = np.nan_to_num(motion.track.read("joint_score", at)[:, _PLACES], nan=1.0) >= GateSettings().joint_score
    parts = motion.track.read("parts", at)
    for i, (_, part) in enumerate(HANDS.values()):
        seen[:, 22 + i] &= (parts & int(part)) != 0
    return seen


def create() -> PoseStreamExporter:
    """Return the exporter."""
    return PoseStreamExporter()
