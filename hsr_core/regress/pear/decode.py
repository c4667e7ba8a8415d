"""From PEAR's read-outs to rotations and coefficients, in torch, so that it can be a part of an exported graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .network import RawOutput

N_ROTATIONS = 52
"""Root, 21 body joints, 15 left and 15 right hand joints."""
SCALE_AT_ZERO = 1.5
"""Added to the network's third camera number."""


class Decoded(NamedTuple):
    """What the network says of a batch of crops, float32.

    Attributes:
        rotmats: (B, 52, 3, 3) root to (virtual) camera axes, then joints relative to their parents: 21 of the body,
            15 of the left hand, 15 of the right one. Not checked: see `camera.illegal`.
        head_scale: (B, 3) per axis, near 1.
        betas: (B, 200). expression: (B, 50) of SMPL-X.
        head_betas: (B, 300). head_expression: (B, 50) of FLAME.
        jaw_pose: (B, 3). eye_pose: (B, 2, 3) left, right. Rotation vectors [rad].
        eyelids: (B, 2) left, right.
        camera: (B, 3) tx, ty [m], s [half crop widths per metre].
    """

    rotmats: Tensor
    head_scale: Tensor
    betas: Tensor
    expression: Tensor
    head_betas: Tensor
    head_expression: Tensor
    jaw_pose: Tensor
    eye_pose: Tensor
    eyelids: Tensor
    camera: Tensor


def rotmats_from_6d(values: Tensor) -> Tensor:
    """Return rotation matrices (..., 3, 3) whose first two columns come from six numbers (a1 | a2).

    Zeros give a zero matrix and never NaN: whether a rotation is legal is for the caller to check.

    Source:
        Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019, eq. 11. The halves
        are contiguous and become columns (PyTorch3D's helper makes them rows).
    """
    a1, a2 = values[..., :3], values[..., 3:]
    b1 = F.normalize(a1, dim=-1, eps=1e-12)
    b2 = F.normalize(a2 - (b1 * a2).sum(-1, keepdim=True) * b1, dim=-1, eps=1e-12)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2)], -1)


def decode(raw: RawOutput) -> Decoded:
    """Slice the read-outs. The hand scale and FLAME's own head rotation have no effect and are left out."""
    return Decoded(
        rotmats=rotmats_from_6d(raw.pose.unflatten(-1, (N_ROTATIONS, 6))),
        head_scale=raw.scale[:, 3:],
        betas=raw.shape,
        expression=raw.expression,
        head_betas=raw.flame_shape,
        head_expression=raw.flame_expression,
        jaw_pose=raw.flame_pose[:, 9:12],
        eye_pose=raw.flame_pose[:, :6].unflatten(-1, (2, 3)),
        eyelids=raw.flame_pose[:, 12:],
        camera=torch.cat([raw.camera[:, :2], raw.camera[:, 2:] + SCALE_AT_ZERO], -1),
    )
