"""Adam over an avatar's Gaussians, and the change of their number in the middle of an optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import setting
from ..errors import ShapeError
from .avatar import Avatar, FreeAvatar

BETAS = (0.9, 0.999)
EPS = 1e-15


@dataclass(frozen=True)
class GaussianRates:
    """Learning rates of an avatar's parameters at the start of a schedule."""

    mu: float = setting(5e-4, "Centres, and normal offsets on faces [m]", low=0, high=1)
    quat: float = setting(5e-3, "Rotations", low=0, high=1)
    scale: float = setting(5e-3, "Log scales", low=0, high=1)
    opacity: float = setting(5e-2, "Opacity logits", low=0, high=1)
    sh0: float = setting(5e-3, "Colour; higher bands at a twentieth", low=0, high=1)
    dw: float = setting(1e-3, "Learnt skinning weights", low=0, high=1)

    def of(self, name: str) -> float:
        """Return the rate of a parameter of an avatar."""
        return {
            "means": self.mu,
            "normal_offsets": self.mu,
            "quats_wxyz": self.quat,
            "in_plane": self.quat,
            "log_scales": self.scale,
            "plane_log_scales": self.scale,
            "opacity_logits": self.opacity,
            "sh0": self.sh0,
            "shN": self.sh0 / 20,
            "weight_offsets": self.dw,
        }[name]


def gaussian_adam(avatar: Avatar, rates: GaussianRates, **options: bool) -> torch.optim.Adam:
    """Return Adam with one group, named `name`, for each parameter of the avatar. `options`: fused, capturable, ..."""
    groups = [{"params": [p], "lr": rates.of(name), "name": name} for name, p in avatar.named_parameters()]
    return torch.optim.Adam(groups, betas=BETAS, eps=EPS, **options)


def raise_sh_degree(avatar: Avatar, optimizer: torch.optim.Optimizer) -> None:
    """Give the avatar colours of degree 1 and let the optimiser learn them; nothing where it has them."""
    old = avatar.shN
    avatar.raise_sh_degree()
    for group in optimizer.param_groups:
        group["params"] = [avatar.shN if p is old else p for p in group["params"]]
    if avatar.shN is not old:
        optimizer.state.pop(old, None)


@torch.no_grad()
def resize(
    avatar: FreeAvatar,
    optimizer: torch.optim.Optimizer,
    source: Tensor,
    fresh: Tensor,
    changed: Mapping[str, Tensor] | None = None,
) -> None:
    """Give an avatar other Gaussians, each made from one of its own, and keep the optimiser's moments with them.

    Its parameters become new objects, in the avatar and in the optimiser's groups; anchors follow their Gaussians.

    Args:
        source: (M,) which old Gaussian each new one comes from.
        fresh: (M,) bool: moments start at zero.
        changed: New values (M, ...) by parameter name, where they are not those of the source.

    Raises:
        ShapeError: `changed` has another number of rows, or names no parameter of Gaussians.
    """
    changed = dict(changed or {})
    parameters = dict(avatar.named_parameters())
    for name, value in changed.items():
        if name not in parameters or value.shape != (len(source), *parameters[name].shape[1:]):
            raise ShapeError(f"{name} with shape {tuple(value.shape)} is no parameter of {len(source)} Gaussians")
    for name, old in parameters.items():
        new = nn.Parameter(changed.get(name, old[source]).detach().clone())
        setattr(avatar, name, new)
        _replace(optimizer, old, new, source, fresh)
    avatar.set_anchors(avatar.anchors[source])


def _replace(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, source: Tensor, fresh: Tensor
) -> None:
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if not state:
        return
    keep = (~fresh).view(-1, *[1] * (old.dim() - 1))
    per_row = {k: v for k, v in state.items() if torch.is_tensor(v) and v.shape == old.shape and old.dim() > 0}
    optimizer.state[new] = state | {k: v[source] * keep for k, v in per_row.items()}
