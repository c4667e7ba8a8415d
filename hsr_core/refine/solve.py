"""The work on one window: poses of new frames first, then poses and avatar together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import HsrError
from ..types import HumanParams
from .corrections import Correction
from .gates import JointsSeen, padded
from .gaussian_adam import GaussianRates
from .keyframes import KeyFrame
from .learner import Learner
from .online_settings import OnlineSettings
from .optimise import Carried, Pairs, Refinement, RefineSettings
from .pose import joint_rates
from .schedule import Budget, Convergence
from .view import View

KEY_RATE = 0.3
STILL_KEYS = 2
"""The oldest key frames hold still, else avatar and poses could exchange a common error."""
POSE_SHARE = 0.5
"""Of the time, for the poses of new frames alone, at most."""
FRAME_S = 0.1
MAX_GAP = 3.0
"""Corrections of frames up to 0.3 s apart are held together; one within 0.1 s counts fully."""


class NumericFault(HsrError):
    """A loss or a parameter is not finite."""


@dataclass(eq=False)
class Item:
    """One frame of a window: what is given, and where its correction begins; the solver writes where it ends."""

    view: View
    params: HumanParams
    correction: Correction
    new: bool = False
    for_mapping: bool = True
    joints: JointsSeen | None = None


@dataclass(frozen=True)
class Plan:
    """How a window is worked on.

    Attributes:
        pose_iterations, joint_iterations: At most. color_iterations: First of the joint ones, without poses.
        rates: Of the Gaussians. means_decay: Of the centres' rate over the joint iterations.
        hold_keys: Key frames move slowly and the two oldest not at all.
        converge: End when more steps help no more.
    """

    pose_iterations: int
    joint_iterations: int
    rates: GaussianRates
    color_iterations: int = 0
    means_decay: float = 1.0
    hold_keys: bool = True
    converge: bool = True


@dataclass(frozen=True, eq=False)
class Solved:
    """What came of a window.

    Attributes:
        people: Refined, of the window's frames. views: Theirs, all of one size. iterations: Steps taken in all.
        learnt: Steps that changed the avatar.
    """

    people: list[HumanParams]
    views: list[View]
    iterations: int
    learnt: int


def solve(
    learner: Learner,
    items: Sequence[Item],
    keys: Sequence[KeyFrame],
    plan: Plan,
    settings: OnlineSettings,
    budget: Budget,
    rng: np.random.Generator,
    *,
    depth_weight: float = 1.0,
    reserve: float = 0.0,
) -> Solved:
    """Refine a window in place: the avatar, and the corrections of its frames and of the key frames.

    Args:
        items: In order of time. keys: Key frames that are not among them, oldest first.
        budget: Is asked before each step. depth_weight: How far depth is trusted. reserve: Time to be left [s].

    Raises:
        NumericFault: A loss was not finite.
    """
    run = _Run(learner, items, keys, plan, settings, budget, rng, depth_weight, reserve)
    run.poses()
    run.joint()
    return run.result()


class _Run:
    def __init__(self, learner, items, keys, plan, settings, budget, rng, depth_weight, reserve) -> None:
        self.items, self.keys, self.plan, self.settings = items, keys, plan, settings
        self.budget, self.rng, self.reserve, self.seconds = budget, rng, reserve, settings.budget_ms / 1e3
        self.learnt = 0
        for group in learner.optimiser.param_groups:
            group["lr"] = plan.rates.of(group["name"])
        every = [*items, *keys]
        image_hw = tuple(max(frame.view.image_hw[axis] for frame in every) for axis in (0, 1))
        self.views = [padded(frame.view, image_hw) for frame in every]
        device = self.views[0].image.device
        depth = settings.depth and any(bool((view.depth_m > 0).any()) for view in self.views)
        self.refinement = Refinement(
            learner.avatar, self.views, [frame.params for frame in every],
            RefineSettings(
                pose=settings.pose, depth=depth, steps=max(1, self._planned()), color_steps=plan.color_iterations,
                means_decay=plan.means_decay, front_only=settings.front_only, backend=settings.backend,
                exposure=settings.exposure, seed=int(rng.integers(2**31)), losses=settings.losses, rates=plan.rates,
                pose_rates=settings.pose_rates,
            ),
            depth_weight=depth_weight,
            carried=Carried(
                learner.optimiser, learner.terms, self._frame_rates().to(device),
                *(rows.to(device) for rows in self._joints()), _pairs(items, device), learner.stats,
            ),
        )  # fmt: skip
        with torch.no_grad():
            for i, frame in enumerate(every):
                self.refinement.corrections.rotvecs[i] = frame.correction.rotvecs
                self.refinement.corrections.shifts[i] = frame.correction.shift
                self.refinement.exposure.values[i] = frame.correction.exposure
                if frame.correction.row is not None:
                    self.refinement.pose_optimiser.set_row(i, frame.correction.row)
                if frame.correction.exposure_row is not None:
                    self.refinement.exposure_optimiser.set_row(i, frame.correction.exposure_row)

    def poses(self) -> None:
        """New frames alone; the avatar is frozen."""
        new = [i for i, item in enumerate(self.items) if item.new]
        if not new or not self.settings.pose:
            return
        watch, size = Convergence(new), self.settings.batch
        reserve = max(self.reserve, self.seconds * (1 - POSE_SHARE))
        self.budget.begin()
        for _ in range(self.plan.pose_iterations):
            for first in range(0, len(new), size):
                if not self.budget.another(reserve) or self._step(new[first : first + size], watch, learn=False):
                    return

    def joint(self) -> None:
        """Frames of the window and key frames; poses and avatar."""
        window = [i for i, item in enumerate(self.items) if item.for_mapping]
        keys = list(range(len(self.items), len(self.views)))
        if not window:
            return
        watch = Convergence([*window, *keys])
        self.budget.begin()
        for step in range(self.plan.joint_iterations):
            if not self.budget.another(self.reserve):
                return
            done = self._step(self._batch(window, keys, step), watch, learn=True)
            self.learnt += 1
            if done and self.plan.converge:
                return

    def result(self) -> Solved:
        refinement = self.refinement
        rotvecs, shifts, exposures = (
            p.detach().clone()
            for p in (refinement.corrections.rotvecs, refinement.corrections.shifts, refinement.exposure.values)
        )
        people = refinement.people()
        for i, frame in enumerate([*self.items, *self.keys]):
            frame.correction = Correction(
                rotvecs[i], shifts[i], exposures[i],
                refinement.pose_optimiser.row(i), refinement.exposure_optimiser.row(i),
            )  # fmt: skip
        n = len(self.items)
        return Solved(people[:n], self.views[:n], refinement.steps_done, self.learnt)

    def _step(self, frames: list[int], watch: Convergence, *, learn: bool) -> bool:
        total = self.refinement.step(frames, learn=learn)["total"]
        if not np.isfinite(total):
            raise NumericFault("the loss is not finite")
        corrections = self.refinement.corrections
        return watch.add(frames, total, corrections.rotvecs, corrections.shifts)

    def _batch(self, window: list[int], keys: list[int], step: int) -> list[int]:
        """Half of the batch from the window, half from the key frames; with one frame a step they take turns."""
        size = self.settings.batch
        of_keys = min(len(keys), size // 2 if size > 1 else step % 2)
        of_window = min(len(window), size - of_keys)
        picked = [self.rng.choice(window, of_window, replace=False), self.rng.choice(keys, of_keys, replace=False)]
        return [int(i) for part in picked for i in part]

    def _planned(self) -> int:
        new = sum(item.new for item in self.items)
        return self.plan.pose_iterations * -(-new // self.settings.batch) + self.plan.joint_iterations

    def _frame_rates(self) -> torch.Tensor:
        rates = torch.ones(len(self.items) + len(self.keys))
        if self.plan.hold_keys:
            rates[len(self.items) :] = KEY_RATE
            rates[len(self.items) : len(self.items) + min(STILL_KEYS, max(0, len(self.keys) - 1))] = 0
        return rates

    def _joints(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of the joints' rates and the weights of their priors, both (T, 22)."""
        n = len(self.items) + len(self.keys)
        rates = joint_rates().repeat(n, 1)
        priors = (rates > 0).float()
        for i, item in enumerate(self.items):
            if item.joints is not None:
                rates[i] = item.joints.rates()
                priors[i] = item.joints.priors()
        return rates, priors


def _pairs(items: Sequence[Item], device: torch.device) -> Pairs | None:
    stamps = np.array([item.view.stamp_ns for item in items])
    gaps = np.diff(stamps) * 1e-9 / FRAME_S
    near = np.flatnonzero(gaps <= MAX_GAP)
    if not len(near):
        return None
    first = torch.as_tensor(near, device=device)
    return Pairs(first, first + 1, torch.as_tensor(np.maximum(gaps[near], 1.0), dtype=torch.float32, device=device))


def scaled_rates(rates: GaussianRates, factor: float, *, colors: float = 1.0) -> GaussianRates:
    """Return all rates times a factor, those of colours and opacities times another one besides."""
    return replace(
        rates,
        **{name: getattr(rates, name) * factor for name in ("mu", "quat", "scale", "dw")},
        **{name: min(1.0, getattr(rates, name) * factor * colors) for name in ("opacity", "sh0")},
    )
