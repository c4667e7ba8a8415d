"""SMPL parameters of a data set as reference people: in the camera frame, with a mesh where the user has SMPL files."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..body.smpl import FILE_NAMES, Smpl, find_smpl
from ..geometry.rigid import moved, transformed
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array, HumanParams


class SmplModels:
    """The user's SMPL files by gender, each read when it is first needed.

    Args:
        folder: As in `open_dataset`.
    """

    def __init__(self, folder: str | os.PathLike[str] = "") -> None:
        self.folder = os.fspath(folder) or os.environ.get("HSR_BODY_MODELS", "")
        self._loaded: dict[str, Smpl] = {}

    def has(self, gender: str) -> bool:
        return bool(self.folder) and find_smpl(self.folder, gender) is not None

    def get(self, gender: str) -> Smpl | None:
        """Return SMPL of a gender, or None where there is no file.

        Raises:
            BadFile: There is one, and it is torn or no SMPL.
        """
        if gender not in self._loaded and self.has(gender):
            self._loaded[gender] = Smpl.read(Path(find_smpl(self.folder, gender)))  # type: ignore[arg-type]
        return self._loaded.get(gender)

    def note(self, genders: tuple[str, ...], lacks: str) -> tuple[str, ...]:
        """Return why something is missing, for `Dataset.notes`; nothing where the files are there."""
        missing = [gender for gender in genders if not self.has(gender)]
        if not missing:
            return ()
        where = f"in {self.folder}" if self.folder else "for no folder was given (body_models, or HSR_BODY_MODELS)"
        files = ", ".join(FILE_NAMES[gender][0] for gender in missing)
        return (f"{lacks}: no SMPL of gender {', '.join(missing)} ({files}) {where}",)


class SmplPerson:
    """One person's SMPL parameters over a sequence, in the world of the set.

    Args:
        poses: (N, 72) rotation vectors [rad]. betas: (n,). transl: (N, 3) [m], added after skinning.
        smpl: SMPL of this person's gender, or None.
        rest_pelvis: (3,) [m] pelvis of the shape at rest, where it is known without SMPL.
    """

    def __init__(
        self, poses: Array, betas: Array, transl: Array, smpl: Smpl | None, rest_pelvis: Array | None = None
    ) -> None:
        self._poses, self._betas, self._transl, self._smpl = poses, betas[:10], transl, smpl
        self._rest_pelvis = rest_pelvis

    @cached_property
    def _pelvis(self) -> Array | None:
        if self._smpl is not None:
            return self._smpl.rest(self._betas)[1][0].astype(np.float64)
        return self._rest_pelvis

    def params(self, i: int, T_cam_world: Array) -> HumanParams | None:
        """Return the parameters of frame i in the camera frame; `transl` is NaN where the pelvis is not known.

        None where the set's own values are not finite.
        """
        pose, transl = self._poses[i].reshape(24, 3), self._transl[i]
        if not (np.isfinite(pose).all() and np.isfinite(transl).all() and np.isfinite(self._betas).all()):
            return None
        params = HumanParams(
            global_orient=pose[0].astype(np.float32),
            transl=transl.astype(np.float32),
            body_pose=pose[1:22].astype(np.float32),
            betas=self._betas.astype(np.float32),
        )
        pelvis = np.full(3, np.nan) if self._pelvis is None else self._pelvis
        return moved(params, T_cam_world, pelvis)

    def mesh(self, i: int, T_cam_world: Array) -> tuple[Array, Array] | None:
        """Return joints (24, 3) and vertices (6890, 3) [m] of frame i in the camera frame; None without SMPL."""
        if self._smpl is None:
            return None
        # Turned before it is posed, in float64: sets put people tens of metres from their world's origin.
        pose = self._poses[i].reshape(24, 3).copy()
        pose[0] = rotmat_to_rotvec(T_cam_world[:3, :3] @ rotvec_to_rotmat(pose[0]))
        joints, vertices = self._smpl.pose(pose, self._betas, np.zeros(3))
        shift = transformed(self._pelvis + self._transl[i], T_cam_world) - self._pelvis  # type: ignore[operator]
        return (joints + shift).astype(np.float32), (vertices + shift).astype(np.float32)

    def fields(self, i: int, T_cam_world: Array) -> dict[str, Any]:
        """Return the fields of `ReferencePerson` that SMPL gives: params, joints, vertices, topology."""
        params = self.params(i, T_cam_world)
        joints, vertices = (None if params is None else self.mesh(i, T_cam_world)) or (None, None)
        topology = "" if params is None else "smpl"
        return {"params": params, "joints": joints, "vertices": vertices, "topology": topology}
