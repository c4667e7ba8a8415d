"""A SMPL-X person for a motion: taken over where the body is SMPL-X, fitted where it is another."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..body.joints import N_JOINTS, PARENTS
from ..body.smplx_body import SkinnedMesh
from ..errors import MissingFile
from ..types import Array
from .motion import Motion, Pose, place

N_BETAS = 16
_PARENT = np.array(PARENTS)
_RIDGE = 1e-3
"""Weight of a beta of 1 against a joint that is 1 m off: half a millimetre at a few betas, and no wild shapes."""
_ROUNDS = 8
_SHORT_M = 1e-3
_SAMPLES = 200


@dataclass(frozen=True, eq=False)
class SmplxShape:
    """One shape, and how rotations are carried to it.

    Attributes:
        betas: (16,).
        pelvis: (3,) [m] rest place of the pelvis joint: trans = pelvis in the world - this.
        offsets: (55, 3) [m] of each joint from its parent at rest.
        corrections: (55, 3, 3): R_world_joint of SMPL-X = R_world_joint of the motion @ this. Identity where the body
            is SMPL-X.
        fitted: False where parameters were taken over.
        residual_mm: Mean distance of the joints from the motion's [mm].
    """

    betas: Array
    pelvis: Array
    offsets: Array
    corrections: Array
    fitted: bool
    residual_mm: float

    def carried(self, pose: Pose) -> Pose:
        """Return a pose with the rotations that SMPL-X needs."""
        if not self.fitted:
            return pose
        C, P = self.corrections, self.corrections[_PARENT].copy()
        P[0] = np.eye(3)
        rotmats = np.swapaxes(P, -1, -2) @ pose.rotmats @ C
        return Pose(pose.stamps, pose.pelvis, rotmats, pose.measured)


def smplx_folder(folder: str) -> str:
    """Return where the user's SMPL-X files are.

    Raises:
        MissingFile: No folder is named, or it does not exist.
    """
    folder = folder or os.environ.get("HSR_BODY_MODELS", "")
    if not folder:
        raise MissingFile(
            "SMPL-X parameters need the SMPL-X model: its rest pelvis is part of `trans`, and from the open body the "
            "shape is fitted; name the folder of the files by --body-models or HSR_BODY_MODELS (docs/body.md). bvh, "
            "glb and npz need none"
        )
    if not Path(folder).is_dir():
        raise MissingFile(f"no folder {folder} with SMPL-X files")
    return folder


def smplx_mesh(folder: str) -> SkinnedMesh:
    """Read SMPL-X from the user's files.

    Raises:
        MissingFile: No folder is named, or the files are not in it.
    """
    from ..body.licensed import licensed_body_files

    return licensed_body_files(smplx_folder(folder)).body


def shape_for(motion: Motion, mesh: SkinnedMesh) -> SmplxShape:
    """Return the SMPL-X shape of a motion."""
    joints, dirs = joint_space(mesh)
    family = motion.track.recorded.facts.body_family
    if family == "EHMS":
        betas = _median_betas(motion)
    else:
        betas = fit_betas(motion.offsets, joints, dirs)
    rest = joints + dirs @ betas
    offsets = rest - rest[_PARENT]
    offsets[0] = 0
    corrections = np.tile(np.eye(3), (N_JOINTS, 1, 1))
    if family != "EHMS":
        corrections = aligning(offsets, motion.offsets)
    shape = SmplxShape(betas, rest[0], offsets, corrections, family != "EHMS", 0.0)
    return replace(shape, residual_mm=_residual_mm(motion, shape))


def joint_space(mesh: SkinnedMesh) -> tuple[Array, Array]:
    """Return the joints of the mean shape (55, 3) [m] and their change by each beta (55, 3, 16)."""
    regressor = mesh.J_regressor.astype(np.float64)
    dirs = mesh.shapedirs[:, :, :N_BETAS].astype(np.float64)
    if dirs.shape[2] < N_BETAS:
        dirs = np.concatenate([dirs, np.zeros((*dirs.shape[:2], N_BETAS - dirs.shape[2]))], axis=2)
    return regressor @ mesh.v_template.astype(np.float64), np.einsum("jv,vcn->jcn", regressor, dirs)


def fit_betas(offsets: Array, joints: Array, dirs: Array) -> Array:
    """Return the betas (16,) whose bones have the lengths of `offsets` (55, 3) [m], by Gauss-Newton with a ridge.

    Lengths alone: how a bone points at rest is a convention of the model, which rotations make up for (`aligning`).
    """
    bones, turns = joints - joints[_PARENT], dirs - dirs[_PARENT]
    lengths = np.linalg.norm(offsets, axis=1)
    betas = np.zeros(N_BETAS)
    for _ in range(_ROUNDS):
        now = bones + turns @ betas
        have = np.maximum(np.linalg.norm(now, axis=1), 1e-9)
        A = np.einsum("jc,jcn->jn", now / have[:, None], turns)[1:]
        b = (lengths - have)[1:] + A @ betas
        betas = np.linalg.solve(A.T @ A + _RIDGE**2 * np.eye(N_BETAS), A.T @ b)
    return betas


def aligning(source: Array, target: Array) -> Array:
    """Return for each joint the rotation (55, 3, 3) that best takes its children's offsets `source` to `target`.

    A joint without children turns as its parent does.

    Source:
        Kabsch, A solution for the best rotation to relate two sets of vectors, 1976, on unit vectors.
    """
    out = np.tile(np.eye(3), (N_JOINTS, 1, 1))
    for j in range(N_JOINTS):
        children = [k for k in range(N_JOINTS) if PARENTS[k] == j]
        pairs = [
            (source[k], target[k]) for k in children if min(map(np.linalg.norm, (source[k], target[k]))) > _SHORT_M
        ]
        if not pairs:
            out[j] = out[PARENTS[j]] if j else out[j]
            continue
        a, b = (np.stack([pair[i] / np.linalg.norm(pair[i]) for pair in pairs]) for i in range(2))
        # The identity breaks the tie of a single bone: no turn about itself.
        u, _, vt = np.linalg.svd(b.T @ a + 1e-3 * np.eye(3))
        out[j] = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return out


def _median_betas(motion: Motion) -> Array:
    frames = np.flatnonzero(motion.valid)
    some = frames[np.unique(np.linspace(0, len(frames) - 1, _SAMPLES).astype(int))]
    betas = np.median([motion.track.read("betas", slice(f, f + 1))[0] for f in some], axis=0)
    out = np.zeros(N_BETAS)
    out[: min(N_BETAS, len(betas))] = betas[:N_BETAS]
    return out


def _residual_mm(motion: Motion, shape: SmplxShape) -> float:
    frames = np.flatnonzero(motion.valid)
    apart = []
    for frame in frames[np.unique(np.linspace(0, len(frames) - 1, _SAMPLES).astype(int))]:
        pose = motion.read(slice(frame, frame + 1))
        there = place(shape.carried(pose), shape.offsets)[0]
        apart.append(np.linalg.norm(there - motion.joints_m(pose), axis=-1).mean())
    return 1e3 * float(np.mean(apart))
