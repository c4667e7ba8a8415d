"""What leaves the online refinement: one record a window, and what to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..types import Array, HumanParams

if TYPE_CHECKING:  # importing this module imports no torch
    from .scene import PosedGaussians

STATUSES = ("idle", "bootstrap", "track", "coast", "parked")


@dataclass(frozen=True, eq=False)
class WindowQuality:
    """How good a window is, and why it is not published.

    Attributes:
        accepted: Whether its people are better than what came in.
        reason: Why not; "" when it is.
        status: Of the person after the window, one of `STATUSES`.
        frames: Optimised in this window. iterations: Steps taken. seconds: Spent, by the clock of the budget.
        before, after: Objective on held-out pixels with the incoming and with the refined poses; NaN: not measured.
        psnr_db: Of the rendered person inside the mask. iou: Of rendered and given mask. NaN: not measured.
        depth_source: Where the depth in use came from, "none" without.
        gaussians: Of the avatar, 0 without one.
    """

    accepted: bool
    reason: str
    status: str
    frames: int = 0
    iterations: int = 0
    seconds: float = 0.0
    before: float = float("nan")
    after: float = float("nan")
    psnr_db: float = float("nan")
    iou: float = float("nan")
    depth_source: str = "none"
    gaussians: int = 0


@dataclass(frozen=True, eq=False)
class RefinedWindow:
    """One person's frames of one window.

    Attributes:
        track_id: Of the person.
        stamps_ns: Of the frames in `people`, rising; each stamp of a person is given once. Of a window that is not
            accepted: of the frames that were looked at.
        people: Refined, one for each stamp; empty when the window is not accepted.
        quality: Of the window.
        avatar_version: Grows with every change of the person's avatar; 0 = there is none.
    """

    track_id: int
    stamps_ns: tuple[int, ...]
    people: tuple[HumanParams, ...]
    quality: WindowQuality
    avatar_version: int


@dataclass(frozen=True, eq=False)
class AvatarView:
    """An avatar in its last refined pose, to be drawn. Nothing of it changes any more.

    Attributes:
        gaussians: B = 1, camera frame, on the refiner's device.
        params: The pose. stamp_ns: Of its frame.
        K: (3, 3) [px] of that frame, pixel centres at integers. image_hw: Its size.
        version: `RefinedWindow.avatar_version`.
    """

    gaussians: PosedGaussians
    params: HumanParams
    stamp_ns: int
    K: Array
    image_hw: tuple[int, int]
    version: int
