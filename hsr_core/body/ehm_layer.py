"""EHM-s: a SMPL-X body whose head is a scaled FLAME head. The differentiable batch path.

Source:
    The PEAR paper (EHM-s, Algorithm 1) and GUAVA (EHM); SMPL (Loper et al. 2015) for skinning, SMPL-X (Pavlakos et
    al. 2019), FLAME (Li et al. 2017). Differs from the paper as the published implementation does: the neck and its
    rim keep the body's vertices, the anchor is the midpoint between the eyes, the scale acts about the head's origin.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import ShapeError
from ..types import Array, HumanParams
from .base import COEFFICIENTS, BodyOutput, EhmParams, check_lengths
from .files import EhmFiles
from .flame_head import LEFT_EYE, RIGHT_EYE, HeadPart
from .joints import LEFT_EYE as BODY_LEFT_EYE
from .joints import RIGHT_EYE as BODY_RIGHT_EYE
from .joints import J
from .skinning import ancestor_table, rigid_chain, skin
from .smplx_body import SkinnedMesh

_BODY_EYES = slice(BODY_LEFT_EYE, BODY_RIGHT_EYE + 1)
_JAW = J["jaw"]
_HEAD_EYES = slice(LEFT_EYE, RIGHT_EYE + 1)


def _rows(dirs: Array) -> torch.Tensor:
    """Lay a basis (V, 3, n) out as (n, 3 V), so that coefficients @ rows gives the displacement."""
    return torch.as_tensor(np.ascontiguousarray(dirs.reshape(3 * len(dirs), -1).T))


class _Part(nn.Module):
    """The buffers of one `SkinnedMesh`, restricted to some of its vertices.

    Indices are buffers too: nothing goes to the device during a forward pass, so that a CUDA graph can hold it.
    """

    def __init__(self, mesh: SkinnedMesh, vertices: NDArray[np.int64]) -> None:
        super().__init__()
        self.parents = mesh.parents
        self.register_buffer("ancestors", ancestor_table(mesh.parents))
        self.register_buffer("template", torch.as_tensor(mesh.v_template[vertices]))
        self.register_buffer("shapedirs", _rows(mesh.shapedirs[vertices]))
        self.register_buffer("exprdirs", _rows(mesh.exprdirs[vertices]))
        self.register_buffer("posedirs", _rows(mesh.posedirs[vertices]))
        regressor = mesh.J_regressor[:, vertices]
        regressed = np.flatnonzero(regressor.any(axis=0))
        self.register_buffer("regressed", torch.as_tensor(regressed))
        self.register_buffer("J_regressor", torch.as_tensor(regressor[:, regressed]))
        self.register_buffer("weights", torch.as_tensor(mesh.weights[vertices]))

    def shaped(self, betas: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        offset = betas @ self.shapedirs[: betas.shape[1]] + expression @ self.exprdirs[: expression.shape[1]]
        return self.template + offset.unflatten(1, (-1, 3))

    def joints(self, vertices: torch.Tensor) -> torch.Tensor:
        """Regress joints: (B, V, 3) -> (B, J, 3)."""
        return self.J_regressor @ vertices.index_select(1, self.regressed)

    def posed(
        self, vertices: torch.Tensor, joints: torch.Tensor, rotmats: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pose blend shapes, then skinning. Returns vertices, posed joints and global rotations."""
        rotations, places = rigid_chain(rotmats, joints, self.ancestors)
        if self.posedirs.shape[0]:
            feature = (rotmats[:, 1:] - torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)).flatten(1)
            vertices = vertices + (feature @ self.posedirs).unflatten(1, (-1, 3))
        return skin(vertices, self.weights, rotations, places, joints), places, rotations


class _Graft(nn.Module):
    """Shape both parts and put the posed head into the body: the steps before the body is posed."""

    def __init__(self, files: EhmFiles, body_vertices: NDArray[np.int64], head_vertices: NDArray[np.int64]) -> None:
        super().__init__()
        head = files.head
        self.body = _Part(files.body, body_vertices)
        self.head = _Part(head.mesh, head_vertices)
        self.register_buffer("lids", torch.as_tensor(head.lids[:, head_vertices]).flatten(1))
        place = {v: i for i, v in enumerate(body_vertices.tolist())}
        source = np.arange(len(body_vertices))
        for i, k in enumerate(head_vertices):
            if _is_grafted(head, k, place):
                source[place[head.vertex_ids[k]]] = len(body_vertices) + i
        self.register_buffer("source", torch.as_tensor(source))

    def forward(self, p: EhmParams) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the grafted template (B, V, 3) and its joints (B, J, 3), before the body is posed [m]."""
        h = self.head.shaped(p.head_betas, p.head_expression)
        h_joints = self.head.joints(h)
        h, h_joints, _ = self.head.posed(h, h_joints, _head_rotmats(p))
        h = (h + (p.eyelids @ self.lids).unflatten(1, (-1, 3))) * p.head_scale[:, None]
        b = self.body.shaped(p.betas, p.expression)
        b_joints = self.body.joints(b)
        anchor = b_joints[:, _BODY_EYES].mean(dim=1) - h_joints[:, _HEAD_EYES].mean(dim=1)
        b = torch.cat([b, h + anchor[:, None]], dim=1).index_select(1, self.source)
        return b, self.body.joints(b)


def _is_grafted(head: HeadPart, k: int, place: dict[int, int]) -> bool:
    return k not in head.kept and int(head.vertex_ids[k]) in place


def _head_rotmats(p: EhmParams) -> torch.Tensor:
    """Root and neck stay still: the body's neck and head joints turn the head."""
    still = torch.zeros_like(p.jaw_pose)
    return roma.rotvec_to_rotmat(torch.stack([still, still, p.jaw_pose, p.leye_pose, p.reye_pose], dim=1))


def _own_rotmats(p: EhmParams) -> torch.Tensor:
    parts = [p.global_orient[:, None], p.body_pose, p.left_hand_pose, p.right_hand_pose]
    return roma.rotvec_to_rotmat(torch.cat(parts, dim=1))


def _with_still_face(rotmats: torch.Tensor) -> torch.Tensor:
    """(B, 52, 3, 3) -> (B, 55, 3, 3): the body's jaw and eyes do not turn, the head part has moved them already."""
    still = torch.eye(3, dtype=rotmats.dtype, device=rotmats.device).expand(rotmats.shape[0], 3, 3, 3)
    return torch.cat([rotmats[:, :_JAW], still, rotmats[:, _JAW:]], dim=1)


class EhmLayer(nn.Module):
    """EHM-s parameters to vertices and joints. Nothing but tensors: copy it, move it, export it.

    `transl` is added after skinning; rotation is about the pelvis joint.

    Attributes:
        n_betas, n_expression, n_head_betas, n_head_expression: Numbers of coefficients.
    """

    def __init__(self, files: EhmFiles) -> None:
        super().__init__()
        self.model_id = files.model_id
        self.n_betas, self.n_expression, self.n_head_betas, self.n_head_expression = files.lengths
        everything = np.arange(len(files.body.v_template)), np.arange(len(files.head.vertex_ids))
        self.full = _Graft(files, *everything)
        self.few = _Graft(files, *_regressed_vertices(files))

    @property
    def n_vertices(self) -> int:
        return self.full.body.template.shape[0]

    def forward(self, params: EhmParams, *, rotmats: torch.Tensor | None = None, vertices: bool = True) -> BodyOutput:
        """Pose a batch.

        Args:
            params: On this module's device and in its dtype.
            rotmats: (B, 52, 3, 3) root, 21 body joints, 15 of the left and 15 of the right hand, relative to their
                parents, in place of the rotation vectors of `params`; jaw and eyes are always taken from there.
            vertices: False for the skeleton only: neither skinning nor pose blend shapes, and shaped vertices only
                where the joint regressors look.

        Raises:
            ShapeError: A parameter has the wrong shape, or more coefficients than the model.
        """
        self._check(params)
        rest, joints = (self.full if vertices else self.few)(params)
        rotmats = _with_still_face(_own_rotmats(params) if rotmats is None else rotmats)
        shift = params.transl[:, None]
        if vertices:
            skinned, places, rotations = self.full.body.posed(rest, joints, rotmats)
            return BodyOutput(skinned + shift, places + shift, rotations)
        rotations, places = rigid_chain(rotmats, joints, self.few.body.ancestors)
        return BodyOutput(None, places + shift, rotations)

    def _check(self, p: EhmParams) -> None:
        batch = p.batch
        for entry in fields(p):
            got = tuple(getattr(p, entry.name).shape)
            fixed = HumanParams.FIXED_SHAPES.get(entry.name)
            if got[:1] != (batch,) or (got[1:] != fixed if fixed else len(got) != 2):
                wanted = ", ".join(map(str, fixed or ("n",)))
                raise ShapeError(f"{entry.name} must have shape ({batch}, {wanted}), not {got}")
        check_lengths(self, {name: getattr(p, name).shape[1] for name in COEFFICIENTS})


def _regressed_vertices(files: EhmFiles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the body and head vertices that the joint regressors look at, directly or through the graft."""
    body = np.flatnonzero(files.body.J_regressor.any(axis=0))
    grafted = np.zeros(len(files.head.vertex_ids), bool)
    grafted[files.head.grafted] = True
    seen = grafted & np.isin(files.head.vertex_ids, body)
    return body, np.flatnonzero(seen | files.head.mesh.J_regressor.any(axis=0))
