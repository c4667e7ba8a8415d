"""Refine a person's poses and places by rendering an avatar of them, and the avatar with them.

refinement = Refinement(avatar, views, people, RefineSettings())
for _ in range(settings.steps):
    refinement.step()
people = refinement.people()

Source:
    HumanSplatHMR (arXiv 2605.02784): eq. (16) over a clip, Adam, all of body pose, orientation and translation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import roma
import torch
from torch import Tensor

from ..body.joints import LEFT_HAND, J
from ..config import setting
from ..errors import ShapeError
from ..types import HumanParams
from . import losses
from .avatar import Avatar
from .avatar_terms import AvatarTerms
from .density import ScreenStats
from .exposure import RATE as EXPOSURE_RATE
from .exposure import WEIGHT as EXPOSURE_WEIGHT
from .exposure import Exposure
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
    means_decay: float = setting(MEANS_DECAY, "Of the centres' learning rate over all steps", low=0, high=1)
    front_only: bool = setting(
        False,
        "Depth of the Gaussians that face the camera alone: the back leaks through, some 2 cm; a second rendering",
    )
    exposure: bool = setting(False, "Learn a gain and a bias of each frame: for a camera that sets its exposure")
    backend: str = setting("auto", "Renderer", choices=("auto", "gsplat", "cpu", "torch"))
    seed: int = setting(0, "Of the order of frames and of the backgrounds", low=0, high=2**31 - 1)
    losses: LossSettings = field(default_factory=LossSettings)
    rates: GaussianRates = field(default_factory=GaussianRates)
    pose_rates: PoseRates = field(default_factory=PoseRates)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Neighbours in time whose corrections are held together.

    Attributes:
        first, second: (P,) numbers of frames. gap: (P,) how far apart, 1 to 3; a pair counts 1 / gap.
    """

    first: Tensor
    second: Tensor
    gap: Tensor


@dataclass(frozen=True, eq=False)
class Carried:
    """What a refinement takes over from one before it, over other frames of the same person. None = begin afresh.

    Attributes:
        optimiser, terms: Of the same avatar.
        frame_rates: (T,) factors of the frames' learning rates.
        joint_rates: (T, 22) factors of their joints'; None = `pose.joint_rates` for every frame.
        joint_priors: (T, 22) weights of the prior towards the regressor; None = 1 for joints that move.
        pairs: Whose corrections are held together.
        stats: Takes the gradients on the screen, for adding Gaussians.
    """

    optimiser: torch.optim.Adam | None = None
    terms: AvatarTerms | None = None
    frame_rates: Tensor | None = None
    joint_rates: Tensor | None = None
    joint_priors: Tensor | None = None
    pairs: Pairs | None = None
    stats: ScreenStats | None = None


class Refinement:
    """One person's avatar and poses over a set of frames.

    Args:
        avatar: Is changed in place.
        views: The frames, on the avatar's device, all of one size.
        people: The regressor's estimate of each frame.
        depth_weight: How far the depth source is trusted.
        carried: From a refinement before this one.

    Attributes:
        corrections: Of the poses; change them before the first step to begin elsewhere. pose_optimiser: Theirs.
        exposure: Of the frames. exposure_optimiser: Its own.
        steps_done: So far. rejected: Steps dropped for a gradient that was not finite.
    """

    def __init__(
        self,
        avatar: Avatar,
        views: Sequence[View],
        people: Sequence[HumanParams],
        settings: RefineSettings,
        *,
        depth_weight: float = 1.0,
        carried: Carried | None = None,
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
        self._carried = carried = carried or Carried()
        rates = joint_rates().to(device).expand(len(people), -1)
        self._joint_rates = rates if carried.joint_rates is None else carried.joint_rates
        moves = (self._joint_rates > 0).to(rates)
        self._joint_priors = moves if carried.joint_priors is None else carried.joint_priors
        self._hinges = torch.tensor([J[name] for name in losses.HINGES], device=device)
        self._hinge_axes = torch.tensor(list(losses.HINGES.values()), device=device)
        self.pose_optimiser = LazyAdam([self.corrections.rotvecs, self.corrections.shifts])
        self.exposure = Exposure(len(people)).to(device)
        self.exposure_optimiser = LazyAdam([self.exposure.values])
        self._optimiser = carried.optimiser or gaussian_adam(avatar, settings.rates)
        self._binding = carried.terms or AvatarTerms(avatar, settings.losses)
        self._random = np.random.default_rng(settings.seed)
        self.steps_done = self.rejected = 0

    def step(self, frames: Sequence[int] | None = None, *, learn: bool = True) -> dict[str, float]:
        """Take one step on `frames`, or on random ones; return the terms of the objective.

        Args:
            frames: Distinct numbers.
            learn: False = poses alone; the avatar and its own terms are left out.
        """
        settings = self.settings
        if frames is None:
            frames = self._random.choice(len(self._people), min(settings.batch, len(self._people)), replace=False)
        frames = torch.as_tensor(np.asarray(frames), device=self._stack.image.device)
        background = torch.as_tensor(self._random.random((len(frames), 3)), dtype=torch.float32).to(self._stack.image)
        terms = self._objective(frames, background, learn)
        if terms["total"].requires_grad:  # not where poses alone are asked for and are not refined
            terms["total"].backward()
            self._update(frames, learn)
        self.steps_done += 1
        values = torch.stack([value.detach() for value in terms.values()]).tolist()  # waits for a GPU once
        return dict(zip(terms, values, strict=True))

    def people(self) -> list[HumanParams]:
        """Return every frame's refined parameters; to the bit the input's where poses were not refined."""
        if not self.settings.pose:
            return list(self._people)
        return corrected_people(self.corrections, self._people)

    def _objective(self, frames: Tensor, background: Tensor, learn: bool) -> dict[str, Tensor]:
        settings, weights = self.settings, self.settings.losses
        refine_pose = settings.pose and self.steps_done >= settings.color_steps
        with torch.set_grad_enabled(refine_pose):
            rotmats, transl = self.corrections(frames)
        gaussians = self.avatar.pose(rotmats, transl)
        if not learn:
            gaussians = replace(gaussians, opacities=gaussians.opacities.detach(), colors=gaussians.colors.detach())
        view = self._stack.pick(frames)
        drawn = render(gaussians, view.K, view.image_hw, background, backend=settings.backend, max_weight=False)
        self._watch(drawn, learn)
        target = losses.composite(view.image, view.mask, background)
        picture = self.exposure(frames, drawn.color, drawn.alpha, background) if settings.exposure else drawn.color
        terms = {"color": losses.color(picture, target, weights, view.valid)}
        terms["depth"] = self._depth(view, gaussians, drawn, rotmats) if settings.depth else drawn.depth.new_zeros(())
        terms["binding"] = self._binding()[0] if learn else drawn.depth.new_zeros(())
        total = terms["color"] + weights.depth * self._depth_weight * terms["depth"] + terms["binding"]
        for name, weight, term in self._more_terms(frames, view, drawn, rotmats if refine_pose else None):
            terms[name] = term
            total = total + weight * term
        terms["total"] = total
        return terms

    def _more_terms(
        self, frames: Tensor, view: _Stack, drawn: Rendered, rotmats: Tensor | None
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of what eq. (16) does not have; `rotmats` of poses that are refined."""
        weights = self.settings.losses
        if self.settings.exposure:
            yield "exposure", EXPOSURE_WEIGHT, self.exposure.prior(frames)
        if weights.alpha:
            share = (view.mask_weight / weights.alpha).clamp(max=1)[:, None, None]
            yield "alpha", weights.alpha, losses.mask_difference(share * drawn.alpha, share * view.mask, view.valid)
        if rotmats is None:
            return
        if weights.reg:
            rotvecs, shifts = self.corrections.rotvecs[frames], self.corrections.shifts[frames]
            yield "prior", weights.reg, losses.pose_prior(rotvecs, shifts, self._joint_priors[frames])
        if weights.limit:
            bent = roma.rotmat_to_rotvec(rotmats[:, self._hinges])
            yield "limit", weights.limit, losses.hinge_limits(bent, self._hinge_axes)
        if weights.tmp and self._carried.pairs is not None:
            yield "smoothness", weights.tmp, self._smoothness(frames, self._carried.pairs)

    def _smoothness(self, frames: Tensor, pairs: Pairs) -> Tensor:
        """What is smooth is the correction; of a pair with one frame in the batch, the other is a constant."""
        moves = torch.zeros(len(self._people), dtype=torch.bool, device=frames.device)
        moves[frames] = True
        used = moves[pairs.first] | moves[pairs.second]
        if not bool(used.any()):
            return self.corrections.shifts.new_zeros(())
        rotvecs, shifts = (
            torch.where(moves.view(-1, *[1] * (p.ndim - 1)), p, p.detach())
            for p in (self.corrections.rotvecs, self.corrections.shifts)
        )
        a, b, gap = pairs.first[used], pairs.second[used], pairs.gap[used]
        return losses.correction_smoothness(rotvecs[a], shifts[a], rotvecs[b], shifts[b], gap, self._joint_rates[a])

    def _watch(self, drawn: Rendered, learn: bool) -> None:
        """Have the gradients on the screen counted."""
        stats = self._carried.stats
        if stats is None or not learn:
            return
        image_hw, radii = self._stack.image_hw, drawn.radii
        drawn.means2d.register_hook(lambda grad: stats.add(grad, radii, image_hw))

    def _depth(self, view: _Stack, gaussians: PosedGaussians, drawn: Rendered, rotmats: Tensor) -> Tensor:
        """Eq. (15)."""
        if view.depth_m is None:
            return drawn.depth.new_zeros(())
        weights = self.settings.losses
        if self.settings.front_only:
            front = losses.front_facing(gaussians.means, self.avatar.posed_normals(rotmats))
            opacities = torch.where(front, gaussians.opacities, 0)
            drawn = render(
                replace(gaussians, opacities=opacities), view.K, view.image_hw,
                backend=self.settings.backend, max_weight=False,
            )  # fmt: skip
        rendered = losses.rendered_depth(drawn.depth, drawn.alpha, view.depth_m, view.core)
        visible = losses.visible_set(gaussians.means, drawn.means2d, drawn.radii, drawn.depth, view.core)
        nearest = torch.stack([cloud.nearest(m) for cloud, m in zip(view.clouds, gaussians.means, strict=True)])
        centers = losses.centers_to_cloud(gaussians.means, visible, nearest, weights.eps_m)
        return losses.depth(rendered, centers)

    def _update(self, frames: Tensor, learn: bool) -> None:
        settings, done = self.settings, self.steps_done / self.settings.steps
        if learn and not self._learn(done):
            self.rejected += 1
            self.corrections.zero_grad()
            self.exposure.zero_grad()
            return
        self._optimiser.zero_grad()
        if self.exposure.values.grad is not None:
            self.exposure_optimiser.step(frames, [EXPOSURE_RATE])
        if self.corrections.rotvecs.grad is not None:
            decay = POSE_DECAY ** max(0.0, 2 * done - 1)
            turn = settings.pose_rates.rot * decay * self._joint_rates[frames][..., None]
            shift: float | Tensor = settings.pose_rates.trans * decay
            if self._carried.frame_rates is not None:
                factor = self._carried.frame_rates[frames]
                turn, shift = turn * factor[:, None, None], shift * factor[:, None]
            self.rejected += not self.pose_optimiser.step(frames, [turn, shift])

    def _learn(self, done: float) -> bool:
        """Move the Gaussians; False, and nothing moves, when a gradient is not finite."""
        settings = self.settings
        if any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in self.avatar.parameters()):
            self._optimiser.zero_grad()
            return False
        for group in self._optimiser.param_groups:
            if group["name"] == "means":
                group["lr"] = settings.rates.mu * settings.means_decay**done
            group_is_color = group["name"] in ("opacity_logits", "sh0", "shN")
            if self.steps_done < settings.color_steps and not group_is_color:
                for p in group["params"]:
                    p.grad = None
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.avatar.clamp_()
        return True


class _Stack:
    """All views as batched tensors; `pick` takes some of them."""

    def __init__(self, views: Sequence[View]) -> None:
        self.image, self.mask, self.valid, self.core, self.K = (
            torch.stack([getattr(view, name) for view in views]) for name in ("image", "mask", "valid", "core", "K")
        )
        self.mask_weight = self.mask.new_tensor([view.mask_weight for view in views])
        have = all(view.depth_m is not None for view in views)
        self.depth_m = torch.stack([view.depth_m for view in views]) if have else None
        self.clouds = [_Cloud(view.points) for view in views] if have else []

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.mask.shape[1], self.mask.shape[2]

    def pick(self, frames: Tensor) -> _Stack:
        out = object.__new__(_Stack)
        for name in ("image", "mask", "valid", "core", "K", "mask_weight", "depth_m"):
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
