"""The frames that an avatar remembers: few, and different from each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Array, HumanParams
from .corrections import Correction
from .gates import Observation
from .online_settings import KeyframeSettings
from .view import View

_BIN_DEG = 30.0
_KEPT_NEWEST = 2
_SHARPNESS_FRAMES = 60


@dataclass(eq=False)
class KeyFrame:
    """A remembered frame. Its correction goes on being refined.

    Attributes:
        index, stamp_ns: Of the frame. view, params: As optimised. azimuth, limbs, colors: See `Observation`.
    """

    index: int
    stamp_ns: int
    view: View
    params: HumanParams
    correction: Correction
    azimuth: float
    limbs: Array
    colors: Array


class KeyFrames:
    """The set, in order of time.

    Attributes:
        frames: Oldest first.
    """

    def __init__(self, settings: KeyframeSettings) -> None:
        self.settings = settings
        self.frames: list[KeyFrame] = []
        self._seen: NDArray[np.bool_] | None = None
        self._sharpness: deque[float] = deque(maxlen=_SHARPNESS_FRAMES)

    def __len__(self) -> int:
        return len(self.frames)

    def clear(self) -> None:
        self.frames, self._seen = [], None
        self._sharpness.clear()

    def watch(self, observations: Sequence[Observation]) -> None:
        """Take note of how sharp the frames of a window are."""
        self._sharpness.extend(observation.entry.sharpness for observation in observations)

    def wanted(self, observation: Observation) -> bool:
        """Return whether a frame shows something that no key frame shows."""
        s = self.settings
        if observation.problem or not observation.for_mapping:
            return False
        if self._sharpness and observation.entry.sharpness < s.sharpness * float(np.median(self._sharpness)):
            return False
        if not self.frames:
            return True
        newest = max(self.frames, key=lambda key: key.index)
        if any(abs(observation.entry.index - key.index) < s.spacing for key in self.frames):
            return False
        if observation.stamp_ns - newest.stamp_ns > s.max_age_s * 1e9:
            return True
        assert observation.limbs is not None
        aside = min(turned_deg(observation.azimuth, key.azimuth) for key in self.frames)
        apart = min(apart_deg(observation.limbs, key.limbs) for key in self.frames)
        return aside >= s.azimuth_deg or apart >= s.pose_deg or self._new_share(observation) >= s.new_share

    def admit(self, observation: Observation, view: View, correction: Correction) -> KeyFrame:
        """Add a frame; when the set is full, the one most like another goes."""
        assert observation.limbs is not None
        assert observation.seen is not None
        assert observation.colors is not None
        key = KeyFrame(
            observation.entry.index, observation.stamp_ns, view, observation.params, correction,
            observation.azimuth, observation.limbs, observation.colors,
        )  # fmt: skip
        self.frames.append(key)
        self.frames.sort(key=lambda frame: frame.index)
        self._seen = observation.seen.copy() if self._seen is None else self._seen | observation.seen
        while len(self.frames) > self.settings.max:
            self.frames.remove(self._least())
        return key

    def for_window(self, count: int, without: set[int]) -> list[KeyFrame]:
        """Return up to `count` key frames whose stamps are not among `without`: the two oldest, then the newest.

        The two oldest hold still what avatar and poses could otherwise exchange.
        """
        free = [frame for frame in self.frames if frame.stamp_ns not in without]
        if len(free) <= count:
            return free
        oldest = free[: min(2, count)]
        return oldest + free[len(free) - (count - len(oldest)) :]

    def _new_share(self, observation: Observation) -> float:
        assert observation.seen is not None
        if self._seen is None:
            return 1.0
        return float(np.mean(observation.seen & ~self._seen))

    def _least(self) -> KeyFrame:
        """Return the frame to go: nearest to another, but none of the newest nor the only one of its azimuth."""
        bins = [int(np.degrees(frame.azimuth) // _BIN_DEG) for frame in self.frames]
        free = [i for i in range(len(self.frames) - _KEPT_NEWEST) if bins.count(bins[i]) > 1]
        return self.frames[min(free or [0], key=self._nearest)]

    def _nearest(self, i: int) -> float:
        s, frame = self.settings, self.frames[i]
        return min(
            turned_deg(frame.azimuth, other.azimuth) / s.azimuth_deg + apart_deg(frame.limbs, other.limbs) / s.pose_deg
            for j, other in enumerate(self.frames)
            if j != i
        )


def turned_deg(a: float, b: float) -> float:
    """Return the angle between two directions [rad] in degrees, 0..180."""
    return float(np.degrees(abs((a - b + np.pi) % (2 * np.pi) - np.pi)))


def apart_deg(a: Array, b: Array) -> float:
    """Return the mean angle between rotations (J, 3, 3) in degrees."""
    cos = (np.einsum("jik,jik->j", a, b) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cos, -1, 1)).mean()))
