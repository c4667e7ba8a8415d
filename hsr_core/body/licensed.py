"""Find and read the licensed files as they are downloaded: SMPL-X 2020, FLAME 2020, and what joins the two."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFile, MissingFile
from ..types import Array
from .files import EhmFiles
from .flame_head import HeadPart, head_part, vertex_set
from .joints import N_JOINTS
from .key_points import TABLES, KeyPointFiles, read_j14
from .numbers_pickle import read_pickle
from .smplx_body import SkinnedMesh, check_faces, check_tree, read_npz, skinned_mesh, take

log = logging.getLogger(__name__)

N_SMPLX_VERTICES, N_FLAME_VERTICES = 10475, 5023
N_COLUMNS = 400
N_BETAS, N_EXPRESSION = 200, 50
"""What EHM-s uses of SMPL-X's 300 shape and 100 expression components."""
N_HEAD_BETAS, N_HEAD_EXPRESSION = 300, 50

LICENCE_NOTE = (
    "SMPL-X and FLAME, Max Planck Society: for non-commercial research only; the files and their topology must not be "
    "passed on."
)

SURFACE_POINTS = {
    "head_top": 9003, "nose": 9120,
    "left_eye": 9448, "right_eye": 9929, "left_ear": 6, "right_ear": 616,
    "left_big_toe": 5770, "right_big_toe": 8463, "left_small_toe": 5780, "right_small_toe": 8474,
    "left_heel": 8846, "right_heel": 8635,
    "left_index_tip": 4933, "right_index_tip": 7669, "left_middle_tip": 5058, "right_middle_tip": 7794,
    "left_pinky_tip": 5286, "right_pinky_tip": 8022, "left_ring_tip": 5169, "right_ring_tip": 7905,
    "left_thumb_tip": 5361, "right_thumb_tip": 8079,
}  # fmt: skip
"""SMPL-X vertex ids; the head's top is the heaviest corner of its barycentric point."""


@dataclass(frozen=True)
class _Wanted:
    """One file: where it may lie below the folder, where it comes from, and what its lack means."""

    name: str
    places: tuple[str, ...]
    source: str

    def find(self, folder: Path) -> Path | None:
        return next((folder / place for place in self.places if (folder / place).is_file()), None)


def _places(name: str, *folders: str) -> tuple[str, ...]:
    return (name, *(f"{folder}/{name}" for folder in folders))


SMPLX_FILE = _Wanted(
    "SMPLX_NEUTRAL_2020.npz",
    _places("SMPLX_NEUTRAL_2020.npz", "SMPLX", "smplx"),
    "register at https://smpl-x.is.tue.mpg.de and download the SMPL-X 2020 model (not v1.1)",
)
FLAME_FILE = _Wanted(
    "generic_model.pkl",
    (*_places("generic_model.pkl", "FLAME/FLAME2020", "FLAME2020", "FLAME", "flame"), "SMPLX/flame_generic_model.pkl"),
    "register at https://flame.is.tue.mpg.de and download FLAME 2020",
)
IDS_FILE = _Wanted(
    "SMPL-X__FLAME_vertex_ids.npy",
    _places("SMPL-X__FLAME_vertex_ids.npy", "SMPLX", "FLAME", "FLAME/FLAME2020", "smplx"),
    "register at https://smpl-x.is.tue.mpg.de and download the MANO and FLAME vertex indices",
)
MASKS_FILE = _Wanted(
    "FLAME_masks.pkl",
    _places("FLAME_masks.pkl", "FLAME", "FLAME/FLAME2020", "FLAME2020", "flame"),
    "register at https://flame.is.tue.mpg.de and download the FLAME vertex masks",
)
LID_FILES = tuple(
    _Wanted(name, _places(name, "FLAME", "FLAME/FLAME2020", "FLAME2020", "flame", "SMPLX"), "")
    for name in ("l_eyelid.npy", "r_eyelid.npy")
)
J14_FILE = _Wanted("SMPLX_to_J14.pkl", _places("SMPLX_to_J14.pkl", "SMPLX", "smplx"), "")
_NEEDED = (SMPLX_FILE, FLAME_FILE, IDS_FILE, MASKS_FILE)


def licensed_body_files(folder: str | os.PathLike[str]) -> EhmFiles:
    """Read SMPL-X and FLAME from a folder: flat, or with the subfolders SMPLX and FLAME/FLAME2020.

    Without the eyelid files the lids do not move, which is logged once; everything else must be there.

    Raises:
        MissingFile: The folder or a needed file is not there; the message says where to get it and where to put it.
        BadFile: A file is torn, not finite, or of another model version.
    """
    root = Path(folder).expanduser()
    paths = {wanted: wanted.find(root) for wanted in _NEEDED}
    missing = [wanted for wanted, path in paths.items() if path is None]
    if missing:
        state = "" if root.is_dir() else ", which does not exist"
        lines = [f"  {wanted.name}: {wanted.source}; put it at {root / wanted.name}" for wanted in missing]
        hint = "or leave body_model.path and HSR_BODY_MODELS empty for the open body"
        raise MissingFile("\n".join([f"{len(missing)} body model file(s) missing in {root}{state}:", *lines, hint]))
    smplx = read_npz(paths[SMPLX_FILE])
    body = _smplx_mesh(smplx, paths[SMPLX_FILE])
    return EhmFiles(
        body=body,
        head=_flame_head(paths, root),
        faces=check_faces(smplx, N_SMPLX_VERTICES, paths[SMPLX_FILE]),
        family="EHMS",
        model_id=f"ehms-{_hash([*paths.values(), *filter(None, (lid.find(root) for lid in LID_FILES))])}",
        licence_note=LICENCE_NOTE,
        surface_points=dict(SURFACE_POINTS),
        key_points=KeyPointFiles(
            paths[SMPLX_FILE], {name: smplx[name] for name in TABLES if name in smplx}, J14_FILE.find(root)
        ),
    )


def joint_regressor_14(folder: str | os.PathLike[str]) -> Array | None:
    """Return the J14 regressor (14, 10475) of a folder of body models, None without the file.

    Raises:
        BadFile: As `read_j14`.
    """
    path = J14_FILE.find(Path(folder).expanduser())
    return None if path is None else read_j14(path, N_SMPLX_VERTICES)


def _smplx_mesh(data: dict[str, Any], path: Path) -> SkinnedMesh:
    n = np.shape(data.get("v_template", ()))[:1]
    if n and n[0] != N_SMPLX_VERTICES:
        raise BadFile(f"{path} has {n[0]} vertices, SMPL-X has {N_SMPLX_VERTICES}: this is another body model")
    columns = np.shape(data.get("shapedirs", ()))[2:]
    if columns and columns[0] != N_COLUMNS:
        raise BadFile(
            f"{path}: shapedirs has {columns[0]} columns, not {N_COLUMNS} (300 shape, 100 expression). SMPL-X v1.1 and "
            f"the locked head have other shape spaces, and some copies are cut: {SMPLX_FILE.source}"
        )
    mesh = skinned_mesh(
        data, path, n_vertices=N_SMPLX_VERTICES, n_joints=N_JOINTS, shape=slice(0, N_BETAS),
        expression=slice(300, 300 + N_EXPRESSION), columns=N_COLUMNS,
    )  # fmt: skip
    check_tree(mesh.parents, path)
    return mesh


def _flame_head(paths: dict[_Wanted, Path], root: Path) -> HeadPart:
    path = paths[FLAME_FILE]
    data = read_pickle(path)
    if np.shape(data.get("v_template", ())) != (N_FLAME_VERTICES, 3):
        raise BadFile(f"{path}: v_template must have shape ({N_FLAME_VERTICES}, 3): {FLAME_FILE.source}")
    masks = read_pickle(paths[MASKS_FILE])
    for name in ("neck", "boundary"):
        if name not in masks:
            raise BadFile(f"{paths[MASKS_FILE]} has no mask {name!r}; it holds {', '.join(sorted(masks))}")
    ids = {IDS_FILE.name: _read_npy(paths[IDS_FILE])}
    take(ids, IDS_FILE.name, (N_FLAME_VERTICES,), paths[IDS_FILE])
    # Each is checked by the name of its own file before all are put together.
    data["vertex_ids"] = vertex_set(ids, IDS_FILE.name, N_SMPLX_VERTICES, paths[IDS_FILE])
    for name in ("neck", "boundary"):
        data[name] = vertex_set(masks, name, N_FLAME_VERTICES, paths[MASKS_FILE])
    for wanted in LID_FILES:
        data[wanted.name.removesuffix(".npy")] = _lid(wanted, root)
    return head_part(
        data, path, n_body_vertices=N_SMPLX_VERTICES, shape=slice(0, N_HEAD_BETAS),
        expression=slice(300, 300 + N_HEAD_EXPRESSION), columns=N_COLUMNS,
    )  # fmt: skip


def _lid(wanted: _Wanted, root: Path) -> Array:
    path = wanted.find(root)
    if path is None:
        log.warning("%s is not in %s: this eyelid does not move", wanted.name, root)
        return np.zeros((N_FLAME_VERTICES, 3), np.float32)
    return take({wanted.name: _read_npy(path)}, wanted.name, (N_FLAME_VERTICES, 3), path)


def _read_npy(path: Path) -> Array:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadFile(f"{path} is truncated or not an npy ({error}); download it again") from error


def _hash(paths: Sequence[Path]) -> str:
    """Return a hash of the files' contents."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
