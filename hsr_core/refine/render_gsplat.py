"""Rendering with gsplat (Apache-2.0) on CUDA.

Written to gsplat 1.5.3's functions below `rasterization`: the projected means have to be a node of the graph with shape
(B, N, 2), which `rasterization` cannot give, and the lists of Gaussians by tile serve the largest weights too.
`isect_tiles` reads the number of pairs on the host: a call waits for the GPU once, and no CUDA graph can capture it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingPackage
from .scene import PosedGaussians, Rendered
from .splatting import ALPHA_MAX, BLUR_PX2, FAR_M

TILE = 16
_UPPER = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])
_INSTALL = (
    'pip install "hsr-core[gsplat]" and a CUDA toolkit (nvcc) of the version that torch was built with; the first call '
    'compiles for minutes. Without gsplat: backend="torch", slow, or the tensors on the CPU'
)


def render_gsplat(
    gaussians: PosedGaussians,
    K: Tensor,
    image_hw: tuple[int, int],
    background: Tensor,
    *,
    near: float,
    max_weight: bool,
) -> Rendered:
    """Render on CUDA; `hsr_core.refine.render.render` describes arguments and result.

    Every pose is one batch of gsplat with one camera at the origin.

    Raises:
        MissingPackage: gsplat or its compiled kernels are not there; the message says what to do.
    """
    gsplat = _import()
    height, width = image_hw
    means, opacities = _skip_bad(gaussians), gaussians.opacities
    covariances = 0.5 * (
        gaussians.covariances[..., _UPPER[0], _UPPER[1]] + gaussians.covariances[..., _UPPER[1], _UPPER[0]]
    )
    camera = torch.eye(4, dtype=means.dtype, device=means.device).expand(len(means), 1, 4, 4)
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        means=means, covars=covariances, quats=None, scales=None, viewmats=camera, Ks=K[:, None], width=width,
        height=height, eps2d=BLUR_PX2, near_plane=near, far_plane=FAR_M, packed=False, opacities=opacities,
    )  # fmt: skip
    means2d = means2d.squeeze(1)  # the node whose gradient is retained; all that follows depends on it
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    with torch.no_grad():
        _, keys, ids = gsplat.isect_tiles(
            means2d=means2d[:, None], radii=radii, depths=depths, tile_size=TILE, tile_width=tiles_x,
            tile_height=tiles_y, packed=False,
        )  # fmt: skip
        offsets = gsplat.isect_offset_encode(keys, len(means), tiles_x, tiles_y)
    offsets = offsets.reshape(len(means), 1, tiles_y, tiles_x)
    values = torch.cat([gaussians.colors[:, None], depths[..., None]], -1)
    ground = torch.cat([background.detach(), torch.zeros_like(background[:, :1])], -1)[:, None]
    picture, alpha = gsplat.rasterize_to_pixels(
        means2d=means2d[:, None], conics=conics, colors=values, opacities=opacities[:, None], image_width=width,
        image_height=height, tile_size=TILE, isect_offsets=offsets, flatten_ids=ids, backgrounds=ground, packed=False,
    )  # fmt: skip
    picture, alpha = picture.squeeze(1), alpha[:, 0, ..., 0]
    weights = None
    if max_weight:
        drawn = (means2d.detach(), conics.detach().squeeze(1), opacities.detach())
        weights = _largest_weights(gsplat, *drawn, image_hw, offsets, ids)
    depth = picture[..., 3] / alpha.clamp(min=1e-10)
    return Rendered(picture[..., :3], alpha, depth, radii.squeeze(1).amax(-1), means2d, weights)


@cache  # of success: an error is found again
def _import() -> Any:
    if not torch.cuda.is_available():  # importing succeeds without a GPU and the first call fails obscurely
        raise MissingPackage(f"gsplat needs a CUDA device and torch sees none. Otherwise: {_INSTALL}")
    try:
        import gsplat
        import packaging.version  # noqa: F401  imported by gsplat, not declared by it
        from gsplat.cuda._backend import _C
    except ImportError as error:
        raise MissingPackage(f"gsplat cannot be used: {error}. {_INSTALL}") from error
    if _C is None:
        raise MissingPackage(f"gsplat's CUDA kernels are not built: it found no nvcc. {_INSTALL}")
    return gsplat


def _skip_bad(gaussians: PosedGaussians) -> Tensor:
    """Return the means, with those of Gaussians that are not finite put behind the camera, where nothing is drawn."""
    with torch.no_grad():
        total = gaussians.means.abs().sum(-1) + gaussians.opacities + gaussians.colors.abs().sum(-1)
        good = torch.isfinite(total + gaussians.covariances.abs().sum((-1, -2)))
    return torch.where(good[..., None], gaussians.means, gaussians.means.new_tensor([0.0, 0.0, -1.0]))


def _largest_weights(
    gsplat: Any,
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    image_hw: tuple[int, int],
    offsets: Tensor,
    ids: Tensor,
) -> Tensor:
    """Return each Gaussian's largest weight, (B, N), from the list of all pairs of pixel and Gaussian."""
    height, width = image_hw
    full = means2d.new_ones(len(means2d), 1, height, width)
    gaussian, pixel, picture = gsplat.rasterize_to_indices_in_range(
        range_start=0, range_end=1 << 30, transmittances=full, means2d=means2d[:, None], conics=conics[:, None],
        opacities=opacities[:, None], image_width=width, image_height=height, tile_size=TILE, isect_offsets=offsets,
        flatten_ids=ids,
    )  # fmt: skip
    weights = pair_weights(means2d, conics, opacities, gaussian, pixel, picture, image_hw)
    flat = means2d.new_zeros(opacities.numel())
    flat.scatter_reduce_(0, picture * opacities.shape[1] + gaussian, weights, "amax")
    return flat.view_as(opacities)


def pair_weights(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    gaussian: Tensor,
    pixel: Tensor,
    picture: Tensor,
    image_hw: tuple[int, int],
) -> Tensor:
    """Return the blending weight of each pair of a pixel and a Gaussian drawn there.

    Args:
        means2d: Centres. Shape (B, N, 2), [px].
        conics: Inverse screen covariances. Shape (B, N, 3).
        opacities: Shape (B, N).
        gaussian, pixel, picture: Indices of the pairs; those of a pixel stand together, nearest first. Shape (P,).
        image_hw: Height and width.

    Returns:
        alpha_i prod_{j < i} (1 - alpha_j). Shape (P,).
    """
    if not len(pixel):
        return means2d.new_zeros(0)
    centre = torch.stack([pixel % image_hw[1], pixel // image_hw[1]], -1) + 0.5
    dx, dy = (centre - means2d[picture, gaussian]).unbind(-1)
    a, b, c = conics[picture, gaussian].unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[picture, gaussian] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
    # The product over a pixel's pairs is a difference of running sums of logarithms; float64 keeps it exact enough.
    left = torch.log1p(-alpha.double())
    before = left.cumsum(0) - left
    key = picture * (image_hw[0] * image_hw[1]) + pixel
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    start = torch.cummax(torch.where(first, torch.arange(len(key), device=key.device), 0), 0).values
    return alpha * torch.exp(before - before[start]).to(alpha.dtype)
