"""Which images are taken: rules on stamps, clocks and mixed cameras, without ROS.

The rules are pure functions of what is given to them (stamps and clock readings), so that every one
of them can be tested without waiting.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

BACKWARD_FRAMES_OF_A_JUMP = 10
"""So many older stamps in a row are a new beginning (a bag that loops), not late messages."""
GAP_NS = 500_000_000
OTHER_CLOCK_AGE_S = (-0.1, 5.0)
"""Ages outside this, when constant, mean that the stamps come from another clock."""
OTHER_CLOCK_SPREAD_S = 0.25
_AGES_KEPT = 8


class Verdict(Enum):
    TAKE = auto()
    STALE = auto()
    JUMP = auto()


@dataclass
class StampRules:
    """Order and plausibility of image stamps.

    Attributes:
        no_stamps: The last image had stamp zero (the time of receipt is used instead).
        other_clock: Stamps and this node's clock differ by a constant; ages mean nothing.
        clock_offset_s: Median age, which is the offset while `other_clock` is set [s].
        gaps: Number of pauses longer than 0.5 s between images that were taken.
    """

    no_stamps: bool = False
    other_clock: bool = False
    clock_offset_s: float = 0.0
    gaps: int = 0
    _last_ns: int | None = None
    _backward: int = 0

    def __post_init__(self) -> None:
        self._ages_s: deque[float] = deque(maxlen=_AGES_KEPT)

    def judge(self, stamp_ns: int, now_ns: int) -> tuple[Verdict, int]:
        """Return what to do with an image, and the stamp to use for it.

        JUMP means: forget all tracks, then take the image.
        """
        self.no_stamps = stamp_ns == 0
        if self.no_stamps:
            stamp_ns = now_ns
        self._watch_clock((now_ns - stamp_ns) * 1e-9)
        last = self._last_ns
        if last is not None and stamp_ns <= last:
            self._backward += stamp_ns < last
            if self._backward < BACKWARD_FRAMES_OF_A_JUMP:
                return Verdict.STALE, stamp_ns
            self.restart()
            self._last_ns = stamp_ns
            return Verdict.JUMP, stamp_ns
        self.gaps += last is not None and stamp_ns - last > GAP_NS
        self._last_ns, self._backward = stamp_ns, 0
        return Verdict.TAKE, stamp_ns

    def too_old(self, stamp_ns: int, now_ns: int, max_age_s: float) -> bool:
        """True when an image must be dropped for its age; never for stamps of another clock."""
        return max_age_s > 0 and not self.other_clock and (now_ns - stamp_ns) * 1e-9 > max_age_s

    def restart(self) -> None:
        """Forget the past: the clock has jumped or the input was changed."""
        self._last_ns, self._backward = None, 0
        self._ages_s.clear()
        self.other_clock = False

    def _watch_clock(self, age_s: float) -> None:
        self._ages_s.append(age_s)
        if len(self._ages_s) < _AGES_KEPT:
            return
        ages = sorted(self._ages_s)
        self.clock_offset_s = ages[_AGES_KEPT // 2]
        low, high = OTHER_CLOCK_AGE_S
        constant = ages[-1] - ages[0] < OTHER_CLOCK_SPREAD_S
        self.other_clock = constant and not low <= self.clock_offset_s <= high


class OneCamera:
    """Takes images of one camera only: the (frame_id, size) that came first, until it is silent for a second."""

    SILENCE_S = 1.0

    def __init__(self) -> None:
        self.key: tuple | None = None
        self._seen_s = -float("inf")

    def takes(self, key: tuple, now_s: float) -> bool:
        """True when an image with this key belongs to the camera in use."""
        if key != self.key:
            if now_s - self._seen_s <= self.SILENCE_S:
                return False
            self.key = key
        self._seen_s = now_s
        return True
