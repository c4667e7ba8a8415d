"""Choose where masks come from, and judge each before anybody uses it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..errors import HsrError
from ..geometry.view import BodyView, FrameView
from ..model_files import NetworkPlace
from ..registry import create as create_by_name
from ..types import Array
from .base import MaskFrame, MaskProvider, MaskSettings
from .quality import MaskWatch, judge
from .sam2_files import CHECKPOINT, FILES, ONNX

log = logging.getLogger(__name__)
__all__ = ["FILES", "MaskSelector", "open_masks"]


class MaskSelector:
    """Takes each person's mask from the first provider that has one, and says how far to trust it.

    A mask that is rejected is not replaced by the next provider's: that it disagrees with the body is evidence about
    the body, which the body's own outline would only hide.

    Args:
        providers: Best first.
        settings: Group `mask`.
    """

    def __init__(self, providers: Sequence[MaskProvider], settings: MaskSettings) -> None:
        self.providers = list(providers)
        self._settings = settings
        self._watches: dict[int, MaskWatch] = {}

    @property
    def name(self) -> str:
        """The providers in use, best first."""
        return ", ".join(provider.name for provider in self.providers)

    def provider(self, name: str) -> MaskProvider | None:
        """Return a provider by name, to feed it; None when it is not among those in use."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def masks_for(self, view: FrameView) -> list[MaskFrame]:
        """Return a mask for every body that one was found for, in the order of the bodies; bad ones have quality 0."""
        self._watches = {body.track_id: self._watches.get(body.track_id, MaskWatch()) for body in view.bodies}
        found = (self._mask_for(view, body) for body in view.bodies)
        return [mask for mask in found if mask is not None]

    def reset(self) -> None:
        """Forget what came before (scene cut, clock set back)."""
        self._watches.clear()
        for provider in self.providers:
            provider.reset()

    def close(self) -> None:
        for provider in self.providers:
            provider.close()

    def _mask_for(self, view: FrameView, body: BodyView) -> MaskFrame | None:
        for provider in self.providers:
            prob = provider.prob_for(view, body)
            if prob is not None:
                return self._judged(provider, prob, view, body)
        return None

    def _judged(self, provider: MaskProvider, prob: Array, view: FrameView, body: BodyView) -> MaskFrame:
        others = [other for other in view.bodies if other is not body]
        verdict = judge(prob, body, others, provider.traits, self._settings.cloth_m)
        mask = MaskFrame(
            prob=prob,
            track_id=body.track_id,
            stamp_ns=view.stamp_ns,
            quality=verdict.quality,
            touches_border=verdict.touches_border,
            provider=provider.name,
            traits=provider.traits,
            reason=verdict.reason,
        )
        if mask.reason:
            provider.lost(body.track_id)
            return mask
        jump, anew = self._watches[body.track_id].check(mask.sure, body, verdict.overlap)
        if anew:
            provider.lost(body.track_id)
        return replace(mask, quality=0.0, reason=jump) if jump else mask


def open_masks(
    settings: MaskSettings, *, place: NetworkPlace | None = None, topic: bool = True, gpu: bool | None = None
) -> MaskSelector:
    """Open the providers that the settings ask for.

    `auto` takes what is there: the topic, SAM 2 when its files are in place and there is a GPU, the landmark network,
    the body's outline. A provider that is named is opened or refused; the body's outline stands behind it.

    Args:
        settings: Group `mask`.
        place: Where networks lie and what runs them.
        topic: False when there is no mask topic to wait for (a clip).
        gpu: Whether there is one; None = ask torch, where it matters.

    Raises:
        MissingFile, MissingPackage, BadFile, DeviceError: A named provider cannot be used; the message says what to
            get where.
    """
    place = place or NetworkPlace()
    if settings.provider != "auto":
        names = (settings.provider,) if settings.provider == "mesh" else (settings.provider, "mesh")
        providers = [create_by_name("mask", name, settings, place=place) for name in names]
    else:
        providers = [create_by_name("mask", "topic", settings)] if topic else []
        there = [name for name, files in (("sam2_image", CHECKPOINT), ("sam2_onnx", ONNX)) if files.find(place.folder)]
        if there and (_gpu(place) if gpu is None else gpu):
            providers += _if_possible(there[0], settings, place)
        providers += _if_possible("landmarks", settings, place)
        providers += _if_possible("mesh", settings, place)
    log.info("masks: %s", ", then ".join(provider.name for provider in providers))
    return MaskSelector(providers, settings)


def _gpu(place: NetworkPlace) -> bool:
    if place.device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def _if_possible(name: str, settings: MaskSettings, place: NetworkPlace) -> list[MaskProvider]:
    try:
        return [create_by_name("mask", name, settings, place=place)]
    except HsrError as error:
        log.warning("masks: %s is left out: %s", name, error)
        return []
