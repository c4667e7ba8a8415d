"""The objective of the refinement, one function for each equation of the paper. Plain tensors in, a scalar out.

Gaussians, faces and points are unordered rows; image terms are averaged over the batch of frames. Neighbours are found
without gradient (`neighbours.py`) and given as constants. Nothing here waits for a GPU.

Source:
    HumanSplatHMR (arXiv 2605.02784), eq. (6)-(15). Reductions, weights and what the paper leaves open are said below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import setting
from .ssim import ssim

MIN_DEPTH_PIXELS = 64
"""Fewer valid pixels than this give no depth term."""

DEPTH_ALPHA = 0.5
FRONT_LAYER_M = 0.05
BACK_FACING = 0.1
SCALE_LIMIT_M = 0.02
TRANSL_SPREAD_M = (0.05, 0.05, 0.15)

HINGES: dict[str, tuple[float, float, float]] = {
    "left_knee": (1, 0, 0),
    "right_knee": (1, 0, 0),
    "left_elbow": (0, -1, 0),
    "right_elbow": (0, 1, 0),
}
"""Joints that bend one way, and the axis about which they do (x left, y up, z forward, arms out)."""


@dataclass(frozen=True)
class LossSettings:
    """Weights and constants of the objective.

    At the weights of CAMEL's parts each is about as strong as the image term on the variable that it acts on.
    """

    ssim: float = setting(0.1, "Weight of SSIM in the colour term, eq. (12)", low=0, high=100)
    depth: float = setting(0.1, "Weight of the depth terms, eq. (16)", low=0, high=100)
    camel: float = setting(1.0, "Weight of the binding to the body, eq. (16)", low=0, high=100)
    p2m: float = setting(1.0, "Weight of point-to-mesh in it, eq. (11)", low=0, high=100)
    cov: float = setting(1.0, "Weight of coverage in it", low=0, high=100)
    flat: float = setting(0.01, "Weight of flatness in it", low=0, high=100)
    surf: float = setting(0.1, "Weight of surface alignment in it", low=0, high=100)
    alpha: float = setting(0.1, "Weight of the rendered mask", low=0, high=100)
    scale: float = setting(1.0, "Weight of the penalty on Gaussians wider than 20 mm", low=0, high=100)
    spread: float = setting(0.0, "Weight of the difference among neighbours", low=0, high=100)
    reg: float = setting(0.3, "Weight of the prior towards the regressor", low=0, high=100)
    tmp: float = setting(0.3, "Weight of the smoothness of corrections in time", low=0, high=100)
    limit: float = setting(0.0, "Weight of the limits of knees and elbows", low=0, high=100)
    lsw_norm: float = setting(0.1, "Weight of the size of learnt skinning weights", low=0, high=100)
    edge: float = setting(10.0, "Weight of the smoothness of normal offsets on faces (gom)", low=0, high=1e4)
    delta_m: float = setting(0.02, "Cloth may stand this far off the skin, eq. (7), (8) [m]", low=0, high=0.5)
    tau: float = setting(3.0, "Tangential over normal scale of a Gaussian, eq. (9)", low=1, high=100)
    eps_m: float = setting(
        0.05, "Depth errors below this count squared, above linearly, eq. (14) [m]", low=1e-4, high=1
    )
    flat_hinge: bool = setting(False, "Punish only ratios below tau")


# --- binding to the body, eq. (6)-(11): canonical space, no gradient to the pose ------------------------------------


def point_to_mesh(means: Tensor, vertices: Tensor, normals: Tensor, delta_m: float | Tensor) -> Tensor:
    """Eq. (6), (7): mean over Gaussians of max(|d| - delta, 0), d the signed distance along the anchor's normal [m].

    Args:
        means: (N, 3) canonical. vertices, normals: (N, 3) of the anchors. delta_m: One, or (N,).
    """
    signed = ((means - vertices) * normals).sum(dim=1)
    return (signed.abs() - delta_m).clamp_min(0).mean()


def coverage(vertices: Tensor, nearest_means: Tensor, delta_m: float | Tensor) -> Tensor:
    """Eq. (8): mean over vertices of max(distance to the nearest Gaussian - delta, 0) [m].

    Args:
        vertices: (V, 3). nearest_means: (V, 3), `means[nearest]`. delta_m: One, or (V,).
    """
    distance = ((vertices - nearest_means).square().sum(dim=1) + 1e-12).sqrt()
    return (distance - delta_m).clamp_min(0).mean()


def flatness(log_scales: Tensor, tau: float, *, hinge: bool = False) -> Tensor:
    """Eq. (9): mean over Gaussians of |l1 - l0 - log tau| + |l2 - l0 - log tau|, l the sorted log scales.

    The formula holds ratios at tau. With `hinge` only what falls short of tau counts, as the paper's words have it.

    Args:
        log_scales: (N, 3), in any order.
    """
    order = log_scales.detach().argsort(dim=1)
    low, middle, high = log_scales.gather(1, order).unbind(1)
    excess = torch.stack([middle - low, high - low]) - math.log(tau)
    return ((-excess).clamp_min(0) if hinge else excess.abs()).sum(dim=0).mean()


def surface_alignment(rotations: Tensor, log_scales: Tensor, normals: Tensor) -> Tensor:
    """Eq. (10): mean over Gaussians of 1 - |cosine between the thinnest axis and the anchor's normal|.

    Args:
        rotations: (N, 3, 3) canonical. log_scales: (N, 3). normals: (N, 3) of the anchors.
    """
    thin = log_scales.detach().argmin(dim=1)[:, None, None].expand(-1, 3, 1)
    axis = rotations.gather(2, thin)[..., 0]
    return 1 - (axis * normals).sum(dim=1).abs().mean()


def camel(p2m: Tensor, cov: Tensor, flat: Tensor, surf: Tensor, weights: LossSettings) -> Tensor:
    """Eq. (11): the cloth-aware mesh regularisation."""
    return weights.p2m * p2m + weights.cov * cov + weights.flat * flat + weights.surf * surf


# --- images, eq. (12) ----------------------------------------------------------------------------------------------


def composite(image: Tensor, mask: Tensor, background: Tensor) -> Tensor:
    """Return mask * image + (1 - mask) * background.

    Args:
        image: (B, H, W, 3). mask: (B, H, W). background: (B, 3), the one that is rendered on.
    """
    background = background[:, None, None]
    return background + mask[..., None] * (image - background)


def color(render: Tensor, target: Tensor, weights: LossSettings, valid: Tensor | None = None) -> Tensor:
    """Eq. (12): mean absolute difference + ssim weight * (1 - SSIM).

    Pixels that are not valid (other people, held out) do not count: they are left out of the first mean, and in SSIM
    the target is the render itself there.

    Args:
        render, target: (B, H, W, 3) on the same background. valid: (B, H, W) bool, or weights of the first mean.
    """
    if valid is None:
        return absolute_difference(render, target) + weights.ssim * (1 - ssim(render, target))
    filled = torch.where(valid[..., None] > 0, target, render.detach())
    return absolute_difference(render, target, valid) + weights.ssim * (1 - ssim(render, filled))


def absolute_difference(render: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """The first term of eq. (12), over valid pixels; 0 when there are none."""
    difference = (render - target).abs()
    if valid is None:
        return difference.mean()
    return (difference * valid[..., None]).sum() / (valid.sum() * difference.shape[-1]).clamp_min(1)


# --- depth, eq. (13)-(15) ------------------------------------------------------------------------------------------


def rendered_depth(depth_m: Tensor, alpha: Tensor, sensor_m: Tensor, core: Tensor) -> Tensor:
    """Eq. (13): mean over frames of the mean |rendered - measured| z-depth [m]; 0 for a frame of under 64 such pixels.

    Args:
        depth_m, alpha: (B, H, W) as rendered. sensor_m: (B, H, W), 0 = invalid. core: (B, H, W) bool, the person.
    """
    counted = (core & (sensor_m > 0) & (alpha.detach() > DEPTH_ALPHA)).flatten(1)
    error = torch.where(counted, (depth_m - sensor_m).flatten(1).abs(), 0)
    pixels = counted.sum(dim=1)
    return (error.sum(dim=1) / pixels.clamp_min(1) * (pixels >= MIN_DEPTH_PIXELS)).mean()


def centers_to_cloud(means: Tensor, visible: Tensor, nearest_points: Tensor, eps_m: float) -> Tensor:
    """Eq. (14): mean over frames of half the mean of sqrt(u + eps^2) - eps over visible Gaussians [m].

    u is the squared distance to the nearest measured point: d^2 / (4 eps) near it, d / 2 far from it.

    Args:
        means: (B, N, 3) camera frame. visible: (B, N) bool. nearest_points: (B, N, 3), constants.
    """
    square = (means - nearest_points).square().sum(dim=-1)
    robust = torch.where(visible, (square + eps_m**2).sqrt() - eps_m, 0)
    return (robust.sum(dim=1) / (2 * visible.sum(dim=1)).clamp_min(1)).mean()


def depth(rendered: Tensor, centers: Tensor) -> Tensor:
    """Eq. (15): the depth term."""
    return rendered + centers


# --- terms that the paper does not have ---------------------------------------------------------------------------


def mask_difference(alpha: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean |alpha - mask| over valid pixels (B, H, W)."""
    return absolute_difference(alpha[..., None], mask[..., None], valid)


def wide_scales(log_scales: Tensor) -> Tensor:
    """Mean over Gaussians of what the largest scale exceeds 20 mm by [m]. log_scales: (N, 3)."""
    return (log_scales.exp().amax(dim=1) - SCALE_LIMIT_M).clamp_min(0).mean()


def neighbour_spread(values: Tensor, neighbours: Tensor) -> Tensor:
    """Mean standard deviation of an attribute (N, C) over each Gaussian's K neighbours (N, K).

    Source:
        GART (Lei et al. 2024), its neighbourhood regularisation, K = 3.
    """
    return values[neighbours].var(dim=1, correction=0).clamp_min(1e-12).sqrt().mean()


def learnt_weights_size(weight_offsets: Tensor) -> Tensor:
    """Mean length of the learnt skinning weights' rows (N, J); its gradient at zero is zero."""
    return torch.linalg.vector_norm(weight_offsets, dim=1).mean()


def edge_smoothness(normal_offsets: Tensor, edges: Tensor) -> Tensor:
    """Mean squared difference of normal offsets (V,) across edges (E, 2) [m^2]."""
    a, b = normal_offsets[edges].unbind(1)
    return (a - b).square().mean()


def pose_prior(increments: Tensor, transl: Tensor, joint_weights: Tensor) -> Tensor:
    """Mean over frames of the squared correction of the regressor's pose.

    Args:
        increments: (B, J, 3) [rad]. transl: (B, 3) [m]. joint_weights: (J,) or (B, J).
    """
    turned = (joint_weights * increments.square().sum(dim=-1)).mean(dim=-1)
    moved = sum((transl[:, i] / spread).square() for i, spread in enumerate(TRANSL_SPREAD_M))
    return (turned + 0.01 * moved).mean()


def correction_smoothness(
    increments: Tensor, transl: Tensor, next_increments: Tensor, next_transl: Tensor, gap: Tensor, joint_weights: Tensor
) -> Tensor:
    """Weighted mean over P pairs of neighbouring frames of the squared difference of their corrections.

    Not the motion is smoothed but what was changed about it. Detach the frame of a pair that is outside the batch.

    Args:
        increments, next_increments: (P, J, 3) [rad]. transl, next_transl: (P, 3) [m], in one fixed frame.
        gap: (P,) frames between the two, 1 to 3; a pair counts 1 / gap. joint_weights: (J,) or (P, J).
    """
    turned = (joint_weights * (next_increments - increments).square().sum(dim=-1)).mean(dim=-1)
    moved = (next_transl - transl).square().sum(dim=-1)
    return ((turned + moved) / gap).mean()


def hinge_limits(rotvecs: Tensor, axes: Tensor) -> Tensor:
    """Mean angle by which hinge joints bend the wrong way [rad].

    Args:
        rotvecs: (..., H, 3) rotation of knees and elbows. axes: (H, 3) unit, about which they flex.
    """
    return (-(rotvecs * axes).sum(dim=-1)).clamp_min(0).mean()


# --- which Gaussians count ----------------------------------------------------------------------------------------


def visible_set(means: Tensor, means2d: Tensor, radii: Tensor, depth_m: Tensor, core: Tensor) -> Tensor:
    """Return which Gaussians eq. (14) counts: drawn, centre inside the mask, in the front layer (B, N) bool.

    Args:
        means: (B, N, 3) camera frame. means2d: (B, N, 2) [px], pixel centres at +0.5. radii: (B, N).
        depth_m: (B, H, W) as rendered. core: (B, H, W) bool.
    """
    height, width = core.shape[1:]
    with torch.no_grad():
        drawn = radii > 0
        u, v = torch.where(drawn[..., None], means2d, -1).floor().long().unbind(-1)
        inside = drawn & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        pixel = torch.where(inside, v * width + u, 0)
        front = means[..., 2] <= depth_m.flatten(1).gather(1, pixel) + FRONT_LAYER_M
        return inside & core.flatten(1).gather(1, pixel) & front


def front_facing(means: Tensor, normals: Tensor) -> Tensor:
    """Return which Gaussians do not face away from the camera, (B, N) bool; posed means and unit normals (B, N, 3)."""
    with torch.no_grad():
        return (means * normals).sum(dim=-1) <= BACK_FACING * means.norm(dim=-1)


def back_project(depth_m: Tensor, core: Tensor, K: Tensor, max_points: int = 4000) -> Tensor:
    """Return measured points of a person in the camera frame, at most `max_points` (P, 3) [m], evenly strided.

    Args:
        depth_m: (H, W) z-depth, 0 = invalid. core: (H, W) bool. K: (3, 3) of the renderer, pixel centres at +0.5.
    """
    v, u = torch.nonzero(core & (depth_m > 0), as_tuple=True)
    stride = max(1, -(-len(v) // max_points))
    v, u = v[::stride], u[::stride]
    pixels = torch.stack([u + 0.5, v + 0.5, torch.ones_like(u)], dim=1).to(depth_m.dtype)
    rays = pixels @ torch.linalg.inv(K.to(depth_m)).T
    return rays * depth_m[v, u, None]
