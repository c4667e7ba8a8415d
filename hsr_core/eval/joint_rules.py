"""Which joints a protocol scores and which point it calls the pelvis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadFile, ConfigError, MissingFile, ShapeError
from ..runtime.engine_cache import file_sha256
from ..types import Array

H36M_14_ROWS = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)
"""Rows of the 17-joint H36M regressor, in the order in which 3DPW and H36M tables use them: `joint_sets.J14`."""


@dataclass(frozen=True)
class Pelvis:
    """A named rule for the pelvis: the mean of some joints.

    Attributes:
        name: Goes into the protocol record.
        indices: Of the joints, in the protocol's joint table.
    """

    name: str
    indices: tuple[int, ...]


SMPL_PELVIS = Pelvis("smpl-joint-0", (0,))
"""The body model's own root: 3DPW challenge with 24 joints, our 22 body joints."""

EMDB_PELVIS = Pelvis("mean-of-smpl-joints-1-2", (1, 2))
"""The hips of SMPL's 24 joints: EMDB."""


def hip_midpoint(joint_names: Sequence[str]) -> Pelvis:
    """Return the rule of the 14-joint tables of 3DPW (WHAM's and GVHMR's lineage) and of limb-12.

    Raises:
        ConfigError: The table has no hips; the message lists what it has.
    """
    missing = {"left_hip", "right_hip"} - set(joint_names)
    if missing:
        raise ConfigError(f"no {' and '.join(sorted(missing))} for the pelvis among {', '.join(joint_names)}")
    return Pelvis("midpoint-of-hips", (joint_names.index("left_hip"), joint_names.index("right_hip")))


def regressor_row(row: int) -> Pelvis:
    """Return the rule of HMR2.0's script: one row of the regressor is the pelvis."""
    return Pelvis(f"regressor-row-{row}", (row,))


@dataclass(frozen=True, eq=False)
class JointRegressor:
    """Joints as weighted means of vertices.

    Attributes:
        matrix: (J, V). sha256: Of the file, for the protocol record.
    """

    matrix: Array
    sha256: str

    @classmethod
    def load(cls, path: Path) -> JointRegressor:
        """Read a `.npy`, or an `.npz` with one array.

        Raises:
            MissingFile: No such file.
            BadFile: Not one matrix of numbers.
        """
        if not path.is_file():
            raise MissingFile(f"no joint regressor {path}; give a .npy of shape (joints, vertices)")
        try:
            loaded = np.load(path, allow_pickle=False)
            matrix = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
        except (ValueError, OSError, EOFError, IndexError) as error:
            raise BadFile(f"{path} is not a numpy array without pickled objects: {error}") from error
        if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.number):
            raise BadFile(f"{path} holds {matrix.dtype} {matrix.shape}, not a matrix (joints, vertices)")
        return cls(matrix.astype(np.float64), file_sha256(path))

    def joints(self, vertices: Array) -> Array:
        """Return all joints. (..., V, 3) -> (..., J, 3)."""
        if np.shape(vertices)[-2:] != (self.matrix.shape[1], 3):
            raise ShapeError(f"the regressor takes (..., {self.matrix.shape[1]}, 3), not {np.shape(vertices)}")
        return np.einsum("jv,...vk->...jk", self.matrix, vertices)


def h36m_14(regressor: JointRegressor, vertices: Array) -> Array:
    """Return the 14 joints of `joint_sets.J14` out of SMPL vertices. (..., 6890, 3) -> (..., 14, 3).

    The reference is regressed from the *gendered* reference mesh; the prediction is neutral.
    """
    if len(regressor.matrix) != 17:
        raise ShapeError(f"the 14-joint rule needs the 17-row H36M regressor, not {regressor.matrix.shape}")
    return regressor.joints(vertices)[..., list(H36M_14_ROWS), :]
