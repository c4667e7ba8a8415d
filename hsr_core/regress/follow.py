"""Who is followed: where each person was last seen, who is waited for, and whose turn it is for hands and face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..types import Array
from .crop import Roi
from .pose_network import L, PoseLandmarks

SIDES = ("left", "right")
WAIT_S = 0.3
"""Somebody who is lost from sight keeps the place this long; tracks last longer."""
GAP_S = 0.5
"""After a longer pause between two frames the last places say nothing."""
LOOK_FULL_S, LOOK_FREE_S, LOOK_LOST_S = 0.5, 0.25, 0.1
"""Time between two looks around: when all places are taken (only somebody much larger matters), when there are free
ones, and when somebody is waited for."""
_SAME_LANDMARKS = 0.06
"""Bodies whose landmarks are nearer than this part of their size are one body in two regions. Neighbours who touch are
a shoulder's width apart, 0.2 of it; the network's answers for one person in two crops differ by 0.01 to 0.03."""
_OVERLAP = 0.5
"""Squares whose centres are nearer than this part of the sum of their sides may share pixels of people."""
_MIDDLES = np.array([[L[f"{s}_{n}"] for s in SIDES] for n in ("ear", "shoulder", "hip", "knee", "ankle")])
"""Pairs of landmarks whose middles do not change when left and right are confused."""


@dataclass(eq=False)
class Followed:
    """Where a person was in the last frame that showed them.

    Attributes:
        key: Never given twice; the person's pose, face and shape are remembered under it.
        roi: Where the body is looked for next.
        stamp_ns: Of that frame.
        middles, speed: Middles of the body's landmark pairs (5, 2) [px] and their common velocity (2,) [px/s].
        hands, face: Where these are looked for next; None: where the body says.
    """

    key: int
    roi: Roi
    stamp_ns: int
    middles: Array
    speed: Array = field(default_factory=lambda: np.zeros(2))
    hands: dict[str, Roi | None] = field(default_factory=lambda: dict.fromkeys(SIDES))
    face: Roi | None = None

    def see(self, pose: PoseLandmarks, stamp_ns: int) -> None:
        """Take this frame's landmarks."""
        middles, dt = body_middles(pose), (stamp_ns - self.stamp_ns) / 1e9
        if dt > 0:
            self.speed = 0.5 * (self.speed + (middles - self.middles).mean(0) / dt)
        self.roi, self.middles, self.stamp_ns = pose.next_roi, middles, stamp_ns

    def surprise(self, pose: PoseLandmarks, stamp_ns: int) -> float:
        """Return how far these landmarks are from where the person should be, relative to their size."""
        expected = self.middles + self.speed * (stamp_ns - self.stamp_ns) / 1e9
        return float(np.linalg.norm(body_middles(pose) - expected, axis=1).mean() / self.roi.size_px)


class FollowedPeople:
    """Everybody who is followed, at most `most`, and who of them is attended to."""

    def __init__(self) -> None:
        self.people: list[Followed] = []
        self.attended: int | None = None
        self._next_key = 0
        self._last_turn = -1

    def __len__(self) -> int:
        return len(self.people)

    def add(self, pose: PoseLandmarks, stamp_ns: int) -> Followed:
        """Follow somebody new."""
        person = Followed(self._next_key, pose.next_roi, stamp_ns, body_middles(pose))
        self._next_key += 1
        self.people.append(person)
        return person

    def forget(self, person: Followed) -> None:
        """Give the person's place away."""
        self.people.remove(person)

    def forget_old(self, stamp_ns: int) -> None:
        """Forget whom a pause or a clock that jumped back makes unknown."""
        self.people = [person for person in self.people if 0 <= stamp_ns - person.stamp_ns < GAP_S * 1e9]

    def forget_lost(self, stamp_ns: int) -> None:
        """Give away the places of those who were waited for in vain."""
        self.people = [person for person in self.people if stamp_ns - person.stamp_ns < WAIT_S * 1e9]

    def clear(self) -> None:
        """Forget everybody; keys go on."""
        self.people, self.attended = [], None

    def without_doubles(self, seen: dict[Followed, PoseLandmarks], stamp_ns: int) -> dict[Followed, PoseLandmarks]:
        """Return what is seen with each body once: of two regions on it, the one that should be there keeps it.

        The other person is hidden behind: they are waited for where they were.
        """
        kept: dict[Followed, PoseLandmarks] = {}
        for person in sorted(seen, key=lambda person: person.surprise(seen[person], stamp_ns)):
            if not is_among(seen[person], kept.values()):
                kept[person] = seen[person]
        return {person: pose for person, pose in seen.items() if person in kept}

    def for_details(self, seen: Iterable[Followed]) -> set[Followed]:
        """Return whose hands and face are looked at in this frame: the attended person and one of the others in turn.

        Args:
            seen: Largest first; the first is attended to while nobody else is.
        """
        seen = list(seen)
        if len(seen) < 3:
            return set(seen)
        first = next((person for person in seen if person.key == self.attended), seen[0])
        others = sorted((person for person in seen if person is not first), key=lambda person: person.key)
        turn = next((person for person in others if person.key > self._last_turn), others[0])
        self._last_turn = turn.key
        return {first, turn}


def body_middles(pose: PoseLandmarks) -> Array:
    """Return the middles between left and right ear, shoulder, hip, knee and ankle, (5, 2) [px]."""
    return pose.uv[_MIDDLES].mean(1)


def is_among(pose: PoseLandmarks, others: Iterable[PoseLandmarks]) -> bool:
    """True when one of the other bodies is this very body."""
    middles, size = body_middles(pose), pose.next_roi.size_px
    for other in others:
        apart = np.median(np.linalg.norm(middles - body_middles(other), axis=1))
        if apart < _SAME_LANDMARKS * max(size, other.next_roi.size_px):
            return True
    return False


def overlapping(roi: Roi, others: Iterable[PoseLandmarks]) -> list[PoseLandmarks]:
    """Return those of the others who can be seen in this square: theirs overlaps it."""
    return [
        other
        for other in others
        if np.hypot(roi.center[0] - other.roi.center[0], roi.center[1] - other.roi.center[1])
        < _OVERLAP * (roi.size_px + other.roi.size_px)
    ]
