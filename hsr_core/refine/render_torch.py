"""The slow, readable renderer: plain torch on any device and in any float type, differentiated by autograd.

It is what the fast renderers are measured against. Every formula stands here without the tricks that make it fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .scene import PosedGaussians, Rendered
from .splatting import ALPHA_MAX, ALPHA_MIN, BLUR_PX2, EXTENT_MAX, FAR_M, FOV_MARGIN, TRANSMITTANCE_MIN

BLOCK_PX = 16
"""Side of the square that is composited at once. It changes no result; of 8, 16 and 32 this was the fastest."""


@dataclass(frozen=True, eq=False)
class Projected:
    """Gaussians on the screen; rows that are not drawn hold numbers without meaning.

    Attributes:
        means2d: (B, N, 2) [px], pixel centres at +0.5.
        conics: (B, N, 3) xx, xy, yy of the inverse screen covariance [1/px^2].
        depths: (B, N) z of the centre [m].
        half_size: (B, N, 2) half the box outside which alpha is below 1/255, rounded up [px]; 0: not drawn.
    """

    means2d: Tensor
    conics: Tensor
    depths: Tensor
    half_size: Tensor


def render_torch(
    gaussians: PosedGaussians, K: Tensor, image_hw: tuple[int, int], background: Tensor, *, near: float
) -> Rendered:
    """Render plainly; `hsr_core.refine.render.render` describes arguments and result."""
    screen = project(gaussians, K, image_hw, near=near)
    pictures = [
        _composite(
            Projected(screen.means2d[i], screen.conics[i], screen.depths[i], screen.half_size[i]),
            gaussians.opacities[i], gaussians.colors[i], background[i].detach(), image_hw,
        )
        for i in range(len(K))
    ]  # fmt: skip
    color, alpha, depth, max_weight = (torch.stack(parts) for parts in zip(*pictures, strict=True))
    radii = screen.half_size.amax(-1).to(torch.int32)
    return Rendered(color, alpha, depth, radii, screen.means2d, max_weight)


def project(gaussians: PosedGaussians, K: Tensor, image_hw: tuple[int, int], *, near: float) -> Projected:
    """Return the Gaussians on the screen: EWA splatting, the perspective linearised at each centre.

    Source: Zwicker et al. 2001, "EWA splatting", eq. 26 to 31; limits of the linearisation as in gsplat 1.5.3.
    """
    height, width = image_hw
    finite = _finite(gaussians)
    drawn = finite & (gaussians.means[..., 2] >= near) & (gaussians.means[..., 2] <= FAR_M)
    drawn &= gaussians.opacities >= ALPHA_MIN
    # What is not drawn is replaced before anything is computed from it: 0 * NaN would reach the gradients.
    ahead = gaussians.means.new_tensor([0.0, 0.0, 1.0])
    means = torch.where(drawn[..., None], gaussians.means, ahead)
    unit = torch.eye(3, dtype=means.dtype, device=means.device)
    covariances = torch.where(drawn[..., None, None], gaussians.covariances, unit)
    covariances = 0.5 * (covariances + covariances.transpose(-1, -2))

    f = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]  # (B, 1, 2)
    c = torch.stack([K[:, 0, 2], K[:, 1, 2]], -1)[:, None]
    size = means.new_tensor([width, height])
    z = means[..., 2:]
    slope = means[..., :2] / z
    means2d = f * slope + c
    margin = FOV_MARGIN * 0.5 * size / f
    slope = torch.clamp(slope, -c / f - margin, (size - c) / f + margin)
    # d(u, v) / d(x, y, z) = [diag(f) / z, -f slope / z]
    jacobian = torch.cat([torch.diag_embed(f / z), (-f * slope / z)[..., None]], -1)  # (B, N, 2, 3)
    spread = jacobian @ covariances @ jacobian.transpose(-1, -2)
    xx, xy, yy = spread[..., 0, 0] + BLUR_PX2, spread[..., 0, 1], spread[..., 1, 1] + BLUR_PX2
    det = xx * yy - xy * xy
    drawn = drawn & (det > 0)
    det = torch.where(drawn, det, torch.ones_like(det))
    conics = torch.stack([yy, -xy, xx], -1) / det[..., None]

    with torch.no_grad():
        opacities = torch.where(drawn, gaussians.opacities, torch.ones_like(gaussians.opacities))
        extent = (2 * torch.log(opacities / ALPHA_MIN)).sqrt().clamp(max=EXTENT_MAX)
        half = torch.ceil(extent[..., None] * torch.stack([xx, yy], -1).clamp(min=0).sqrt())
        inside = ((means2d + half > 0) & (means2d - half < size)).all(-1)
        half = torch.where((drawn & inside)[..., None], half, torch.zeros_like(half))
    return Projected(means2d, conics, means[..., 2], half)


def _finite(gaussians: PosedGaussians) -> Tensor:
    with torch.no_grad():
        finite = torch.isfinite(gaussians.means).all(-1) & torch.isfinite(gaussians.opacities)
        finite &= torch.isfinite(gaussians.covariances).all(-1).all(-1)
        return finite & torch.isfinite(gaussians.colors).all(-1)


def _composite(
    screen: Projected, opacities: Tensor, colors: Tensor, background: Tensor, image_hw: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return one picture: colour (H, W, 3), alpha and depth (H, W), largest weights (N,)."""
    height, width = image_hw
    order = torch.sort(screen.depths.detach(), stable=True).indices
    order = order[screen.half_size[order, 0] > 0]
    centres, half = screen.means2d.detach(), screen.half_size
    largest = torch.zeros_like(opacities.detach())
    rows = []
    for y in range(0, height, BLOCK_PX):
        row = []
        for x in range(0, width, BLOCK_PX):
            end = centres.new_tensor([min(x + BLOCK_PX, width), min(y + BLOCK_PX, height)])
            begin = centres.new_tensor([x, y])
            touches = ((centres + half > begin) & (centres - half < end)).all(-1)
            chosen = order[touches[order]]
            v, u = torch.meshgrid(
                torch.arange(y, int(end[1]), device=half.device) + 0.5,
                torch.arange(x, int(end[0]), device=half.device) + 0.5,
                indexing="ij",
            )
            pixels = torch.stack([u, v], -1).to(centres.dtype)  # (h, w, 2)
            weights, transmittance = _weights(pixels, screen.means2d[chosen], screen.conics[chosen], opacities[chosen])
            if len(chosen):
                largest[chosen] = torch.maximum(largest[chosen], weights.detach().amax((0, 1)))
            values = torch.cat([colors[chosen], screen.depths[chosen, None]], -1)
            row.append(torch.cat([weights @ values, transmittance[..., None]], -1))
        rows.append(torch.cat(row, 1))
    picture = torch.cat(rows)
    transmittance = picture[..., 4]
    alpha = 1 - transmittance
    color = picture[..., :3] + transmittance[..., None] * background
    return color, alpha, picture[..., 3] / alpha.clamp(min=1e-10), largest


def _weights(pixels: Tensor, centres: Tensor, conics: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each Gaussian, nearest first, adds to each pixel, (h, w, M), and the light that is left, (h, w).

    w_i = alpha_i prod_{j < i} (1 - alpha_j), alpha = min(0.999, o exp(-q / 2)); too small ones and those that would
    leave too little light are left out.
    """
    dx, dy = (pixels[..., None, :] - centres).unbind(-1)  # (h, w, M)
    half_q = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    falloff = torch.exp(-half_q.clamp(min=0))  # below zero by rounding only
    alpha = torch.clamp(opacities * falloff, max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    with torch.no_grad():
        enough_left = torch.cumprod(1 - alpha, -1) > TRANSMITTANCE_MIN
    alpha = torch.where(enough_left, alpha, torch.zeros_like(alpha))
    left = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)[..., : alpha.shape[-1]]
    transmittance = left[..., -1] if alpha.shape[-1] else torch.ones_like(pixels[..., 0])
    return alpha * before, transmittance
