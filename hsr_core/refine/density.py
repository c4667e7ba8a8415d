"""Adding Gaussians where the image asks for them, and taking away those that do nothing or have strayed.

Source:
    3D Gaussian splatting (Kerbl et al. 2023), adaptive density control, without its reset of opacities; thresholds in
    metres as GART and GauHuman have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import setting
from .avatar import SCALE_M, Avatar, FreeAvatar
from .gaussian_adam import resize
from .neighbours import PointIndex

CLONE_SCALE_M = 5e-3
"""Up to this largest scale a Gaussian is cloned, above it is split."""

SPLIT_SHRINK = 1.6
RESEED_OPACITY = 0.5


@dataclass(frozen=True)
class DensitySettings:
    grow_grad: float = setting(2e-4, "Mean gradient of the centre on the screen above which it grows", low=0, high=1)
    grow_fraction: float = setting(1.0, "At most this fraction is added at once", low=0, high=1)
    prune_opacity: float = setting(0.05, "Fainter Gaussians go", low=0, high=1)
    prune_dist_m: float = setting(0.05, "Gaussians farther from the nearest vertex go [m]", low=0, high=1)
    cap: int = setting(20_000, "Most Gaussians", low=1, high=1_000_000)


class ScreenStats:
    """What is gathered between two events, per Gaussian.

    Attributes:
        gradient: (N,) sum of the length of the gradient of the projected centre, in normalised device coordinates.
        seen: (N,) in how many pictures it was drawn. radius: (N,) largest radius on the screen [px].
    """

    def __init__(self, n: int, device: torch.device | str = "cpu") -> None:
        self._device = device
        self.restart(n)

    def restart(self, n: int) -> None:
        """Begin anew, for `n` Gaussians."""
        self.gradient, self.seen, self.radius = (torch.zeros(n, device=self._device) for _ in range(3))

    @torch.no_grad()
    def add(self, means2d_grad: Tensor, radii: Tensor, image_hw: tuple[int, int]) -> None:
        """Count one rendered batch.

        Args:
            means2d_grad: (B, N, 2), `rendered.means2d.grad` [1/px]. radii: (B, N) [px].
        """
        drawn = radii > 0
        height, width = image_hw
        length = torch.hypot(means2d_grad[..., 0] * (width / 2), means2d_grad[..., 1] * (height / 2))
        self.gradient += torch.where(drawn, length * len(radii), 0).sum(
            dim=0
        )  # times B: the loss is a mean over frames
        self.seen += drawn.sum(dim=0)
        self.radius = torch.maximum(self.radius, radii.amax(dim=0).to(self.radius.dtype))

    def mean_gradient(self) -> Tensor:
        """Return (N,), 0 where never drawn."""
        return self.gradient / self.seen.clamp_min(1)


@torch.no_grad()
def grow(
    avatar: Avatar,
    optimizer: torch.optim.Optimizer,
    mean_gradient: Tensor,
    settings: DensitySettings,
    *,
    generator: torch.Generator,
    allowed: Tensor | None = None,
) -> int:
    """Clone small Gaussians and split large ones where the gradient on the screen is large.

    Of two halves of a split each is drawn from the Gaussian itself and 1.6 times smaller. New Gaussians keep the anchor
    of the old until `reanchor`. Does nothing to Gaussians on faces.

    Args:
        mean_gradient: (N,), see `ScreenStats`. generator: On the CPU. allowed: (N,) bool, e.g. visible in a new frame.

    Returns:
        How many were added. `ScreenStats` must start anew when it is not 0.
    """
    if not isinstance(avatar, FreeAvatar):
        return 0
    n = avatar.n_gaussians
    wanted = mean_gradient > settings.grow_grad
    if allowed is not None:
        wanted &= allowed
    room = min(max(0, settings.cap - n), math.floor(settings.grow_fraction * n))
    chosen = torch.nonzero(wanted)[:, 0]
    if len(chosen) > room:
        chosen = chosen[mean_gradient[chosen].topk(room).indices.sort().values]
    if not len(chosen):
        return 0
    source = torch.cat([torch.arange(n, device=chosen.device), chosen])
    fresh = torch.zeros_like(source, dtype=torch.bool)
    fresh[n:] = True

    split = chosen[avatar.log_scales[chosen].exp().amax(dim=1) > CLONE_SCALE_M]
    is_split = torch.zeros(n, dtype=torch.bool, device=chosen.device)
    is_split[split] = True
    moved = is_split[source]
    fresh |= moved
    means, log_scales = avatar.means[source], avatar.log_scales[source]
    random = torch.randn(int(moved.sum()), 3, generator=generator).to(means)
    reach = avatar.rotations()[source[moved]] @ (log_scales[moved].exp() * random)[..., None]
    means[moved] += reach[..., 0]
    log_scales[moved] -= math.log(SPLIT_SHRINK)
    resize(avatar, optimizer, source, fresh, {"means": means, "log_scales": log_scales})
    return len(chosen)


@torch.no_grad()
def prune(avatar: Avatar, optimizer: torch.optim.Optimizer, settings: DensitySettings, delta_m: float) -> int:
    """Remove Gaussians that are faint, far from the skin or too wide, but none that alone covers some vertex.

    Does nothing to Gaussians on faces; keeps what is far where the binding says so.

    Args:
        delta_m: A vertex is covered by a Gaussian as near as this [m].

    Returns:
        How many were removed.
    """
    if not isinstance(avatar, FreeAvatar):
        return 0
    doomed = avatar.opacity_logits.sigmoid() < settings.prune_opacity
    doomed |= avatar.log_scales.exp().amax(dim=1) > SCALE_M[1] * (1 + 1e-6)
    if avatar.binding.prune_far:
        doomed |= avatar.vertex_index().nearest(avatar.means)[0] > settings.prune_dist_m
    doomed &= ~_needed(avatar, doomed, delta_m)
    keep = torch.nonzero(~doomed)[:, 0]
    removed = avatar.n_gaussians - len(keep)
    if removed:
        resize(avatar, optimizer, keep, torch.zeros_like(keep, dtype=torch.bool))
    return removed


def _needed(avatar: FreeAvatar, doomed: Tensor, delta_m: float) -> Tensor:
    """Return which doomed Gaussians are the nearest cover of a vertex that the others leave uncovered (N,) bool."""
    needed = torch.zeros_like(doomed)
    if not doomed.any():
        return needed
    vertices = avatar.canonical.vertices
    candidates = torch.nonzero(doomed)[:, 0]
    if len(candidates) < len(doomed):
        left, _ = PointIndex(avatar.means[~doomed]).nearest(vertices)
        vertices = vertices[left > delta_m]
    if len(vertices):
        distance, nearest = PointIndex(avatar.means[candidates]).nearest(vertices)
        needed[candidates[nearest[distance <= delta_m]]] = True
    return needed


@torch.no_grad()
def reseed(avatar: Avatar, optimizer: torch.optim.Optimizer, uncovered: Tensor, settings: DensitySettings) -> int:
    """Put Gaussians onto vertices that have long had none near, like the nearest one there is, half opaque.

    Args:
        uncovered: (U,) vertex numbers; the first that fit under the cap are taken.

    Returns:
        How many were added.
    """
    if not isinstance(avatar, FreeAvatar):
        return 0
    n = avatar.n_gaussians
    vertices = uncovered[: max(0, settings.cap - n)]
    if not len(vertices):
        return 0
    places = avatar.canonical.vertices[vertices]
    _, nearest = PointIndex(avatar.means).nearest(places)
    old = torch.arange(n, device=nearest.device)
    source = torch.cat([old, nearest])
    opacity = torch.full_like(places[:, 0], math.log(RESEED_OPACITY / (1 - RESEED_OPACITY)))
    changed = {
        "means": torch.cat([avatar.means, places]),
        "opacity_logits": torch.cat([avatar.opacity_logits, opacity]),
    }
    resize(avatar, optimizer, source, torch.arange(len(source), device=nearest.device) >= n, changed)
    avatar.set_anchors(torch.cat([avatar.anchors[:n], vertices]))
    return len(vertices)
