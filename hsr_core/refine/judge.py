"""Is the refined state better than the one that came in? Judged on pixels that no loss has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array, HumanParams
from . import losses
from .avatar import Avatar
from .exposure import exposed
from .render import render
from .view import View

LEAST_GAIN = 0.02
"""The objective on held-out pixels has to fall by this part."""
DEPTH_WEIGHT = 0.1
MAX_JOINT_TURN_RAD = float(np.radians(35))
MAX_ROOT_TURN_RAD = float(np.radians(25))
MAX_SHIFT_M = 0.4
MAX_SHIFT_OF_DEPTH = 0.15
MAX_IOU_LOSS = 0.01


@dataclass(frozen=True)
class Verdict:
    """What a refinement did to the pixels that it had not seen.

    Attributes:
        accepted: Whether to publish it. reason: Why not; "" when it is.
        before, after: Objective on the held-out pixels with the incoming and with the refined poses.
        iou_before, iou_after: Of rendered and given mask, mean over the frames.
        psnr_db: Inside the mask with the refined poses, mean over the frames.
    """

    accepted: bool
    reason: str
    before: float
    after: float
    iou_before: float
    iou_after: float
    psnr_db: float = float("nan")


@torch.no_grad()
def judge(
    avatar: Avatar,
    views: Sequence[View],
    incoming: Sequence[HumanParams],
    refined: Sequence[HumanParams],
    *,
    exposure: Tensor | None = None,
    backend: str = "auto",
) -> Verdict:
    """Compare incoming and refined poses of the same frames under the same avatar.

    Args:
        exposure: (T, 2, 3) of the frames, see `Exposure`; the same for both. None = as they are.
    """
    if not all(person.finite() for person in refined):
        return Verdict(False, "not finite", float("nan"), float("nan"), float("nan"), float("nan"))
    scores = [_scores(avatar, views, people, exposure, backend) for people in (incoming, refined)]
    (before, iou_before, _), (after, iou_after, psnr_db) = scores
    reason = _too_far(incoming, refined)
    if not reason and not after <= (1 - LEAST_GAIN) * before:
        reason = f"held-out pixels are not explained better: {before:.4f} before, {after:.4f} after"
    if not reason and iou_after < iou_before - MAX_IOU_LOSS:
        reason = f"the outline fits less: IoU {iou_before:.3f} before, {iou_after:.3f} after"
    return Verdict(not reason, reason, before, after, iou_before, iou_after, psnr_db)


def _scores(
    avatar: Avatar, views: Sequence[View], people: Sequence[HumanParams], exposure: Tensor | None, backend: str
) -> tuple[float, float, float]:
    errors, overlaps, psnrs = [], [], []
    for i, (view, person) in enumerate(zip(views, people, strict=True)):
        white = view.image.new_ones(1, 3)
        gaussians = avatar.pose_person(person)
        drawn = render(gaussians, view.K[None], view.image_hw, white, backend=backend, max_weight=False)
        picture = drawn.color if exposure is None else exposed(exposure[i : i + 1], drawn.color, drawn.alpha, white)
        target = losses.composite(view.image[None], view.mask[None], white)
        held = view.held_out if bool(view.held_out.any()) else view.mask > 0.5
        error = losses.absolute_difference(picture, target, held[None])
        if view.held_out_depth_m is not None:
            error = error + DEPTH_WEIGHT * _depth_error(drawn.depth[0], view.held_out_depth_m)
        errors.append(float(error))
        overlaps.append(_iou(drawn.alpha[0] > 0.5, view.mask > 0.5))
        squares = (picture[0] - target[0])[view.mask > 0.5].square()
        psnrs.append(-10 * float(squares.mean().clamp_min(1e-10).log10()) if squares.numel() else float("nan"))
    return float(np.mean(errors)), float(np.mean(overlaps)), float(np.mean(psnrs))


def _depth_error(depth: Tensor, measured: Tensor) -> Tensor:
    counted = (measured > 0) & (depth > 0)
    return torch.where(counted, (depth - measured).abs(), 0).sum() / counted.sum().clamp_min(1)


def _iou(a: Tensor, b: Tensor) -> float:
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0


def _too_far(incoming: Sequence[HumanParams], refined: Sequence[HumanParams]) -> str:
    for before, after in zip(incoming, refined, strict=True):
        turns = _angles(before, after)
        if turns[0] > MAX_ROOT_TURN_RAD:
            return f"the root turned by {np.degrees(turns[0]):.0f} degrees"
        if turns[1:].max() > MAX_JOINT_TURN_RAD:
            return f"a joint turned by {np.degrees(turns[1:].max()):.0f} degrees"
        shift = float(np.linalg.norm(after.transl - before.transl))
        if shift > max(MAX_SHIFT_M, MAX_SHIFT_OF_DEPTH * abs(float(before.transl[2]))):
            return f"the person moved by {shift:.2f} m"
    return ""


def _angles(before: HumanParams, after: HumanParams) -> Array:
    """Return by how much root and body joints turned (22,) [rad]."""
    a, b = (rotvec_to_rotmat(np.concatenate([p.global_orient[None], p.body_pose]).astype(np.float64))
            for p in (before, after))  # fmt: skip
    return np.linalg.norm(rotmat_to_rotvec(np.swapaxes(a, 1, 2) @ b), axis=1)
