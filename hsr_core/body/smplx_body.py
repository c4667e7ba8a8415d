"""The body's template: reading and checking SMPL-X files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile
from ..types import Array
from .joints import N_JOINTS, PARENTS
from .numbers_pickle import read_object_array


@dataclass(frozen=True, eq=False)
class SkinnedMesh:
    """A template with shape, expression and pose bases, joints and skinning weights; float32 numpy.

    Attributes:
        v_template: (V, 3) [m]. shapedirs: (V, 3, S). exprdirs: (V, 3, E).
        posedirs: (V, 3, 9 (J - 1)), or (V, 3, 0) for a model without pose blend shapes.
        J_regressor: (J, V), rows sum to one. parents: J numbers, -1 first. weights: (V, J), rows sum to one.
    """

    v_template: Array
    shapedirs: Array
    exprdirs: Array
    posedirs: Array
    J_regressor: Array
    parents: tuple[int, ...]
    weights: Array


def read_npz(path: Path) -> dict[str, Any]:
    """Read an npz without unpickling at large.

    Of object arrays only `J_regressor` is read, which some files keep as a scipy sparse matrix; the others (name
    tables) are left out.

    Raises:
        BadFile: Truncated or not an npz.
    """
    out: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as data:
            for name in data.files:
                try:
                    out[name] = data[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    if name == "J_regressor":
                        with data.zip.open(f"{name}.npy") as file:
                            out[name] = read_object_array(file)
    except (ValueError, EOFError, OSError, AttributeError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise BadFile(f"{path} is truncated or not an npz ({error}); get it again") from error
    return out


def take(
    data: Mapping[str, Any], name: str, shape: tuple[int | None, ...], where: Path, *, kind: type = np.float32
) -> Array:
    """Return one array of a model file after checking it; None in `shape` means any length.

    Raises:
        BadFile: The array is missing, has another shape, or is not finite.
    """
    if name not in data:
        raise BadFile(f"{where} has no array {name!r}; it holds {', '.join(sorted(data))}")
    value = data[name]
    value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    if value.dtype.kind not in "iuf":
        raise BadFile(f"{where}: {name} must hold numbers, not {value.dtype}")
    fits = value.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=False))
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise BadFile(f"{where}: {name} must have shape {wanted}, not {value.shape}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise BadFile(f"{where}: {name} holds values that are not finite; download it again")
    return np.ascontiguousarray(value.astype(kind))


def read_parents(data: Mapping[str, Any], n_joints: int, where: Path) -> tuple[int, ...]:
    """Return the kinematic tree; the root's entry is any number that is no joint (-1, or 2^32 - 1 in the files)."""
    table = take(data, "kintree_table", (2, n_joints), where, kind=np.int64)[0]
    parents = (-1, *(int(p) for p in table[1:]))
    if any(not 0 <= p < j for j, p in enumerate(parents) if j):
        raise BadFile(f"{where}: kintree_table must list every parent before its children, it has {parents}")
    return parents


def skinned_mesh(
    data: Mapping[str, Any],
    where: Path,
    *,
    n_vertices: int,
    n_joints: int,
    shape: slice,
    expression: slice,
    columns: int,
) -> SkinnedMesh:
    """Check and split the arrays that SMPL-X and FLAME files share.

    Raises:
        BadFile: As `take`; also when regressor rows or skinning weights do not sum to one.
    """
    n_pose = 9 * (n_joints - 1)
    dirs = take(data, "shapedirs", (n_vertices, 3, columns), where)
    posedirs = take(data, "posedirs", (n_vertices, 3, None), where)
    if posedirs.shape[2] not in (0, n_pose):
        raise BadFile(f"{where}: posedirs must have {n_pose} columns, not {posedirs.shape[2]}")
    mesh = SkinnedMesh(
        v_template=take(data, "v_template", (n_vertices, 3), where),
        shapedirs=np.ascontiguousarray(dirs[:, :, shape]),
        exprdirs=np.ascontiguousarray(dirs[:, :, expression]),
        posedirs=posedirs,
        J_regressor=take(data, "J_regressor", (n_joints, n_vertices), where),
        parents=read_parents(data, n_joints, where),
        weights=take(data, "weights", (n_vertices, n_joints), where),
    )
    for name, rows in (("J_regressor", mesh.J_regressor), ("weights", mesh.weights)):
        worst = np.abs(rows.sum(axis=1, dtype=np.float64) - 1).max()
        if worst > 1e-2:
            raise BadFile(f"{where}: rows of {name} must sum to one, one is off by {worst:.3g}")
    return mesh


def check_faces(data: Mapping[str, Any], n_vertices: int, where: Path) -> NDArray[np.int32]:
    """Return the triangles (F, 3) int32 after checking that they name existing vertices."""
    faces = take(data, "f", (None, 3), where, kind=np.int64)
    if faces.size == 0 or faces.min() < 0 or faces.max() >= n_vertices:
        raise BadFile(f"{where}: f must name vertices 0..{n_vertices - 1}")
    return faces.astype(np.int32)


def check_tree(parents: tuple[int, ...], where: Path) -> None:
    """Raise BadFile unless the joints are SMPL-X's 55."""
    if len(parents) != N_JOINTS or parents != PARENTS:
        raise BadFile(f"{where}: the kinematic tree is not that of SMPL-X's 55 joints")
