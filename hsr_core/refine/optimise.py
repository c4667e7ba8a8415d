"""Refine a person's poses and places by rendering an avatar of them, and the avatar with them.

refinement = Refinement(avatar, views, people, RefineSettings())
for _ in range(settings.steps):
    refinement.step()
people = refinement.people()

Source:
    HumanSplatHMR (arXiv 2605.02784): eq. (16) over a clip, Adam, all of body pose, orientation and translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import roma
import torch
from torch import Tensor

from ..body.joints import LEFT_HAND
from ..config import setting
from ..errors import ShapeError
from ..types import HumanParams
from . import losses
from .avatar import Avatar
from .avatar_terms import AvatarTerms
from .gaussian_adam import GaussianRates, gaussian_adam
from .losses import LossSettings
from .neighbours import PointIndex
from .pose import LazyAdam, PoseCorrections, joint_rates
from .render import render
from .scene import PosedGaussians, Rendered
from .view import View

POSE_DECAY = 0.1
"""Of the poses' learning rates over the second half of the steps."""
MEANS_DECAY = 0.01
"""Of the centres' learning rate over all steps."""


@dataclass(frozen=True)
class PoseRates:
    """Learning rates of the poses, at the start."""

    rot: float = setting(3e-3, "Rotations [rad]", low=0, high=1)
    trans: float = setting(5e-3, "Translation [m]", low=0, high=1)


@dataclass(frozen=True)
class RefineSettings:
    """How a clip is refined. `losses`, `rates` and `pose_rates` are groups of their own."""

    pose: bool = setting(True, "Refine poses and places; false: the avatar alone")
    depth: bool = setting(True, "Use depth where frames have it")
    steps: int = setting(3000, "Steps in all", low=1, high=1_000_000)
    color_steps: int = setting(100, "First steps, in which only colours and opacities are learnt", low=0, high=100_000)
    batch: int = setting(1, "Frames in a step", low=1, high=64)
    backend: str = setting("auto", "Renderer", choices=("auto", "gsplat", "cpu", "torch"))
    seed: int = setting(0, "Of the order of frames and of the backgrounds", low=0, high=2**31 - 1)
    losses: LossSettings = field(default_factory=LossSettings)
    rates: GaussianRates = field(default_factory=GaussianRates)
    pose_rates: PoseRates = field(default_factory=PoseRates)


class Refinement:
    """One person's avatar and poses over a set of frames.

    Args:
        avatar: Is changed in place.
        views: The frames, on the avatar's device, all of one size.
        people: The regressor's estimate of each frame.
        depth_weight: How far the depth source is trusted.

    Attributes:
        corrections: Of the poses. steps_done: So far. rejected: Steps dropped for a gradient that was not finite.
    """

    def __init__(
        self,
        avatar: Avatar,
        views: Sequence[View],
        people: Sequence[HumanParams],
        settings: RefineSettings,
        *,
        depth_weight: float = 1.0,
    ) -> None:
        if not views or len(views) != len(people):
            raise ShapeError(f"as many frames as people, at least one; not {len(views)} and {len(people)}")
        if len({view.image_hw for view in views}) > 1:
            raise ShapeError(f"frames must have one size, not {sorted({view.image_hw for view in views})}")
        self.avatar, self.settings, self._people = avatar, settings, list(people)
        device = avatar.opacity_logits.device
        self.corrections = PoseCorrections(people).to(device)
        self._stack = _Stack(views)
        self._depth_weight = depth_weight
        self._joint_rates = joint_rates().to(device)
        self._pose_optimiser = LazyAdam([self.corrections.rotvecs, self.corrections.shifts])
        self._optimiser = gaussian_adam(avatar, settings.rates)
        self._binding = AvatarTerms(avatar, settings.losses)
        self._random = np.random.default_rng(settings.seed)
        self.steps_done = self.rejected = 0

    def step(self, frames: Sequence[int] | None = None) -> dict[str, float]:
        """Take one step on `frames`, or on random ones; return the terms of the objective."""
        settings = self.settings
        if frames is None:
            frames = self._random.choice(len(self._people), min(settings.batch, len(self._people)), replace=False)
        frames = torch.as_tensor(np.asarray(frames), device=self._stack.image.device)
        background = torch.as_tensor(self._random.random((len(frames), 3)), dtype=torch.float32).to(self._stack.image)
        terms = self._objective(frames, background)
        terms["total"].backward()
        self._update(frames)
        self.steps_done += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def people(self) -> list[HumanParams]:
        """Return every frame's refined parameters; to the bit the input's where poses were not refined."""
        if not self.settings.pose:
            return list(self._people)
        return corrected_people(self.corrections, self._people)

    def _objective(self, frames: Tensor, background: Tensor) -> dict[str, Tensor]:
        settings, weights = self.settings, self.settings.losses
        refine_pose = settings.pose and self.steps_done >= settings.color_steps
        with torch.set_grad_enabled(refine_pose):
            rotmats, transl = self.corrections(frames)
        gaussians = self.avatar.pose(rotmats, transl)
        view = self._stack.pick(frames)
        drawn = render(gaussians, view.K, view.image_hw, background, backend=settings.backend, max_weight=False)
        target = losses.composite(view.image, view.mask, background)
        terms = {"color": losses.color(drawn.color, target, weights, view.valid)}
        terms["depth"] = self._depth(view, gaussians, drawn) if settings.depth else drawn.depth.new_zeros(())
        terms["binding"] = self._binding()[0]
        total = terms["color"] + weights.depth * self._depth_weight * terms["depth"] + terms["binding"]
        if weights.alpha:
            terms["alpha"] = losses.mask_difference(drawn.alpha, view.mask, view.valid)
            total = total + weights.alpha * terms["alpha"]
        if refine_pose and weights.reg:
            rotvecs, shifts = self.corrections.rotvecs[frames], self.corrections.shifts[frames]
            prior_weights = (self._joint_rates > 0).to(rotvecs)
            terms["prior"] = losses.pose_prior(rotvecs, shifts, prior_weights)
            total = total + weights.reg * terms["prior"]
        terms["total"] = total
        return terms

    def _depth(self, view: _Stack, gaussians: PosedGaussians, drawn: Rendered) -> Tensor:
        """Eq. (15)."""
        if view.depth_m is None:
            return drawn.depth.new_zeros(())
        weights = self.settings.losses
        rendered = losses.rendered_depth(drawn.depth, drawn.alpha, view.depth_m, view.core)
        visible = losses.visible_set(gaussians.means, drawn.means2d, drawn.radii, drawn.depth, view.core)
        nearest = torch.stack([cloud.nearest(m) for cloud, m in zip(view.clouds, gaussians.means, strict=True)])
        centers = losses.centers_to_cloud(gaussians.means, visible, nearest, weights.eps_m)
        return losses.depth(rendered, centers)

    def _update(self, frames: Tensor) -> None:
        settings, done = self.settings, self.steps_done / self.settings.steps
        if any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in self.avatar.parameters()):
            self.rejected += 1
            self._optimiser.zero_grad()
            self.corrections.zero_grad()
            return
        for group in self._optimiser.param_groups:
            if group["name"] == "means":
                group["lr"] = settings.rates.mu * MEANS_DECAY**done
            group_is_color = group["name"] in ("opacity_logits", "sh0", "shN")
            if self.steps_done < settings.color_steps and not group_is_color:
                for p in group["params"]:
                    p.grad = None
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.avatar.clamp_()
        if self.corrections.rotvecs.grad is not None:
            decay = POSE_DECAY ** max(0.0, 2 * done - 1)
            turn = settings.pose_rates.rot * decay * self._joint_rates[:, None]
            self.rejected += not self._pose_optimiser.step(frames, [turn, settings.pose_rates.trans * decay])


class _Stack:
    """All views as batched tensors; `pick` takes some of them."""

    def __init__(self, views: Sequence[View]) -> None:
        self.image, self.mask, self.valid, self.core, self.K = (
            torch.stack([getattr(view, name) for view in views]) for name in ("image", "mask", "valid", "core", "K")
        )
        have = all(view.depth_m is not None for view in views)
        self.depth_m = torch.stack([view.depth_m for view in views]) if have else None
        self.clouds = [_Cloud(view.points) for view in views] if have else []

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.mask.shape[1], self.mask.shape[2]

    def pick(self, frames: Tensor) -> _Stack:
        out = object.__new__(_Stack)
        for name in ("image", "mask", "valid", "core", "K", "depth_m"):
            value = getattr(self, name)
            setattr(out, name, None if value is None else value[frames])
        out.clouds = [self.clouds[i] for i in frames.tolist()] if self.clouds else []
        return out


class _Cloud:
    """The measured points of a frame, to be searched."""

    def __init__(self, points: Tensor) -> None:
        self._index = PointIndex(points) if len(points) else None

    def nearest(self, means: Tensor) -> Tensor:
        """Return the nearest point to each centre, (N, 3); the centre itself where there are no points."""
        if self._index is None:
            return means.detach()
        return self._index.points[self._index.nearest(means)[1]]


@torch.no_grad()
def corrected_people(corrections: PoseCorrections, people: Sequence[HumanParams]) -> list[HumanParams]:
    """Return parameters with the corrections in them; hands, face and shape are the input's."""
    frames = torch.arange(len(people), device=corrections.shifts.device)
    rotmats, transl = corrections(frames)
    turns = roma.rotmat_to_rotvec(rotmats[:, : LEFT_HAND.start].cpu()).numpy()
    places = transl.cpu().numpy()
    return [
        replace(person, global_orient=turn[0], body_pose=turn[1:22].copy(), transl=place.copy())
        for person, turn, place in zip(people, turns, places, strict=True)
    ]
