"""A person's hand as what a robot's hand should do: in the palm's own axes, with the lengths of a grown person's hand.

Body models and landmark networks differ by a third in how long fingers are for a palm: each finger is brought to one
length about its base, so that a straight finger means the same from every source. What is between two fingers, such as
the distance of thumb and finger tip, is taken as it is, but for the size of the palm.

The axes are those of `palm_axes`: those that the points come in do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Array
from .command import Flag
from .human import HAND_POINTS
from .palm import palm_axes
from .settings import FingerSettings, MissingSettings
from .targets import Memory

H: dict[str, int] = {name: i for i, name in enumerate(HAND_POINTS)}

PALM_M = 0.095
"""From wrist to the middle finger's base of a grown person [m]."""
FINGERS_M = np.array([0.100, 0.082, 0.091, 0.085, 0.067])
"""Of a grown person, the bones from base to tip: thumb, index, middle, ring and little finger [m]. Round figures of
ours: they say what a mapping's `scale` of 1 is."""
SHORTEST = 0.2
"""No finger is shorter than this part of the palm."""
PALM_LIMITS_M = (0.03, 0.25)
"""Of what can be a palm [m]."""
REACH = 3.0
"""No point of a hand is farther from the wrist than so many palms: an open hand's middle finger ends at 2."""
FRAMES = 30
"""Sizes are the median of so many first frames, then frozen: flicker of the shape is no motion."""
TOGETHER_M = 0.02
"""A finger that is farther from the thumb than the nearest one by this does not pinch with it [m]."""


@dataclass(frozen=True, eq=False)
class HandGoals:
    """What one hand of a robot should reach.

    Attributes:
        vectors: (n, 3) [m], in the axes of the hand.
        pinch: (p,) how far thumb and finger pinch, in [0, 1].
        gap: (p,) distance that is left between the surfaces of the two tips [m].
        weight: Of all of it, in [0, 1]; falls when the hand is no longer seen.
    """

    vectors: Array
    pinch: Array
    gap: Array
    weight: float = 1.0


class HandTargets:
    """Makes goals from one person's hand, frame by frame. It has no clock: time is in the stamps.

    Attributes:
        sizes_m: Lengths of the person's palm and five fingers, (6,), 0 while they are not known [m].
    """

    def __init__(
        self,
        palm: tuple[str, str, str],
        vectors: tuple[NDArray[np.intp], NDArray[np.intp]],
        scales: Array,
        pinch: NDArray[np.intp],
        settings: FingerSettings,
        missing: MissingSettings,
    ) -> None:
        """Prepare for one hand.

        Args:
            palm: Names of the three points that span it.
            vectors: Rows of `HAND_POINTS` that they start and end at, (n,) each.
            scales: (n,) the robot's vector over a grown person's.
            pinch: (p,) rows of the finger tips that meet the thumb's.
            settings, missing: As in `TeleopSettings`.
        """
        self._palm = [H[name] for name in palm]
        self._start, self._end = vectors
        # Vectors along one finger, or from the wrist: of the hand whose fingers have one length.
        self._along = (_finger_of(self._start) == _finger_of(self._end)) | (self._start == 0) | (self._end == 0)
        self._scales, self._pinch, self._pinch_scale = scales[:, None], pinch, float(np.median(scales))
        self.settings = settings
        self._memory = Memory(missing)
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self.sizes_m = np.zeros(6)
        self._sizes: list[Array] = []
        self._memory.reset()

    def make(self, stamp_ns: int, hand: Array | None, side: str, mirror: bool = False) -> tuple[HandGoals | None, Flag]:
        """Return the goals of one frame, None where the hand was not seen for too long, and HOLDOVER or JOINT_MISSING.

        Args:
            stamp_ns: Of the frame; they rise.
            hand: (21, 3) [m] in the order of `HAND_POINTS`, any axes; None, or not finite, or nothing like a hand: not
                seen.
            side: left or right: which hand of the person this is.
            mirror: Make the other hand of it.
        """
        own = None if hand is None else self._canonical(np.asarray(hand, np.float64), side)
        if own is not None and mirror:
            own = own * (1, -1, 1)
        goals, flags = self._memory.update(stamp_ns, {} if own is None else {("hand", side): own})
        if not self._memory.known():
            flags |= Flag.JOINT_MISSING  # not seen so far
        goal = next(iter(goals.values()), None)
        return (None if goal is None else self._goals(goal.value, goal.weight)), flags

    def _canonical(self, hand: Array, side: str) -> Array | None:
        """Return the points in the axes and the size of a grown person's hand; None where this is no hand."""
        if not np.isfinite(hand).all() or np.abs(hand).max() > 1e3:
            return None
        about = hand - hand[H["wrist"]]
        sizes = _sizes(about)
        if not PALM_LIMITS_M[0] <= sizes[0] <= PALM_LIMITS_M[1] or sizes[1:].min() < SHORTEST * sizes[0]:
            return None
        R = palm_axes(about[self._palm], side)
        if R is None or np.linalg.norm(about, axis=1).max() > REACH * sizes[0]:
            return None
        if len(self._sizes) < FRAMES:
            self._sizes.append(sizes)
            self.sizes_m = np.median(self._sizes, axis=0)
        return about @ R * (PALM_M / self.sizes_m[0])

    def _goals(self, own: Array, weight: float) -> HandGoals:
        near, far = self.settings.pinch_near_m, self.settings.pinch_far_m
        apart = own[self._pinch] - own[H["thumb3"]]
        apart_m = np.sqrt(np.einsum("ij,ij->i", apart, apart))
        # Of several fingers near the thumb only those that are about as near as the nearest pinch.
        behind_m = apart_m - apart_m.min(initial=far)
        pinch = _smooth_step((far - apart_m) / (far - near)) * _smooth_step(1 - behind_m / TOGETHER_M)
        fingers = own[1:].reshape(5, 4, 3)
        stretch = FINGERS_M / self.sizes_m[1:] * (self.sizes_m[0] / PALM_M)
        even = np.concatenate(
            [own[:1], (fingers[:, :1] + stretch[:, None, None] * (fingers - fingers[:, :1])).reshape(20, 3)]
        )
        vectors = np.where(self._along[:, None], even[self._end] - even[self._start], own[self._end] - own[self._start])
        return HandGoals(
            vectors=self._scales * vectors,
            pinch=pinch,
            gap=self._pinch_scale * np.maximum(apart_m - near, 0),
            weight=weight,
        )


def _smooth_step(u: Array) -> Array:
    """Return 0 to 1 for 0 to 1, level at both ends."""
    u = np.clip(u, 0, 1)
    return u * u * (3 - 2 * u)


def _sizes(hand: Array) -> Array:
    """Return the lengths of palm and fingers of a hand about its wrist, (6,) [m]."""
    bones = np.diff(hand[1:].reshape(5, 4, 3), axis=1)
    fingers = np.sqrt(np.einsum("fbi,fbi->fb", bones, bones)).sum(axis=1)
    return np.array([np.linalg.norm(hand[H["middle0"]]), *fingers])


def _finger_of(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which finger points belong to; -1: the wrist."""
    return (rows - 1) // 4
