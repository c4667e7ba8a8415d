"""Parameters in, meshes and joints out: the records of every body model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..types import Array, HumanParams

if TYPE_CHECKING:
    import torch

COEFFICIENTS = ("betas", "expression", "head_betas", "head_expression")
"""The parameters whose length comes from the model; the others have `HumanParams.FIXED_SHAPES`."""


@dataclass(frozen=True, eq=False)
class EhmParams:
    """`HumanParams` of a batch, as tensors of one dtype on one device. Rotation vectors in [rad].

    Attributes:
        global_orient, transl, jaw_pose, leye_pose, reye_pose: (B, 3).
        body_pose: (B, 21, 3). left_hand_pose, right_hand_pose: (B, 15, 3).
        eyelids: (B, 2). head_scale: (B, 3).
        betas, expression, head_betas, head_expression: (B, n), n at most the model's number.
    """

    global_orient: torch.Tensor
    transl: torch.Tensor
    body_pose: torch.Tensor
    left_hand_pose: torch.Tensor
    right_hand_pose: torch.Tensor
    jaw_pose: torch.Tensor
    leye_pose: torch.Tensor
    reye_pose: torch.Tensor
    eyelids: torch.Tensor
    betas: torch.Tensor
    expression: torch.Tensor
    head_betas: torch.Tensor
    head_expression: torch.Tensor
    head_scale: torch.Tensor

    @property
    def batch(self) -> int:
        return self.global_orient.shape[0]

    @classmethod
    def from_human(
        cls,
        people: Sequence[HumanParams],
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> EhmParams:
        """Stack people of one model into a batch; of float32 unless a `dtype` is given.

        Raises:
            ShapeError: No people, or their coefficient vectors differ in length.
        """
        import torch

        if not people:
            raise ShapeError("a batch needs at least one person")
        stacked = {}
        for entry in fields(cls):
            rows = [np.asarray(getattr(person, entry.name)) for person in people]
            if len({row.shape for row in rows}) > 1:
                raise ShapeError(f"{entry.name} must have one shape in a batch, not {sorted({r.shape for r in rows})}")
            stacked[entry.name] = torch.as_tensor(np.stack(rows), dtype=dtype or torch.float32, device=device)
        return cls(**stacked)


@dataclass(frozen=True, eq=False)
class BodyOutput:
    """A posed batch in the camera frame.

    Attributes:
        vertices: (B, V, 3) [m], or None when only the skeleton was asked for.
        joints: (B, 55, 3) [m].
        joint_rotmats: (B, 55, 3, 3) global rotations, joint to camera frame. The jaw and the eyes turn with the
            head joint here: their own rotations belong to the head part and are in the vertices.
    """

    vertices: torch.Tensor | None
    joints: torch.Tensor
    joint_rotmats: torch.Tensor


@dataclass(frozen=True, eq=False)
class PosedBody:
    """One posed person in the camera frame, float32 numpy. Fields as in `BodyOutput`, without the batch axis."""

    vertices: Array | None
    joints: Array
    joint_rotmats: Array


class BodyModel(Protocol):
    """What the rest of the library needs from a body model.

    Attributes:
        n_betas, n_expression, n_head_betas, n_head_expression: Numbers of coefficients.
        faces: (F, 3) int32, outward by the right-hand rule; never changes.
        family: `OPEN` or `EHMS`.
        model_id: Name with a content hash: equal ids mean that coefficients are interchangeable.
        licence_note: What the model's licence asks of those who use its output.
        surface_points: Vertex ids of named points on the skin.
    """

    n_betas: int
    n_expression: int
    n_head_betas: int
    n_head_expression: int
    faces: NDArray[np.int32]
    family: str
    model_id: str
    licence_note: str
    surface_points: dict[str, int]

    def pose_one(self, params: HumanParams, *, vertices: bool = True) -> PosedBody: ...

    def rest(self, params: HumanParams) -> tuple[Array, Array]: ...

    def __call__(self, params: EhmParams, *, vertices: bool = True) -> BodyOutput: ...


def check_lengths(model: BodyModel, lengths: Mapping[str, int]) -> None:
    """Raise ShapeError for more coefficients than the model has."""
    for name, n in lengths.items():
        if n > getattr(model, f"n_{name}"):
            raise ShapeError(f"{name} has {n} coefficients, {model.model_id} has {getattr(model, f'n_{name}')}")
