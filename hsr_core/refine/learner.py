"""An avatar and all that learns with it: as long-lived as the avatar, over all windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..types import HumanParams
from . import losses
from .avatar import Avatar, FreeAvatar
from .avatar_terms import AvatarTerms
from .density import ScreenStats, grow, prune, reseed
from .gaussian_adam import gaussian_adam
from .online_settings import OnlineSettings
from .render import render
from .snapshot import AvatarSnapshot
from .view import View

UNCOVERED_STEPS = 50


@dataclass(eq=False)
class Learner:
    """Attributes:
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
        avatar, optimiser = self.avatar, self.optimiser
        if not isinstance(avatar, FreeAvatar):
            return
        gaussians = avatar.pose_person(person)
        drawn = render(gaussians, view.K[None], view.image_hw, backend=settings.backend, max_weight=False)
        visible = losses.visible_set(
            gaussians.means, drawn.means2d, drawn.radii, drawn.depth, (view.mask > 0.5)[None]
        )  # fmt: skip
        gradient = self.stats.mean_gradient()
        grow(avatar, optimiser, gradient, settings.density, generator=generator, allowed=visible[0])
        prune(avatar, optimiser, settings.density, settings.losses.delta_m)
        waiting = torch.nonzero(self.terms.uncovered_steps > UNCOVERED_STEPS)[:, 0]
        room = max(1, int(settings.density.grow_fraction * avatar.n_gaussians))
        reseed(avatar, optimiser, waiting[:room], settings.density)
        self.terms.refresh()
        self.stats.restart(avatar.n_gaussians)
