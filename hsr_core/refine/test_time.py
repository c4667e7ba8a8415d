"""Fit the pose of one more frame to a finished avatar: how withheld frames are judged, and new ones begun."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config import setting
from ..types import HumanParams
from . import losses
from .avatar import Avatar
from .losses import LossSettings
from .optimise import corrected_people
from .pose import LazyAdam, PoseCorrections, joint_rates
from .render import render
from .view import View

WHITE = 1.0


@dataclass(frozen=True)
class TestTimeSettings:
    """Adam on one frame's pose and place; the avatar is frozen."""

    __test__ = False

    steps: int = setting(50, "Steps", low=0, high=10_000)
    rate: float = setting(3e-3, "Learning rate at the start [rad], [m]", low=0, high=1)
    halve_every: int = setting(20, "Steps after which the rate is halved", low=1, high=10_000)
    backend: str = setting("auto", "Renderer", choices=("auto", "gsplat", "cpu", "torch"))


def fit_pose(
    avatar: Avatar,
    view: View,
    person: HumanParams,
    weights: LossSettings,
    settings: TestTimeSettings | None = None,
) -> tuple[HumanParams, float]:
    """Return the pose with the least objective that was met on the way, and that objective.

    Colour on white, and the prior towards the given pose; no depth, as pictures are what is judged.
    """
    settings = settings or TestTimeSettings()
    device = view.image.device
    corrections = PoseCorrections([person]).to(device)
    optimiser = LazyAdam([corrections.rotvecs, corrections.shifts])
    frame = torch.zeros(1, dtype=torch.long, device=device)
    rates = joint_rates().to(device)[:, None]
    background = view.image.new_full((1, 3), WHITE)
    target = losses.composite(view.image[None], view.mask[None], background)
    best, kept = float("inf"), [p.detach().clone() for p in corrections.parameters()]
    for step in range(settings.steps + 1):
        rotmats, transl = corrections(frame)
        drawn = render(
            avatar.pose(rotmats, transl), view.K[None], view.image_hw, background,
            backend=settings.backend, max_weight=False,
        )  # fmt: skip
        loss = losses.color(drawn.color, target, weights, view.valid[None])
        loss = loss + weights.reg * losses.pose_prior(
            corrections.rotvecs, corrections.shifts, torch.ones_like(rates[:, 0])
        )
        value = float(loss.detach())
        if value < best:
            best, kept = value, [p.detach().clone() for p in corrections.parameters()]
        if step == settings.steps:
            break
        gradients = torch.autograd.grad(loss, list(corrections.parameters()))
        for p, gradient in zip(corrections.parameters(), gradients, strict=True):
            p.grad = gradient
        rate = settings.rate * 0.5 ** (step // settings.halve_every)
        if not optimiser.step(frame, [rate * rates, rate]):
            break
    with torch.no_grad():
        for p, value in zip(corrections.parameters(), kept, strict=True):
            p.copy_(value)
    return corrected_people(corrections, [person])[0], best
