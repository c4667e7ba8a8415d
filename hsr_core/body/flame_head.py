"""The head part: FLAME's files, or the open body's own, and the stored masks that say where it is grafted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile
from ..types import Array
from .smplx_body import SkinnedMesh, skinned_mesh, take

JAW, LEFT_EYE, RIGHT_EYE = 2, 3, 4
N_HEAD_JOINTS = 5


@dataclass(frozen=True, eq=False)
class HeadPart:
    """A head that is shaped and posed by itself, then put into the body's template.

    Attributes:
        mesh: N vertices, 5 joints: root, neck, jaw, left eye, right eye.
        vertex_ids: (N,) the body vertex that each head vertex stands for.
        kept: (K,) head vertices that are not grafted: the neck and its rim keep the body's places.
        lids: (2, N, 3) displacement of the closed left and right lid [m].
        from_actions: (E, A) map from strengths of named facial actions to expression coefficients, or None.
        action_names: The A names.
    """

    mesh: SkinnedMesh
    vertex_ids: NDArray[np.int64]
    kept: NDArray[np.int64]
    lids: Array
    from_actions: Array | None = None
    action_names: tuple[str, ...] = ()

    @property
    def grafted(self) -> NDArray[np.int64]:
        """Head vertices that replace the body's, in rising order."""
        return np.setdiff1d(np.arange(len(self.vertex_ids)), self.kept)


def head_part(
    data: Mapping[str, Any], where: Path, *, n_body_vertices: int, shape: slice, expression: slice, columns: int
) -> HeadPart:
    """Check the arrays of a head file (with ids, masks and lids already in `data`) and put them together.

    Raises:
        BadFile: An array is missing, has another shape, or names vertices that do not exist.
    """
    n = len(data["v_template"])
    ids = vertex_set(data, "vertex_ids", n_body_vertices, where)
    if len(ids) != n:
        raise BadFile(f"{where}: vertex_ids must name one body vertex for each of {n} head vertices, not {len(ids)}")
    kept = np.union1d(vertex_set(data, "neck", n, where), vertex_set(data, "boundary", n, where))
    mesh = skinned_mesh(
        data, where, n_vertices=n, n_joints=N_HEAD_JOINTS, shape=shape, expression=expression, columns=columns
    )
    if mesh.parents != (-1, 0, 1, 1, 1):
        raise BadFile(f"{where}: the head's tree must be root, neck, jaw, left eye, right eye; it is {mesh.parents}")
    lids = np.stack([take(data, name, (n, 3), where) for name in ("l_eyelid", "r_eyelid")])
    matrix = take(data, "expression_from_actions", (None, None), where) if "expression_from_actions" in data else None
    names = tuple(str(name) for name in data.get("action_names", ()))
    return HeadPart(mesh, ids, kept, lids, matrix, names)


def vertex_set(data: Mapping[str, Any], name: str, n: int, where: Path) -> NDArray[np.int64]:
    """Return distinct vertex ids in 0..n-1, in the order of the file.

    Raises:
        BadFile: An id is repeated or out of range, or the array is missing.
    """
    ids = take(data, name, (None,), where, kind=np.int64)
    if ids.size == 0 or ids.min() < 0 or ids.max() >= n or len(np.unique(ids)) != len(ids):
        raise BadFile(f"{where}: {name} must hold different vertex ids in 0..{n - 1}")
    return ids
