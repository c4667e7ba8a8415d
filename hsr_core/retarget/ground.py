"""The ground under a person, their feet on it, and the lengths of their limbs: what is learnt over time by stamps."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..types import Array, MetricSource
from .human import Human, P
from .settings import GroundSettings

GUESSED = (MetricSource.NONE, MetricSource.ASSUMED_HEIGHT, MetricSource.MONO_DEPTH)
"""Sources whose depth is no measurement: a standing foot seems to move along the viewing ray."""
SPEED_WINDOW_NS = 100_000_000
"""A foot's speed is its way in this time: over one frame it would be noise."""
PERCENTILE = 5.0
FEET = ("left_ankle", "right_ankle")

SEGMENTS: tuple[tuple[str, str], ...] = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
)
"""Segments of the limbs, whose lengths are a person's own."""

_A, _B = (np.array([P[pair[i]] for pair in SEGMENTS]) for i in (0, 1))
_LEGS = np.array([b.endswith(("knee", "ankle")) for _, b in SEGMENTS])
CONFIDENT_FRAMES = 30


class SegmentLengths:
    """Lengths of a person's segments: the median of their first frames, then frozen.

    Attributes:
        frozen: (len(SEGMENTS),) [m], NaN where a segment was never seen (legs behind a table); None before
            `CONFIDENT_FRAMES` frames with both arms.
    """

    def __init__(self, frames: int = CONFIDENT_FRAMES) -> None:
        self.frames = frames
        self.reset()

    def reset(self) -> None:
        self.frozen: Array | None = None
        self._seen: list[Array] = []

    def update(self, person: Human) -> None:
        """Take one more frame; after freezing nothing changes."""
        if self.frozen is not None:
            return
        lengths = segment_lengths(person)
        if np.isfinite(lengths[~_LEGS]).all():
            self._seen.append(lengths)
        if len(self._seen) >= self.frames:
            seen = np.array(self._seen)
            known = np.isfinite(seen).any(axis=0)
            self.frozen = np.full(len(SEGMENTS), np.nan)
            self.frozen[known] = np.nanmedian(seen[:, known], axis=0)
            self._seen = []

    @property
    def leg_m(self) -> float:
        """Hip to ankle, mean of both legs [m]; NaN before freezing, or when a leg was never seen."""
        if self.frozen is None:
            return float("nan")
        return float(self.frozen[_LEGS].sum() / 2)


def segment_lengths(person: Human) -> Array:
    """Return the distances of `SEGMENTS` [m]; NaN where an end was not seen."""
    lengths = np.linalg.norm(person.points[_A] - person.points[_B], axis=1)
    return np.where(person.valid[_A] & person.valid[_B], lengths, np.nan)


class Ground:
    """Height of the ankles of a person who stands: a running low percentile of the lower one."""

    def __init__(self, settings: GroundSettings) -> None:
        self.settings = settings
        self._heights: deque[tuple[int, float]] = deque()

    def reset(self) -> None:
        self._heights.clear()

    def update(self, person: Human) -> float:
        """Take a frame and return the height [m]; NaN before a foot was seen."""
        seen = [person.at(foot)[2] for foot in FEET if person.sees(foot)]
        if seen:
            self._heights.append((person.stamp_ns, float(min(seen))))
        while self._heights and person.stamp_ns - self._heights[0][0] > self.settings.window_s * 1e9:
            self._heights.popleft()
        if not self._heights:
            return float("nan")
        heights = sorted(height for _, height in self._heights)
        return heights[int(PERCENTILE / 100 * (len(heights) - 1))]


class Contacts:
    """Which feet stand on the ground, with hysteresis.

    Attributes:
        on: Left, right.
    """

    def __init__(self, settings: GroundSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        self.on = [False, False]
        self._count = [0, 0]
        self._feet: deque[tuple[int, Array]] = deque()

    def update(self, person: Human, ground_m: float) -> list[bool]:
        """Take a frame and return which feet are on the ground (left, right)."""
        feet = np.array([person.at(foot) for foot in FEET])
        seen = [person.sees(foot) for foot in FEET]
        if person.foot_contact is not None:
            wanted = [bool(value > 0.5) and ok for value, ok in zip(person.foot_contact, seen, strict=True)]
        else:
            wanted = self._judge(person, feet, seen, ground_m)
        for i, want in enumerate(wanted):
            self._count[i] = self._count[i] + 1 if want != self.on[i] else 0
            if self._count[i] >= self.settings.frames:
                self.on[i], self._count[i] = want, 0
        return self.on

    def _judge(self, person: Human, feet: Array, seen: list[bool], ground_m: float) -> list[bool]:
        settings = self.settings
        while len(self._feet) > 1 and person.stamp_ns - self._feet[1][0] >= SPEED_WINDOW_NS:
            self._feet.popleft()
        self._feet.append((person.stamp_ns, feet))
        first_ns, first = self._feet[0]
        if person.stamp_ns <= first_ns:
            return [False, False]
        speed = np.linalg.norm(feet - first, axis=1) / ((person.stamp_ns - first_ns) * 1e-9)
        guessed = settings.guessed if person.metric_source in GUESSED else 1.0
        out = []
        for i in range(2):
            ease = guessed * (settings.release if self.on[i] else 1.0)
            slow = speed[i] < ease * settings.contact_speed_m_s
            low = feet[i, 2] - ground_m < ease * settings.contact_height_m
            out.append(bool(seen[i] and slow and low))
        return out
