"""What a mask provider delivers, its settings, and the regions the refinement uses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..config import setting
from ..errors import ShapeError
from ..geometry.regions import Mask, bounds, grow, shrink
from ..geometry.view import BodyView, FrameView
from ..types import Array

MAPPING_MIN, POSE_MIN = 0.35, 0.2
"""Least quality for a frame to change the avatar's Gaussians, and to change the pose."""
SURE = 0.5
"""Probability above which a pixel counts as the person."""
_SILHOUETTE_SHARE = 0.004
"""Of the person's height: how far mixed and flying pixels reach from the silhouette."""


@dataclass(frozen=True)
class MaskSettings:
    """Settings of masks, all of the refinement node (group `mask`)."""

    provider: str = setting(
        "auto",
        "Where masks come from; auto: the topic, SAM 2 on a GPU, the landmark network, the body's outline",
        choices=("auto", "topic", "sam2_image", "sam2_video", "sam2_onnx", "landmarks", "mesh"),
    )
    max_offset_s: float = setting(0.015, "Most time between image and mask [s]", low=0, high=0.1)
    ids_are_tracks: bool = setting(False, "Values of a 16UC1 mask are our track ids modulo 65536")
    cloth_m: float = setting(0.02, "How far clothes stand off the body [m]", low=0, high=0.2)
    session_frames: int = setting(
        300, "SAM 2 video: start afresh from the last good mask after so many", low=10, high=10000
    )


@dataclass(frozen=True)
class Traits:
    """What masks of one origin are good for.

    Attributes:
        trust: Factor of the quality.
        band_px: Least reach of the uncertain band around the outline.
        max_weight: Most weight of the refinement's mask term.
        composite: False = what is outside is not known to be background; the image is compared inside the mask only.
    """

    trust: float
    band_px: int = 0
    max_weight: float = 1.0
    composite: bool = True


SHARP = Traits(1.0)
LANDMARKS = Traits(0.6, band_px=6, max_weight=0.05)
"""The landmark network's outline is soft by 3 to 8 px of a person 500 px tall."""
OWN_OUTLINE = Traits(0.3, max_weight=0.0, composite=False)
"""The body's own outline only confirms itself."""


@dataclass(frozen=True, eq=False)
class MaskFrame:
    """One person's mask in one image.

    Attributes:
        prob: float32 (H, W), probability that the pixel shows this person.
        track_id: Of the body track.
        stamp_ns: Of the colour image.
        quality: [0, 1]; 0 when it was rejected.
        touches_border: The mask touches the image's border: part of the person may be outside.
        provider: Name of what made it.
        traits: What it is good for.
        reason: Why it was rejected; "" when it was not.
    """

    prob: Array
    track_id: int
    stamp_ns: int
    quality: float
    touches_border: bool
    provider: str
    traits: Traits
    reason: str = ""

    @property
    def for_pose(self) -> bool:
        """Good enough to refine the pose with."""
        return self.quality >= POSE_MIN

    @property
    def for_mapping(self) -> bool:
        """Good enough to change the avatar with."""
        return self.quality >= MAPPING_MIN

    @cached_property
    def sure(self) -> Mask:
        """Where the person is likelier than not (H, W)."""
        return self.prob > SURE


class MaskProvider(Protocol):
    """Masks of one image. Called from one thread at a time.

    Attributes:
        name: Registry name.
        traits: Of its masks.
        status: Why the last call gave nothing; one line for the diagnostics.
    """

    name: str
    traits: Traits
    status: str

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        """Return the probability of `body`'s person, float32 (H, W), or None when nothing is known."""
        ...

    def lost(self, track_id: int) -> None:
        """Take note that the last mask of this person was bad: prompt anew."""
        ...

    def reset(self) -> None:
        """Forget what came before (scene cut, clock set back)."""
        ...

    def close(self) -> None:
        """Release networks. The object cannot be used afterwards."""
        ...


class StatelessProvider:
    """What providers share that remember nothing between images."""

    name = ""
    status = ""

    def lost(self, track_id: int) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Nothing to release."""


def contested(masks: list[MaskFrame], least: float = 0.3) -> Mask | None:
    """Return where two people are both likely, (H, W): of no use for either, and not background. None for one person.

    Args:
        masks: Of one image.
        least: Probability that counts as a claim.
    """
    if len(masks) < 2:
        return None
    if len({mask.prob.shape for mask in masks}) > 1:
        raise ShapeError(f"masks of one image have one shape, not {[mask.prob.shape for mask in masks]}")
    return sum((mask.prob > least).astype(np.uint8) for mask in masks) > 1


def core_and_band(sure: Mask, traits: Traits, scale: float = 1.0) -> tuple[Mask, Mask]:
    """Return what is surely the person, clear of the outline, and what lies around the outline; both (H, W).

    Args:
        sure: Where the person is likelier than not.
        traits: Of the mask.
        scale: Of this picture, of the one that the mask was made on.
    """
    box = bounds(sure)
    reach = max(1, round(_SILHOUETTE_SHARE * (box[3] - box[1]))) if box else 1
    core = shrink(sure, max(reach, traits.band_px // 2 * scale))
    return core, grow(sure, max(2 * reach, traits.band_px * scale)) & ~core
