"""The per-frame path of EHM-s in numpy: one person, everything that can be kept from frame to frame is kept.

Arrays are laid out coordinate first, (3, V), so that every step is a few passes over contiguous rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..geometry.rotations import rotvec_to_rotmat
from ..types import Array, HumanParams
from .base import PosedBody
from .flame_head import JAW, LEFT_EYE, RIGHT_EYE
from .joints import BODY as BODY_JOINTS
from .joints import LEFT_EYE as BODY_LEFT_EYE
from .joints import LEFT_HAND, N_JOINTS, RIGHT_HAND
from .joints import RIGHT_EYE as BODY_RIGHT_EYE
from .smplx_body import SkinnedMesh

if TYPE_CHECKING:
    from .files import EhmFiles

_EYE3 = np.eye(3, dtype=np.float32)
HEIGHT_TOLERANCE_M = 1e-4


def _levels(parents: tuple[int, ...]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Group joints by their depth in the tree: (joints, their parents), root left out."""
    depth = [0] * len(parents)
    for j, parent in enumerate(parents[1:], start=1):
        depth[j] = depth[parent] + 1
    levels = []
    for d in range(1, max(depth) + 1):
        joints = np.array([j for j in range(len(parents)) if depth[j] == d])
        levels.append((joints, np.array([parents[j] for j in joints])))
    return levels


class _Mesh:
    """One `SkinnedMesh`, laid out coordinate first."""

    def __init__(self, mesh: SkinnedMesh) -> None:
        self.template = np.ascontiguousarray(mesh.v_template.T)
        self.shapedirs = self._rows(mesh.shapedirs)
        self.exprdirs = self._rows(mesh.exprdirs)
        self.posedirs = self._rows(mesh.posedirs) if mesh.posedirs.any() else None
        self.weights = np.ascontiguousarray(mesh.weights.T)
        self.regressed = np.flatnonzero(mesh.J_regressor.any(axis=0))
        self.regressor = np.ascontiguousarray(mesh.J_regressor[:, self.regressed])
        self.levels = _levels(mesh.parents)

    @staticmethod
    def _rows(dirs: Array) -> Array:
        """(V, 3, n) -> (n, 3 V) with the coordinate outermost."""
        return np.ascontiguousarray(dirs.transpose(2, 1, 0).reshape(dirs.shape[2], 3 * len(dirs)))

    def shaped(self, betas: Array, expression: Array) -> Array:
        """Return (3, V) [m]."""
        out = self.template.copy()
        flat = out.reshape(-1)
        for rows, values in ((self.shapedirs, betas), (self.exprdirs, expression)):
            if np.any(values):
                flat += np.asarray(values, np.float32) @ rows[: len(values)]
        return out

    def joints(self, vertices: Array) -> Array:
        """(3, V) -> (J, 3) [m]."""
        return self.regressor @ vertices[:, self.regressed].T

    def chain(self, rotmats: Array, joints: Array) -> tuple[Array, Array]:
        """Forward kinematics, one depth of the tree at a time: global rotations and posed joints."""
        rotations, places = rotmats.copy(), joints.copy()
        for at, parent in self.levels:
            rotations[at] = rotations[parent] @ rotmats[at]
            offset = (joints[at] - joints[parent])[..., None]
            places[at] = places[parent] + (rotations[parent] @ offset)[..., 0]
        return rotations, places

    def pose_offsets(self, rotmats: Array) -> Array | None:
        """Return the pose blend shapes' displacement (3 V,), or None when it is zero.

        The product is bound by reading the basis: rows of joints that are still are not read, and runs of turned
        joints are taken as views.
        """
        if self.posedirs is None:
            return None
        feature = (rotmats[1:] - _EYE3).reshape(-1)
        turned = np.flatnonzero(feature.reshape(-1, 9).any(axis=1))
        out = None
        for run in np.split(turned, np.flatnonzero(np.diff(turned) > 1) + 1):
            if run.size:
                rows = slice(9 * run[0], 9 * run[-1] + 9)
                part = feature[rows] @ self.posedirs[rows]
                out = part if out is None else out + part
        return out


def _motions(rotations: Array, places: Array, joints: Array) -> Array:
    """Return each joint's motion of the rest mesh as a (12, J) matrix: rows of [R | t], one column per joint."""
    shift = places - (rotations @ joints[..., None])[..., 0]
    return np.ascontiguousarray(np.concatenate([rotations, shift[..., None]], axis=-1).reshape(len(joints), 12).T)


def _blend(weights: Array, motions: Array, vertices: Array, scratch: Array) -> Array:
    """Skin (3, V) vertices: one matrix product for the blended motions, then row operations. Returns (3, V)."""
    blended = np.matmul(motions, weights, out=scratch)
    x, y, z = vertices
    out = np.empty_like(vertices)
    for i in range(3):
        a, b, c, t = blended[4 * i : 4 * i + 4]
        a *= x
        b *= y
        c *= z
        a += b
        a += c
        np.add(a, t, out=out[i])
    return out


class _Kept:
    """One remembered value and the bytes it was made from."""

    def __init__(self) -> None:
        self.key: tuple[bytes, ...] | None = None
        self.value: tuple[Array, ...] = ()


def _key(*arrays: Array) -> tuple[bytes, ...]:
    return tuple(np.ascontiguousarray(a).tobytes() for a in arrays)


class FramePath:
    """`EhmBody.pose_one`, `rest` and `stature`. Not thread safe: it reuses its buffers."""

    def __init__(self, files: EhmFiles) -> None:
        head = files.head
        self.body, self.head = _Mesh(files.body), _Mesh(head.mesh)
        self.lids = np.ascontiguousarray(head.lids.transpose(0, 2, 1))  # (2, 3, N)
        self.from_head = head.grafted
        self.into = head.vertex_ids[self.from_head]
        self.scratch = np.empty((12, self.body.template.shape[1]), np.float32)
        self.head_scratch = np.empty((12, self.head.template.shape[1]), np.float32)
        self._body, self._head, self._posed_head, self._graft = _Kept(), _Kept(), _Kept(), _Kept()

    # Each of the four stages is made again only when what it is made from has changed.

    def _shaped_body(self, p: HumanParams) -> tuple[Array, Array]:
        key = _key(p.betas, p.expression)
        if self._body.key != key:
            shaped = self.body.shaped(p.betas, p.expression)
            eyes = self.body.joints(shaped)[[BODY_LEFT_EYE, BODY_RIGHT_EYE]].mean(axis=0)
            self._body.key, self._body.value = key, (shaped, eyes)
        return self._body.value

    def _shaped_head(self, p: HumanParams) -> tuple[Array, Array]:
        key = _key(p.head_betas, p.head_expression)
        if self._head.key != key:
            shaped = self.head.shaped(p.head_betas, p.head_expression)
            self._head.key, self._head.value = key, (shaped, self.head.joints(shaped))
        return self._head.value

    def _pose_head(self, p: HumanParams) -> tuple[Array, Array]:
        """Return the posed, scaled head (3, N) and the midpoint between its (unscaled) eyes."""
        shaped, joints = self._shaped_head(p)
        key = (*self._head.key, *_key(p.jaw_pose, p.leye_pose, p.reye_pose, p.eyelids, p.head_scale))
        if self._posed_head.key == key:
            return self._posed_head.value
        vertices = shaped
        turns = np.zeros((len(joints), 3), np.float32)
        turns[JAW], turns[LEFT_EYE], turns[RIGHT_EYE] = p.jaw_pose, p.leye_pose, p.reye_pose
        if turns.any():
            rotmats = rotvec_to_rotmat(turns)
            rotations, places = self.head.chain(rotmats, joints)
            offsets = self.head.pose_offsets(rotmats)
            if offsets is not None:
                vertices = vertices + offsets.reshape(3, -1)
            motions = _motions(rotations, places, joints)
            vertices = _blend(self.head.weights, motions, vertices, self.head_scratch)
            joints = places
        if np.any(p.eyelids):
            vertices = vertices + np.tensordot(np.asarray(p.eyelids, np.float32), self.lids, 1)
        if np.any(np.asarray(p.head_scale) != 1):
            vertices = vertices * np.asarray(p.head_scale, np.float32)[:, None]
        eyes = joints[[LEFT_EYE, RIGHT_EYE]].mean(axis=0)
        self._posed_head.key, self._posed_head.value = key, (vertices, eyes)
        return self._posed_head.value

    def _grafted(self, p: HumanParams) -> tuple[Array, Array]:
        """Return the grafted template (3, V) and its joints (55, 3)."""
        shaped, eyes = self._shaped_body(p)
        head, head_eyes = self._pose_head(p)
        key = (*self._body.key, *self._posed_head.key)
        if self._graft.key != key:
            rest = shaped.copy()
            rest[:, self.into] = head[:, self.from_head] + (eyes - head_eyes)[:, None]
            self._graft.key, self._graft.value = key, (rest, self.body.joints(rest))
        return self._graft.value

    def rest(self, params: HumanParams) -> tuple[Array, Array]:
        vertices, joints = self._grafted(params)
        return np.ascontiguousarray(vertices.T), joints.copy()

    def pose(self, params: HumanParams, *, vertices: bool) -> PosedBody:
        rest, joints = self._grafted(params)
        turns = np.zeros((N_JOINTS, 3), np.float32)
        turns[0], turns[BODY_JOINTS] = params.global_orient, params.body_pose
        turns[LEFT_HAND], turns[RIGHT_HAND] = params.left_hand_pose, params.right_hand_pose
        rotmats = rotvec_to_rotmat(turns)
        rotations, places = self.body.chain(rotmats, joints)
        shift = np.asarray(params.transl, np.float32)
        if not vertices:
            return PosedBody(None, places + shift, rotations)
        offsets = self.body.pose_offsets(rotmats)
        if offsets is not None:
            rest = rest + offsets.reshape(3, -1)
        skinned = _blend(self.body.weights, _motions(rotations, places, joints), rest, self.scratch)
        skinned += shift[:, None]
        return PosedBody(np.ascontiguousarray(skinned.T), places + shift, rotations)

    # --- stature ------------------------------------------------------------------------------------------------

    def stature(self, betas: Array) -> tuple[float, int, int]:
        """Return the height [m] of the ungrafted template and its top and bottom vertices."""
        n = len(betas)
        y = self.body.template[1] + np.asarray(betas, np.float64) @ self._heights()[:n]
        top, sole = int(y.argmax()), int(y.argmin())
        return float(y[top] - y[sole]), top, sole

    def _heights(self) -> Array:
        """The y rows of the shape basis, (n, V)."""
        return self.body.shapedirs.reshape(len(self.body.shapedirs), 3, -1)[:, 1]

    def betas_for_height(self, height_m: float, betas: Array) -> Array:
        """Newton steps along the gradient of stature (of least change); top and sole may change their vertex."""
        if not (np.isfinite(height_m) and height_m > 0):
            raise ConfigError(f"a height must be positive metres, not {height_m}")
        betas = betas.copy()
        dirs = self._heights()[: len(betas)]
        for _ in range(50):
            height, top, sole = self.stature(betas)
            if abs(height - height_m) < HEIGHT_TOLERANCE_M:
                return betas.astype(np.float32)
            slope = (dirs[:, top] - dirs[:, sole]).astype(np.float64)
            if not slope @ slope > 0:
                break
            betas += slope * (height_m - height) / (slope @ slope)
        mean_m = self.stature(np.zeros(0))[0]
        raise ConfigError(f"this body has no shape {height_m:g} m tall; its betas of zero are {mean_m:.2f} m")
