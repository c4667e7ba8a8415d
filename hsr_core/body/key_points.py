"""The 145 key points of EHM-s with SMPL-X and FLAME files: joints, face landmarks and named points on the skin.

from hsr_core.body import KEY_POINT_NAMES, KeyPoints, load_body
body = load_body("models/")
key_points = KeyPoints(body)                      # reads and checks the tables once
points = key_points(body.pose_one(params))        # (145, 3) [m]
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, MissingFile, ShapeError
from ..types import Array
from .base import PosedBody
from .joints import JOINT_NAMES, N_JOINTS, J
from .numbers_pickle import read_pickled_array
from .smplx_body import take

if TYPE_CHECKING:
    from .ehm import EhmBody

log = logging.getLogger(__name__)

N_LANDMARKS, N_CONTOUR, N_CONTOUR_ROWS = 51, 17, 79
LANDMARKS, CONTOUR, EXTRA = slice(55, 106), slice(106, 123), slice(123, 145)
"""Places of the face landmarks, of the points on the face's contour, and of the points on the skin."""

TABLES = ("lmk_faces_idx", "lmk_bary_coords", "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
"""The arrays of the SMPL-X file that place landmarks and contour."""

_FACE_NAMES = (
    *(f"right_brow{i}" for i in (1, 2, 3, 4, 5)),
    *(f"left_brow{i}" for i in (5, 4, 3, 2, 1)),
    *(f"nose_bridge{i}" for i in (1, 2, 3, 4)),
    *(f"nose_lower{i}" for i in (1, 2, 3, 4, 5)),  # from right to left
    *(f"right_eye{i}" for i in (1, 2, 3, 4, 5, 6)),
    *(f"left_eye{i}" for i in (4, 3, 2, 1, 6, 5)),
    *(f"mouth_outer{i}" for i in range(1, 13)),  # from the right corner over the top
    *(f"mouth_inner{i}" for i in range(1, 9)),
    *(f"right_contour{i}" for i in range(1, 9)),
    "chin",
    *(f"left_contour{i}" for i in range(8, 0, -1)),
)
_SIDE = (
    "big_toe", "ear", "eye", "heel", "index_tip", "middle_tip", "pinky_tip", "ring_tip", "small_toe", "thumb_tip",
)  # fmt: skip
_EXTRA_NAMES = ("head_top", *(f"left_{name}" for name in _SIDE), "nose", *(f"right_{name}" for name in _SIDE))

KEY_POINT_NAMES: tuple[str, ...] = (*JOINT_NAMES, *_FACE_NAMES, *_EXTRA_NAMES)
"""Names of the 145 points. `left_eye` and `right_eye` lie on the skin; the joints are `left_eye_smplhf`, ..."""

HEAD_TOP = ((9003, 2133, 2132), (0.827734, 0.142220, 0.030046))
"""Vertices and weights of the head's top, the one extra point that is not a vertex."""

J14_ROWS: dict[int, int] = {4: 4, 5: 1, 12: 12, 15: 13, 16: 9, 17: 8, 18: 10, 19: 7, 20: 11, 21: 6}
"""Joint -> row of the J14 regressor that replaces it: knees, neck, head, shoulders, elbows, wrists."""

_FIXED = np.r_[LANDMARKS, EXTRA]
_REPLACED = np.array(list(J14_ROWS))


@dataclass(frozen=True, eq=False)
class KeyPointFiles:
    """What a licensed model folder holds for key points; read and checked when `KeyPoints` is made.

    Attributes:
        smplx: The SMPL-X file. tables: Those of `TABLES` that are in it.
        j14: `SMPLX_to_J14.pkl`, or None.
    """

    smplx: Path
    tables: Mapping[str, Any]
    j14: Path | None


class KeyPoints:
    """Key points of one licensed body: 55 joints, 51 face landmarks, 17 contour points, 22 points on the skin.

    With `SMPLX_to_J14.pkl` the ten joints of `J14_ROWS` are regressed from the skin, as in the published layer, up to
    some centimetres from the kinematic joints; without it they stay the kinematic joints, which is logged. For
    frames and joint states take the joints of `PosedBody`.

    Attributes:
        has_j14: Whether those ten are regressed from the skin.

    Args:
        body: A body from SMPL-X and FLAME files.

    Raises:
        MissingFile: The open body, whose mesh is not SMPL-X's.
        BadFile: A table is missing, has another shape, or names triangles that do not exist.

    Source:
        The published EHM-s layer, and SMPLify-X (Pavlakos et al. 2019) for the contour. Differs from the former in the
        contour, where that looks up an unrelated row.
    """

    def __init__(self, body: EhmBody) -> None:
        files = body.key_point_files
        if files is None:
            raise MissingFile(
                f"key points are defined on the mesh of SMPL-X, not on {body.model_id}: load a folder with SMPL-X and "
                "FLAME files, or take the named vertices in body.surface_points"
            )
        missing = [name for name in TABLES if name not in files.tables]
        if missing:
            raise BadFile(
                f"{files.smplx} has no {', '.join(missing)}, which key points need: take the file as downloaded"
            )
        self._n_vertices = body.n_vertices
        landmarks = _corners(files, body.faces, "lmk", (N_LANDMARKS,))
        self._contour = _corners(files, body.faces, "dynamic_lmk", (N_CONTOUR_ROWS, N_CONTOUR))
        extra = _extra_corners(body.surface_points)
        self._fixed = tuple(np.concatenate(parts) for parts in zip(landmarks, extra, strict=True))
        self.has_j14 = files.j14 is not None
        if files.j14 is not None:
            self._regressed, self._regressor = _joint_regressor(files.j14, body.n_vertices)
        else:
            log.warning("SMPLX_to_J14.pkl is not there: knees, neck, head, shoulders, elbows and wrists among the key "
                        "points are the kinematic joints")  # fmt: skip

    def __call__(self, posed: PosedBody) -> Array:
        """Return the key points of a posed person, float32 (145, 3) [m], in the frame of `posed`.

        Raises:
            ShapeError: It was posed without vertices, or by another body.
        """
        vertices = posed.vertices
        if vertices is None or vertices.shape != (self._n_vertices, 3):
            got = "none" if vertices is None else vertices.shape
            raise ShapeError(f"key points need vertices of shape ({self._n_vertices}, 3), not {got}")
        points = np.empty((len(KEY_POINT_NAMES), 3), np.float32)
        points[:N_JOINTS] = posed.joints
        points[_FIXED] = _blend(vertices, *self._fixed)
        row = contour_row(posed.joint_rotmats[J["head"]])
        points[CONTOUR] = _blend(vertices, self._contour[0][row], self._contour[1][row])
        if self.has_j14:
            points[_REPLACED] = self._regressor @ vertices[self._regressed]
        return points


def contour_row(head_rotmat: Array) -> int:
    """Return the row of the contour tables for a head's global rotation: one row per degree about y.

    The contour is where the face ends as seen from the front, so it slides over the skin as the head turns: rows 0 to
    39 are 0 to 39 degrees, rows 40 to 78 are -1 to -39 degrees.
    """
    sine, cosine = head_rotmat[2, 0], np.hypot(head_rotmat[0, 0], head_rotmat[1, 0])
    y_deg = round(max(-39.0, min(39.0, float(np.degrees(np.arctan2(sine, cosine))))))
    return y_deg if y_deg >= 0 else 39 - y_deg


def _blend(vertices: Array, corners: NDArray[np.int64], weights: Array) -> Array:
    """Weighted means of three vertices each: corners (K, 3), weights (K, 3) -> (K, 3) [m]."""
    return np.einsum("kvc,kv->kc", vertices[corners], weights)


def _corners(
    files: KeyPointFiles, faces: NDArray[np.int32], prefix: str, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], Array]:
    """Return vertex ids and weights, both (*shape, 3), of a pair of tables."""
    name, bary = f"{prefix}_faces_idx", f"{prefix}_bary_coords"
    triangles = take(files.tables, name, shape, files.smplx, kind=np.int64)
    if triangles.min() < 0 or triangles.max() >= len(faces):
        raise BadFile(f"{files.smplx}: {name} must name triangles 0..{len(faces) - 1}")
    weights = take(files.tables, bary, (*shape, 3), files.smplx)
    _check_sums(weights, bary, files.smplx)
    return faces[triangles].astype(np.int64), weights


def _extra_corners(surface_points: dict[str, int]) -> tuple[NDArray[np.int64], Array]:
    corners = np.repeat([[surface_points[name]] for name in _EXTRA_NAMES], 3, axis=1)
    weights = np.tile(np.array([1, 0, 0], np.float32), (len(corners), 1))
    corners[0], weights[0] = HEAD_TOP
    return corners, weights


def read_j14(path: Path, n_vertices: int) -> Array:
    """Read a J14 regressor (14, n_vertices): SMPL-X vertices to joints.

    Raises:
        BadFile: It is torn, of another shape, or its rows do not sum to one.
    """
    rows = take({path.name: read_pickled_array(path)}, path.name, (14, n_vertices), path)
    _check_sums(rows, "a joint", path)
    return rows


def _joint_regressor(path: Path, n_vertices: int) -> tuple[NDArray[np.int64], Array]:
    """Return the vertices that the ten rows look at, and the rows restricted to them."""
    rows = read_j14(path, n_vertices)[list(J14_ROWS.values())]
    regressed = np.flatnonzero(rows.any(axis=0))
    return regressed, np.ascontiguousarray(rows[:, regressed])


def _check_sums(weights: Array, name: str, where: Path) -> None:
    """Weights that do not sum to one would give points that depend on where the camera is."""
    worst = np.abs(weights.sum(axis=-1, dtype=np.float64) - 1).max()
    if worst > 1e-2:
        raise BadFile(f"{where}: the weights of {name} must sum to one, one is off by {worst:.3g}")


assert len(KEY_POINT_NAMES) == 145
