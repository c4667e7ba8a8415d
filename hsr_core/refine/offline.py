"""Refine one person over a whole clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..body.ehm import EhmBody
from ..config import setting
from ..errors import ShapeError
from ..geometry.camera import project
from ..threads import few_torch_threads
from ..types import Camera, HumanParams
from .avatar import Avatar, AvatarSettings, build_avatar
from .avatar_init import ColorView, vertex_colors
from .avatar_terms import AvatarTerms
from .density import DensitySettings, ScreenStats
from .frames import RefineFrame
from .gates import large_hands
from .gaussian_adam import gaussian_adam, raise_sh_degree
from .judge import Verdict, judge
from .learner import Learner
from .optimise import Carried, Refinement, RefineSettings
from .pose import joint_rates
from .shape import SHAPE_FRAMES, OneShape
from .skin import CanonicalBody
from .stage_zero import place_people
from .view import View, Window, common_windows, person_window, prepare_view

COLOR_VIEWS = 3
LAST_GROWTH = 0.8


@dataclass(frozen=True)
class OfflineSettings:
    """Of `hsr refine`. Clips have hundreds of steps to a frame and no hurry."""

    max_height_px: int = setting(384, "The person is shrunk to this height [px]", low=32, high=4096)
    held_out: float = setting(0.1, "Part of the picture that is kept for judging", low=0, high=0.5)
    stage_zero: bool = setting(True, "Put people where depth has them first")
    density_every: int = setting(
        200, "Steps from adding and removing Gaussians to the next time, up to 80 %; 0 = never", low=0, high=100_000
    )
    sh_degree: int = setting(1, "Of the colours, from half of the steps on", low=0, high=1)
    avatar: AvatarSettings = field(default_factory=AvatarSettings)
    density: DensitySettings = field(default_factory=lambda: DensitySettings(cap=30_000))
    refine: RefineSettings = field(default_factory=RefineSettings)


@dataclass(frozen=True, eq=False)
class RefinedClip:
    """What came of a clip.

    Attributes:
        people: The refined parameters, one for each frame; the input's where the verdict is against them.
        incoming: The input's, with the person's one shape.
        candidate: What was refined, accepted or not.
        avatar: Learnt on the way. views: As optimised. windows: Of the images, that they were cut to.
        verdict: On held-out pixels. curves: Each term of the objective, by step.
    """

    people: list[HumanParams]
    incoming: list[HumanParams]
    candidate: list[HumanParams]
    avatar: Avatar
    views: list[View]
    windows: list[Window]
    verdict: Verdict
    curves: dict[str, list[float]]


def refine_clip(
    frames: Sequence[RefineFrame],
    body: EhmBody,
    settings: OfflineSettings | None = None,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
) -> RefinedClip:
    """Learn an avatar of the person and refine their poses and places.

    Args:
        frames: Of one person and one camera.
        body: Whose parameters the frames carry.
        on_step: Called after each step with its number and terms.

    Raises:
        ShapeError: No frames.
    """
    if not frames:
        raise ShapeError("there is no frame to refine: nobody was seen, or no mask was good enough")
    settings = settings or OfflineSettings()
    incoming = with_one_shape([frame.params for frame in frames], body)
    start = place_people(frames, incoming, body) if settings.stage_zero else incoming
    windows = clip_windows(frames, start, body, max_height_px=settings.max_height_px)
    views = [prepare_view(f, w, held_out=settings.held_out) for f, w in zip(frames, windows, strict=True)]
    avatar = first_avatar(frames, start, body, settings.avatar)
    hands = [
        large_hands(body.pose_one(p, vertices=False).joints, Camera(f.K, f.image_hw), w.scale)
        for f, p, w in zip(frames, start, windows, strict=True)
    ]
    rates = torch.stack([joint_rates(large_hands=large) for large in hands]).to(avatar.opacity_logits.device)
    learner = Learner(
        avatar,
        gaussian_adam(avatar, settings.refine.rates),
        AvatarTerms(avatar, settings.refine.losses),
        ScreenStats(avatar.n_gaussians, rates.device),
    )
    carried = Carried(learner.optimiser, learner.terms, joint_rates=rates, stats=learner.stats)
    refinement = Refinement(avatar, views, start, settings.refine, carried=carried)
    generator = torch.Generator().manual_seed(settings.refine.seed)
    curves: dict[str, list[float]] = {}
    with few_torch_threads():
        for step in range(settings.refine.steps):
            terms = refinement.step()
            for name, value in terms.items():
                curves.setdefault(name, []).append(value)
            on_step(step, terms)
            _change(step + 1, settings, learner, generator)
        candidate = refinement.people()
        exposure = refinement.exposure.values.detach() if settings.refine.exposure else None
        verdict = judge(avatar, views, incoming, candidate, exposure=exposure, backend=settings.refine.backend)
    people = candidate if verdict.accepted else incoming
    return RefinedClip(people, incoming, candidate, avatar, views, windows, verdict, curves)


def _change(step: int, settings: OfflineSettings, learner: Learner, generator: torch.Generator) -> None:
    """Between two steps: more Gaussians where the image asks for them, and colours of a higher degree."""
    steps, every = settings.refine.steps, settings.density_every
    if settings.sh_degree and step == steps // 2:
        raise_sh_degree(learner.avatar, learner.optimiser)
    if every and step % every == 0 and step <= LAST_GROWTH * steps:
        learner.densify(settings.density, settings.refine.losses.delta_m, generator)


def with_one_shape(people: Sequence[HumanParams], body: EhmBody) -> list[HumanParams]:
    """Give everybody the median shape of the first frames: one person has one body. The face's motion is frozen too."""
    shape = OneShape.of(body, people[:SHAPE_FRAMES])
    return [shape.on(person) for person in people] if shape else list(people)


def clip_windows(
    frames: Sequence[RefineFrame], people: Sequence[HumanParams], body: EhmBody, *, max_height_px: int
) -> list[Window]:
    """Return a window around each frame's person; all have one size and scale."""
    windows = []
    for frame, person in zip(frames, people, strict=True):
        uv = project(body.pose_one(person).vertices, Camera(frame.K, frame.image_hw))
        windows.append(person_window(frame.mask, uv, max_height_px=max_height_px))
    return common_windows(windows, frames[0].image_hw)


def first_avatar(
    frames: Sequence[RefineFrame], people: Sequence[HumanParams], body: EhmBody, settings: AvatarSettings
) -> Avatar:
    """Return the person's avatar before any step, with colours from a few frames spread over the clip."""
    canonical = CanonicalBody.from_body(body, people[0])
    chosen = np.unique(np.linspace(0, len(frames) - 1, COLOR_VIEWS).round().astype(int))
    colors = first_colors(canonical, [frames[i] for i in chosen], [people[i] for i in chosen], body)
    return build_avatar(canonical, settings, colors=colors)


def first_colors(
    canonical: CanonicalBody, frames: Sequence[RefineFrame], people: Sequence[HumanParams], body: EhmBody
) -> Tensor:
    """Return the colours of the body's vertices as a few frames show them (V, 3)."""
    views = [
        ColorView(body.pose_one(person).vertices, frame.image, frame.mask, frame.K)
        for frame, person in zip(frames, people, strict=True)
    ]
    return torch.as_tensor(vertex_colors(canonical.vertices.numpy(), body.faces, views)[0])
