"""The body's canonical space: where a person's Gaussians live, and how a pose moves them.

Importing this module imports torch; importing `hsr_core.refine` does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import roma
import torch
from torch import Tensor, nn

from ..body.ehm import EhmBody
from ..body.joints import BODY, LEFT_HAND, N_JOINTS, RIGHT_HAND, J
from ..body.skinning import rigid_chain
from ..errors import ShapeError
from ..types import HumanParams

HIP_ABDUCTION_RAD = float(np.radians(30))
"""Of the canonical pose, so that the nearest vertex of a point on one leg never lies on the other."""

SHAPE_FIELDS = (
    "betas", "expression", "head_betas", "head_expression", "head_scale", "eyelids",
    "jaw_pose", "leye_pose", "reye_pose",
)  # fmt: skip
"""The parameters that make the rest mesh: everything that happens before the body is posed."""


def local_rotmats(params: HumanParams) -> Tensor:
    """Return the rotations of all joints relative to their parents, (55, 3, 3); the camera frame is the root's parent.

    Jaw and eyes are at rest: the head part has turned them before the body is posed.
    """
    turns = torch.zeros(N_JOINTS, 3)
    turns[0] = torch.as_tensor(params.global_orient)
    turns[BODY] = torch.as_tensor(params.body_pose, dtype=torch.float32)
    turns[LEFT_HAND] = torch.as_tensor(params.left_hand_pose, dtype=torch.float32)
    turns[RIGHT_HAND] = torch.as_tensor(params.right_hand_pose, dtype=torch.float32)
    return roma.rotvec_to_rotmat(turns)


def canonical_rotmats() -> Tensor:
    """Return the canonical pose, (55, 3, 3): the template's own (arms out), hips abducted by 30 degrees each."""
    turns = torch.zeros(N_JOINTS, 3)
    turns[J["left_hip"], 2] = HIP_ABDUCTION_RAD  # x left, y up, z forward
    turns[J["right_hip"], 2] = -HIP_ABDUCTION_RAD
    return roma.rotvec_to_rotmat(turns)


def invert_rows(motions: Tensor) -> Tensor:
    """Invert affine maps [L | t] without their last row, (..., 3, 4) -> (..., 3, 4). L need not be a rotation."""
    inverse = torch.linalg.inv(motions[..., :3])
    return torch.cat([inverse, -inverse @ motions[..., 3:]], dim=-1)


def compose_rows(outer: Tensor, inner: Tensor) -> Tensor:
    """Return outer(inner(x)) for affine maps (..., 3, 4)."""
    product = outer[..., :3] @ inner
    return torch.cat([product[..., :3], product[..., 3:] + outer[..., 3:]], dim=-1)


def transform_rows(motions: Tensor, points: Tensor) -> Tensor:
    """Apply affine maps (..., 3, 4) to points (..., 3)."""
    return (motions[..., :3] @ points[..., None])[..., 0] + motions[..., 3]


class CanonicalBody(nn.Module):
    """One person's body in the canonical pose, and the motion of its joints. Constant: it has buffers only.

    The canonical vertices are linear blend skinning of the rest mesh, with pose offsets if they are used. A pose moves
    vertex v by (sum_k W[v,k] G_k(pose)) (sum_k W[v,k] G_k(canonical))^-1, with G_k relative to the rest pose, so that
    the body's own vertices come out exactly. (Blending G_k(pose) G_k(canonical)^-1 instead, as is common, misses them
    by up to a centimetre around the hips, where several weights meet.)

    Attributes:
        vertices: (V, 3) [m]. normals: (V, 3) unit, area weighted. areas: (V,) [m^2], a third of the faces around each.
        weights: (V, J) rows sum to one. faces: (F, 3) int64. joints: (J, 3) at rest [m]. parents: J numbers.
        to_rest: (V, 3, 4) canonical to rest space, the inverse of each vertex's blended canonical motion.
        joints_to_rest: (J, 3, 4) the inverse of each joint's canonical motion.
        posedirs: (9 (J - 1), V, 3) pose blend shapes, or None when the body has none or they are not used.
        params: Whose `SHAPE_FIELDS` made the rest mesh. model_id: Of the body model.
    """

    vertices: Tensor
    normals: Tensor
    areas: Tensor
    weights: Tensor
    faces: Tensor
    joints: Tensor
    to_rest: Tensor
    joints_to_rest: Tensor
    ancestors: Tensor
    still: Tensor
    canonical_feature: Tensor
    posedirs: Tensor | None

    def __init__(
        self,
        rest: Tensor,
        joints: Tensor,
        weights: Tensor,
        faces: Tensor,
        parents: tuple[int, ...],
        ancestors: Tensor,
        posedirs: Tensor | None,
        params: HumanParams,
        model_id: str,
    ) -> None:
        super().__init__()
        self.parents, self.params, self.model_id = parents, params, model_id
        for name, value in (
            ("weights", weights), ("faces", faces), ("joints", joints), ("ancestors", ancestors), ("posedirs", posedirs)
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("still", torch.eye(3, dtype=rest.dtype), persistent=False)

        pose = canonical_rotmats().to(rest)[None]
        joint_motions = self.rest_motions(pose)[0]
        self.register_buffer("joints_to_rest", invert_rows(joint_motions), persistent=False)
        motions = (weights @ joint_motions.flatten(1)).unflatten(1, (3, 4))
        if posedirs is not None:
            self.register_buffer("canonical_feature", self.pose_feature(pose)[0], persistent=False)
            rest = rest + (self.canonical_feature @ posedirs.flatten(1)).view_as(rest)
        self.register_buffer("to_rest", invert_rows(motions), persistent=False)
        self.register_buffer("vertices", transform_rows(motions, rest), persistent=False)
        normals, areas = vertex_normals_and_areas(self.vertices, faces)
        self.register_buffer("normals", normals, persistent=False)
        self.register_buffer("areas", areas, persistent=False)

    @classmethod
    def from_body(cls, body: EhmBody, params: HumanParams, *, use_pose_offsets: bool = True) -> CanonicalBody:
        """Take a person's shape, expression and head values (`SHAPE_FIELDS`); pose and place are ignored.

        Args:
            body: The model, on any device; the result starts on the CPU.
            params: Frozen for this person.
            use_pose_offsets: Move Gaussians with the body's pose blend shapes where the model has them.

        Raises:
            ShapeError: More coefficients than the model has, or values that are not finite.
        """
        kept = replace(HumanParams(), **{name: np.array(getattr(params, name), np.float32) for name in SHAPE_FIELDS})
        if not kept.finite():
            raise ShapeError("the person's shape values must be finite")
        rest, joints = body.rest(kept)
        part = body.layer.full.body
        posedirs = part.posedirs.detach().cpu()
        has_offsets = use_pose_offsets and posedirs.shape[0] > 0
        return cls(
            rest=torch.as_tensor(rest),
            joints=torch.as_tensor(joints),
            weights=part.weights.detach().cpu(),
            faces=torch.as_tensor(body.faces, dtype=torch.int64),
            parents=tuple(part.parents),
            ancestors=part.ancestors.cpu(),
            posedirs=posedirs.unflatten(1, (-1, 3)) if has_offsets else None,
            params=kept,
            model_id=body.model_id,
        )

    @property
    def n_vertices(self) -> int:
        return self.vertices.shape[0]

    def rest_motions(self, rotmats: Tensor) -> Tensor:
        """Return how joints move the rest mesh, (B, J, 3, 3) -> (B, J, 3, 4); the root turns about the pelvis."""
        joints = self.joints.expand(rotmats.shape[0], -1, -1)
        rotations, places = rigid_chain(rotmats, joints, self.ancestors)
        shift = places[..., None] - rotations @ joints[..., None]
        return torch.cat([rotations, shift], dim=-1)

    def bones(self, rotmats: Tensor) -> Tensor:
        """Return B_k = G_k(pose) G_k(canonical)^-1: each joint's motion relative to the canonical pose.

        Args:
            rotmats: (B, J, 3, 3) relative to the parents, root first.

        Returns:
            (B, J, 3, 4); the root turns about the pelvis joint, no translation is added.
        """
        return compose_rows(self.rest_motions(rotmats), self.joints_to_rest)

    def pose_feature(self, rotmats: Tensor) -> Tensor:
        """Return what the pose blend shapes are linear in, (B, 9 (J - 1))."""
        return (rotmats[:, 1:] - self.still).flatten(1)


def vertex_normals_and_areas(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return area-weighted unit normals (V, 3) and a third of the area of the faces around each vertex (V,) [m^2].

    A vertex without faces, or whose faces have no area, gets the normal (0, 0, 1) and no area.
    """
    a, b, c = vertices[faces].unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    corners = faces.flatten()
    spread = cross.repeat_interleave(3, dim=0)
    normals = torch.zeros_like(vertices).index_add_(0, corners, spread)
    areas = torch.zeros_like(vertices[:, 0]).index_add_(0, corners, spread.norm(dim=1) / 6)
    length = normals.norm(dim=1, keepdim=True)
    up = torch.zeros_like(normals)
    up[:, 2] = 1
    return torch.where(length > 0, normals / length.clamp_min(1e-20), up), areas
