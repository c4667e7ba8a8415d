"""An avatar and its optimiser as they were, to go back to."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .avatar import Avatar, FreeAvatar
from .gaussian_adam import GaussianRates, gaussian_adam


@dataclass(frozen=True, eq=False)
class AvatarSnapshot:
    """See the module.

    Attributes:
        parameters: By name. anchors: Of free Gaussians. optimiser: Its state. stamp_ns: When.
    """

    parameters: dict[str, Tensor]
    anchors: Tensor | None
    optimiser: dict[str, Any]
    stamp_ns: int

    @classmethod
    def take(cls, avatar: Avatar, optimiser: torch.optim.Adam, stamp_ns: int) -> AvatarSnapshot:
        """Copy the present state."""
        return cls(
            {name: p.detach().clone() for name, p in avatar.named_parameters()},
            avatar.anchors.clone() if isinstance(avatar, FreeAvatar) else None,
            copy.deepcopy(optimiser.state_dict()),
            stamp_ns,
        )

    def restore(self, avatar: Avatar, rates: GaussianRates) -> torch.optim.Adam:
        """Put the avatar back, with as many Gaussians as it had; return an optimiser that goes on from there."""
        for name, value in self.parameters.items():
            setattr(avatar, name, nn.Parameter(value.clone()))
        if isinstance(avatar, FreeAvatar):
            assert self.anchors is not None
            avatar.set_anchors(self.anchors.clone())
        optimiser = gaussian_adam(avatar, rates)
        optimiser.load_state_dict(copy.deepcopy(self.optimiser))
        return optimiser

    def finite(self) -> bool:
        """True when nothing in it is NaN or infinite."""
        return all(bool(value.isfinite().all()) for value in self.parameters.values())
