"""An avatar and all that learns with it: as long-lived as the avatar, over all windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import HumanParams
from . import losses
from .avatar import Avatar, FreeAvatar
from .avatar_terms import AvatarTerms
from .density import DensitySettings, ScreenStats, grow, prune, reseed
from .gaussian_adam import gaussian_adam
from .online_settings import OnlineSettings
from .render import render
from .snapshot import AvatarSnapshot
from .view import View

UNCOVERED_STEPS = 50


@dataclass(eq=False)
class Learner:
    """See the module.

    Attributes:
        avatar: Is changed in place. optimiser: Of its Gaussians. terms: Of its binding.
        stats: Gradients on the screen, for adding Gaussians.
    """

    avatar: Avatar
    optimiser: torch.optim.Adam
    terms: AvatarTerms
    stats: ScreenStats

    @classmethod
    def begin(cls, avatar: Avatar, settings: OnlineSettings) -> Learner:
        """Take an avatar to the device, with nothing learnt yet."""
        avatar = avatar.to(settings.device)
        if isinstance(avatar, FreeAvatar):
            avatar.set_anchors(avatar.anchors)
        optimiser, terms = gaussian_adam(avatar, settings.rates), AvatarTerms(avatar, settings.losses)
        return cls(avatar, optimiser, terms, ScreenStats(avatar.n_gaussians, settings.device))

    def restore(self, snapshot: AvatarSnapshot, settings: OnlineSettings) -> None:
        """Go back to an earlier state."""
        self.optimiser = snapshot.restore(self.avatar, settings.rates)
        self.terms = AvatarTerms(self.avatar, settings.losses)
        self.stats.restart(self.avatar.n_gaussians)

    @torch.no_grad()
    def change_density(
        self, view: View, person: HumanParams, settings: OnlineSettings, generator: torch.Generator
    ) -> None:
        """Add and remove Gaussians by what a frame shows; nothing for avatars whose Gaussians are not free."""
        avatar = self.avatar
        if not isinstance(avatar, FreeAvatar):
            return
        gaussians = avatar.pose_person(person)
        drawn = render(gaussians, view.K[None], view.image_hw, backend=settings.backend, max_weight=False)
        visible = losses.visible_set(
            gaussians.means, drawn.means2d, drawn.radii, drawn.depth, (view.mask > 0.5)[None]
        )  # fmt: skip
        self._grow_and_prune(settings.density, settings.losses.delta_m, generator, allowed=visible[0])
        waiting = torch.nonzero(self.terms.uncovered_steps > UNCOVERED_STEPS)[:, 0]
        room = max(1, int(settings.density.grow_fraction * avatar.n_gaussians))
        reseed(avatar, self.optimiser, waiting[:room], settings.density)
        self._begin_anew()

    def densify(self, density: DensitySettings, delta_m: float, generator: torch.Generator) -> None:
        """Add and remove Gaussians by what all frames have shown; nothing for avatars whose Gaussians are not free."""
        if isinstance(self.avatar, FreeAvatar):
            self._grow_and_prune(density, delta_m, generator)
            self._begin_anew()

    def _grow_and_prune(
        self, density: DensitySettings, delta_m: float, generator: torch.Generator, allowed: Tensor | None = None
    ) -> None:
        gradient = self.stats.mean_gradient()
        grow(self.avatar, self.optimiser, gradient, density, generator=generator, allowed=allowed)
        prune(self.avatar, self.optimiser, density, delta_m)

    def _begin_anew(self) -> None:
        self.terms.refresh()
        self.stats.restart(self.avatar.n_gaussians)
