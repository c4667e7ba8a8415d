"""SMPL from the user's licensed files: the body in which most references are published. Not a body of this library."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import BadFile, ShapeError
from ..geometry.rotations import rotvec_to_rotmat
from ..types import Array
from .numbers_pickle import read_pickle
from .skinning import ancestor_table, rigid_chain, skin
from .smplx_body import SkinnedMesh, read_npz, skinned_mesh

N_VERTICES, N_SMPL_JOINTS, N_BETAS = 6890, 24, 10

SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

FILE_NAMES: dict[str, tuple[str, ...]] = {
    "female": ("SMPL_FEMALE.npz", "SMPL_FEMALE.pkl", "basicmodel_f_lbs_10_207_0_v1.1.0.pkl",
               "basicModel_f_lbs_10_207_0_v1.0.0.pkl"),
    "male": ("SMPL_MALE.npz", "SMPL_MALE.pkl", "basicmodel_m_lbs_10_207_0_v1.1.0.pkl",
             "basicmodel_m_lbs_10_207_0_v1.0.0.pkl"),
    "neutral": ("SMPL_NEUTRAL.npz", "SMPL_NEUTRAL.pkl", "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
                "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
}  # fmt: skip
"""Names under which the files are in use, as downloaded and as commonly renamed."""

_FOLDERS = (".", "smpl", "SMPL", "smpl/models", "SMPL/models")


def find_smpl(folder: str | os.PathLike[str], gender: str) -> Path | None:
    """Return the SMPL file of a gender (female, male, neutral) in a folder of models, or None."""
    root = Path(folder).expanduser()
    places = (root / below / name for below in _FOLDERS for name in FILE_NAMES[gender])
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True, eq=False)
class Smpl:
    """SMPL of one gender; rotations about the pelvis, `transl` added after skinning."""

    mesh: SkinnedMesh

    @classmethod
    def read(cls, path: Path) -> Smpl:
        """Read a `.npz`, or a `.pkl` by the restricted reader.

        Raises:
            BadFile: It is torn, or no SMPL.
        """
        data = read_npz(path) if path.suffix == ".npz" else read_pickle(path)
        columns = np.shape(data.get("shapedirs", ()))[2:]
        if not columns or columns[0] < N_BETAS:
            raise BadFile(f"{path} is no SMPL: its shapedirs must have at least {N_BETAS} columns, it has {columns}")
        mesh = skinned_mesh(
            data, path, n_vertices=N_VERTICES, n_joints=N_SMPL_JOINTS, shape=slice(0, N_BETAS),
            expression=slice(0, 0), columns=columns[0],
        )  # fmt: skip
        if mesh.parents != SMPL_PARENTS:
            raise BadFile(f"{path}: the kinematic tree is not that of SMPL's {N_SMPL_JOINTS} joints")
        return cls(mesh)

    def rest(self, betas: Array) -> tuple[Array, Array]:
        """Return vertices (6890, 3) and joints (24, 3) [m] of a shape at rest."""
        betas = np.asarray(betas, np.float32).reshape(-1)[:N_BETAS]
        vertices = self.mesh.v_template + self.mesh.shapedirs[..., : len(betas)] @ betas
        return vertices, self.mesh.J_regressor @ vertices

    def pose(self, pose: Array, betas: Array, transl: Array) -> tuple[Array, Array]:
        """Return joints (24, 3) and vertices (6890, 3) [m], float32.

        Args:
            pose: Rotation vectors (24, 3) or (72,) [rad], the root first.
            betas: (n,), of which the first 10 count.
            transl: (3,) [m].

        Raises:
            ShapeError: `pose` has another size.

        Source:
            Loper et al., SMPL, 2015, eqs. (2) to (10).
        """
        if np.size(pose) != 3 * N_SMPL_JOINTS:
            raise ShapeError(f"an SMPL pose has {N_SMPL_JOINTS} rotation vectors, not shape {np.shape(pose)}")
        rotmats = rotvec_to_rotmat(np.asarray(pose, np.float64).reshape(N_SMPL_JOINTS, 3)).astype(np.float32)
        vertices, rest_joints = self.rest(betas)
        if self.mesh.posedirs.shape[2]:
            vertices = vertices + self.mesh.posedirs @ (rotmats[1:] - np.eye(3, dtype=np.float32)).ravel()
        at_rest = torch.from_numpy(rest_joints)[None]
        rotations, posed = rigid_chain(torch.from_numpy(rotmats)[None], at_rest, ancestor_table(SMPL_PARENTS))
        skinned = skin(
            torch.from_numpy(vertices)[None], torch.from_numpy(self.mesh.weights), rotations, posed, at_rest
        )  # fmt: skip
        transl = np.asarray(transl, np.float32)
        return posed[0].numpy() + transl, skinned[0].numpy() + transl
