"""Colour of a Gaussian by direction: real spherical harmonics up to degree 1, as in 3D Gaussian splatting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

C0 = 0.5 / math.sqrt(math.pi)
C1 = math.sqrt(3 / (4 * math.pi))
MAX_DEGREE = 1


def rgb_to_sh0(rgb: Tensor) -> Tensor:
    """Return the degree-0 coefficients of colours (..., 3) in 0..1."""
    return (rgb - 0.5) / C0


def sh_to_rgb(sh0: Tensor, shN: Tensor, directions: Tensor | None) -> Tensor:
    """Return colours, at least 0 (..., N, 3).

    Args:
        sh0: (N, 1, 3). shN: (N, 0 or 3, 3), the bands y, z, x of degree 1.
        directions: (..., N, 3) unit, from the camera to the Gaussian in its own frame; None for degree 0.

    Source:
        Kerbl et al., 3D Gaussian Splatting, 2023; the same signs as gsplat.
    """
    rgb = 0.5 + C0 * sh0[:, 0]
    if shN.shape[1] and directions is not None:
        slope = linear_part(shN)  # (N, 3 axes, 3 colours)
        rgb = rgb + (directions[..., None, :] @ slope)[..., 0, :]
    return rgb.clamp_min(0)


def linear_part(shN: Tensor) -> Tensor:
    """Return the gradient of the colour by direction, (N, 3 axes, 3 colours), of degree-1 bands (N, 3, 3)."""
    return C1 * torch.stack([-shN[:, 2], -shN[:, 0], shN[:, 1]], dim=1)


def rotate_bands(shN: Tensor, rotmats: Tensor) -> Tensor:
    """Return the degree-1 bands (N, 3, 3) of the same colours seen from a frame in which the Gaussian has turned.

    Args:
        rotmats: (N, 3, 3) from the Gaussian's frame to the new one.
    """
    slope = rotmats @ linear_part(shN) / C1
    return torch.stack([-slope[:, 1], slope[:, 2], -slope[:, 0]], dim=1)
