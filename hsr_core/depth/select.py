"""Choose where depth comes from, and change over when it stops or comes back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import HsrError
from ..geometry.regions import shrink
from ..geometry.view import FrameView
from ..model_files import NetworkPlace
from ..registry import create as create_by_name
from .base import DepthFrame, DepthProvider, DepthSettings
from .files import SIZES, onnx_files, package_files

log = logging.getLogger(__name__)
MIN_COVERAGE = 0.3
"""Share of the person that must have depth for a frame to count."""
DOWN_S, UP_S = 1.0, 2.0
"""Without valid depth for so long the next provider is used; with it for so long the better one again."""
_ORDER = ("topic", "unidepth_v2_onnx", "unidepth_v2", "body_height")
_NETWORKS = ("unidepth_v2_onnx", "unidepth_v2")
FILES = (*(package_files(size) for size in SIZES), *(onnx_files(size) for size in SIZES))
"""Everything a user can put in place for depth; see `hsr_core.model_files.report`."""


@dataclass
class _State:
    good_since_ns: int | None = None
    last_good_ns: int | None = None


class DepthSelector:
    """Asks providers, best first, and keeps to one until it fails for `DOWN_S` or a better one works for `UP_S`.

    Time is that of the images' stamps. On a change `changes` grows: the depth initialisation must then run again.

    Args:
        providers: Best first, at least one.
        every_n: Ask a network for every n-th frame only.

    Attributes:
        changes: How often the provider has changed.
    """

    def __init__(self, providers: Sequence[DepthProvider], *, every_n: int = 1) -> None:
        self.providers = list(providers)
        self.changes = 0
        self._every_n, self._calls = every_n, 0
        self._active = 0
        self._states = [_State() for _ in self.providers]
        self._since_ns: int | None = None

    @property
    def name(self) -> str:
        """The provider in use."""
        return self.providers[self._active].name

    @property
    def status(self) -> str:
        """Why there was no depth; of the provider in use."""
        return self.providers[self._active].status

    def provider(self, name: str) -> DepthProvider | None:
        """Return a provider by name, to feed it; None when it is not among those in use."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def depth_for(self, view: FrameView) -> DepthFrame | None:
        """Return depth of the provider in use, or None when it has none for this image."""
        now = view.stamp_ns
        if self._since_ns is None:
            self._since_ns = now
        turn = self._calls % self._every_n == 0
        self._calls += 1
        frames: dict[int, DepthFrame | None] = {}
        for rank in range(self._active + 1):
            if self.providers[rank].name in _NETWORKS and not turn:
                continue
            frames[rank] = self._ask(rank, view)
        self._change_over(now, frames, view)
        return frames.get(self._active)

    def reset(self) -> None:
        """Forget times and what providers remember (scene cut, clock set back); the provider in use stays."""
        for provider in self.providers:
            provider.reset()
        self._states = [_State() for _ in self.providers]
        self._since_ns = None

    def close(self) -> None:
        for provider in self.providers:
            provider.close()

    def _ask(self, rank: int, view: FrameView) -> DepthFrame | None:
        frame = self.providers[rank].depth_for(view)
        if frame is not None and not self._covers(frame, view):
            self.providers[rank].status = f"less than {MIN_COVERAGE:.0%} of every person has depth"
            frame = None
        state = self._states[rank]
        if frame is None:
            state.good_since_ns = None
        else:
            state.last_good_ns = view.stamp_ns
            if state.good_since_ns is None:
                state.good_since_ns = view.stamp_ns
        return frame

    def _covers(self, frame: DepthFrame, view: FrameView) -> bool:
        """True when somebody has depth, or when it is not known where anybody is."""
        bodies = [body for body in view.bodies if body.mask.any()]
        return not bodies or any(
            frame.coverage(shrink(body.mask, max(1, 0.004 * body.height_px))) >= MIN_COVERAGE for body in bodies
        )

    def _change_over(self, now: int, frames: dict[int, DepthFrame | None], view: FrameView) -> None:
        for rank in range(self._active):
            since = self._states[rank].good_since_ns
            if since is not None and now - since >= UP_S * 1e9:
                self._switch(rank, now)
                return
        last = self._states[self._active].last_good_ns
        waited = now - max(self._since_ns if last is None else last, self._since_ns)
        if waited >= DOWN_S * 1e9 and self._active + 1 < len(self.providers):
            self._switch(self._active + 1, now)
            frames[self._active] = self._ask(self._active, view)

    def _switch(self, rank: int, now: int) -> None:
        old = self.providers[self._active]
        reason = f" ({old.status})" if rank > self._active and old.status else ""
        log.warning("depth: %s instead of %s%s", self.providers[rank].name, old.name, reason)
        self._active, self._since_ns = rank, now
        self.changes += 1


def open_depth(
    settings: DepthSettings, *, place: NetworkPlace | None = None, height_m: float = 0.0, topic: bool = True
) -> DepthSelector:
    """Open the providers that the settings ask for.

    `auto` takes what is there: the topic, a network when its files are in place and its licence has been accepted, the
    body's height. A provider that is named is opened or refused.

    Args:
        settings: Group `depth`.
        place: Where networks lie and what runs them.
        height_m: Height of the person; 0 = unknown.
        topic: False when there is no depth topic to wait for (a clip).

    Raises:
        ConfigError, MissingFile, MissingPackage, BadFile, DeviceError: A named provider cannot be used; the message
            says what to get where, or which setting accepts its licence.
    """
    place = place or NetworkPlace()
    if not settings.enabled:
        names: tuple[str, ...] = ("none",)
    elif settings.provider != "auto":
        names = (settings.provider,)
    else:
        names = tuple(name for name in _ORDER if topic or name != "topic")
    providers: list[DepthProvider] = []
    for name in names:
        if name in _NETWORKS and len(names) > 1:
            network = None if any(p.name in _NETWORKS for p in providers) else _network_if_there(name, settings, place)
            if network is not None:
                providers.append(network)
            continue
        providers.append(create_by_name("depth", name, settings, place=place, height_m=height_m))
    log.info("depth: %s", ", then ".join(provider.name for provider in providers))
    return DepthSelector(providers, every_n=settings.every_n)


def _network_if_there(name: str, settings: DepthSettings, place: NetworkPlace) -> DepthProvider | None:
    files = (onnx_files if name == "unidepth_v2_onnx" else package_files)(settings.unidepth_size)
    if files.find(place.folder) is None:
        return None
    if not settings.accept_noncommercial:
        log.info("depth: %s is there and not used: depth.accept_noncommercial is false (%s)", name, files.licence)
        return None
    try:
        return create_by_name("depth", name, settings, place=place)
    except HsrError as error:
        log.warning("depth: %s is left out: %s", name, error)
        return None
