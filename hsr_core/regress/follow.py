"""Who is followed: where each person was last seen, who is waited for, and whose turn it is for hands and face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ..geometry.camera import apply_affine
from ..types import Array
from .crop import Roi, near
from .pose_network import L, PoseLandmarks

SIDES = ("left", "right")
WAIT_S = 1.2
"""Somebody lost from sight keeps the place this long: a second behind somebody else, and the frames around it."""
GAP_S = 0.5
"""After a longer pause between two frames the last places say nothing."""
LOOK_FULL_S, LOOK_FREE_S, LOOK_LOST_S = 0.5, 0.125, 0.09
"""Time between two looks: around when all places are taken (only somebody much larger matters), into the next part of
the image when there are free ones, and where somebody is waited for."""
DETAILS_S = 0.09
"""Time between two looks at the hands and face of one of the others: every third frame at 30 Hz."""
COAST_S = 0.5
"""The velocity in the image of somebody who is not seen is believed for about this long."""
_SAME_LANDMARKS = 0.06
"""Bodies whose landmarks are nearer than this part of their size are one body in two regions. Neighbours who touch are
a shoulder's width apart, 0.2 of it; the network's answers for one person in two crops differ by 0.01 to 0.03."""
_COVERED = 0.25
"""A region with more of its landmarks than this on nearer people's pixels is theirs, or would soon be: people who are
half hidden have up to 0.2."""
_SHOWN = 0.5
"""Mask probability over which a pixel is a person's."""
_RETURN_SIZE = 2.0
"""Who returns is not this many times larger or smaller than who was lost."""
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
        lost: Not seen in the last frame.
    """

    key: int
    roi: Roi
    stamp_ns: int
    middles: Array
    speed: Array = field(default_factory=lambda: np.zeros(2))
    hands: dict[str, Roi | None] = field(default_factory=lambda: dict.fromkeys(SIDES))
    face: Roi | None = None
    lost: bool = False
    _tried_ns: dict[str, int] = field(default_factory=dict)

    def see(self, pose: PoseLandmarks, stamp_ns: int) -> None:
        """Take this frame's landmarks."""
        middles, dt = body_middles(pose), (stamp_ns - self.stamp_ns) / 1e9
        if dt > 0:
            self.speed = 0.5 * (self.speed + (middles - self.middles).mean(0) / dt)
        self.roi, self.middles, self.stamp_ns, self.lost = pose.next_roi, middles, stamp_ns, False

    def expected(self, stamp_ns: int) -> Roi:
        """Return where to look: in the frame after a sighting there, later where the person was going."""
        if not self.lost:
            return self.roi
        dx, dy = self._moved(stamp_ns)
        return replace(self.roi, center=(self.roi.center[0] + dx, self.roi.center[1] + dy))

    def may_return_as(self, pose: PoseLandmarks, stamp_ns: int) -> bool:
        """True when this may be the person who was lost: by place and size."""
        smaller, larger = sorted((self.roi.size_px, pose.next_roi.size_px))
        return larger < _RETURN_SIZE * smaller and near(self.expected(stamp_ns), pose.uv.mean(0))

    def may_retry(self, what: str, stamp_ns: int, wait_s: float) -> bool:
        """True, and noted, when `what` was not tried within this time."""
        tried_ns = self._tried_ns.get(what)
        if tried_ns is not None and 0 <= stamp_ns - tried_ns < wait_s * 1e9:
            return False
        self._tried_ns[what] = stamp_ns
        return True

    def surprise(self, pose: PoseLandmarks, stamp_ns: int) -> float:
        """Return how far these landmarks are from where the person should be, relative to their size."""
        expected = self.middles + self._moved(stamp_ns)
        return float(np.linalg.norm(body_middles(pose) - expected, axis=1).mean() / self.roi.size_px)

    def _moved(self, stamp_ns: int) -> Array:
        """Return how far the person should have gone since the last sighting, (2,) [px]."""
        return self.speed * COAST_S * (1 - np.exp(-(stamp_ns - self.stamp_ns) / 1e9 / COAST_S))


class FollowedPeople:
    """Everybody who is followed, and who of them is attended to."""

    def __init__(self) -> None:
        self.people: list[Followed] = []
        self.attended: int | None = None
        self._next_key = 0
        self._last_ns: int | None = None
        self._last_turn, self._turn_ns = -1, None

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
        """Forget everybody after a pause between two frames, or when the clock jumped back."""
        if self._last_ns is not None and not 0 <= stamp_ns - self._last_ns < GAP_S * 1e9:
            self.people = []
        self._last_ns = stamp_ns

    def forget_lost(self, stamp_ns: int) -> None:
        """Give away the places of those who were waited for in vain."""
        self.people = [person for person in self.people if stamp_ns - person.stamp_ns < WAIT_S * 1e9]

    def clear(self) -> None:
        """Forget everybody; keys go on."""
        self.people, self.attended = [], None

    @property
    def waited_for(self) -> list[Followed]:
        """Who was not seen in the last frame."""
        return [person for person in self.people if person.lost]

    def largest_first(self) -> list[Followed]:
        """Return everybody, the largest first: they hide the others."""
        return sorted(self.people, key=lambda person: -person.roi.size_px)

    def without_doubles(self, seen: dict[Followed, PoseLandmarks], stamp_ns: int) -> dict[Followed, PoseLandmarks]:
        """Return what is seen with each body once: of two regions on it, the one that should be there keeps it.

        The other person is hidden behind: they are waited for where they were.
        """
        kept: dict[Followed, PoseLandmarks] = {}
        for person in sorted(seen, key=lambda person: person.surprise(seen[person], stamp_ns)):
            if not is_among(seen[person], kept.values()):
                kept[person] = seen[person]
        return {person: pose for person, pose in seen.items() if person in kept}

    def for_details(self, stamp_ns: int) -> set[Followed]:
        """Return whose hands and face are looked at in this frame: the attended person, now and then one of the others.

        The largest is attended to while nobody else is.
        """
        there = [person for person in self.largest_first() if not person.lost]
        if not there:
            return set()
        first = next((person for person in there if person.key == self.attended), there[0])
        others = sorted((person for person in there if person is not first), key=lambda person: person.key)
        if not others or (self._turn_ns is not None and 0 <= stamp_ns - self._turn_ns < DETAILS_S * 1e9):
            return {first}
        turn = next((person for person in others if person.key > self._last_turn), others[0])
        self._last_turn, self._turn_ns = turn.key, stamp_ns
        return {first, turn}


def body_middles(pose: PoseLandmarks) -> Array:
    """Return the middles between left and right ear, shoulder, hip, knee and ankle, (5, 2) [px]."""
    return pose.uv[_MIDDLES].mean(1)


def is_among(pose: PoseLandmarks, others: Iterable[PoseLandmarks], same: float = _SAME_LANDMARKS) -> bool:
    """True when one of the other bodies is this very body: nearer than this part of its size."""
    middles, size = body_middles(pose), pose.next_roi.size_px
    for other in others:
        apart = np.median(np.linalg.norm(middles - body_middles(other), axis=1))
        if apart < same * max(size, other.next_roi.size_px):
            return True
    return False


def is_covered(pose: PoseLandmarks, nearer: Iterable[PoseLandmarks]) -> bool:
    """True when too many of the landmarks lie on the pixels of somebody nearer."""
    for other in nearer:
        side = other.mask.shape[0]
        at = np.rint(apply_affine(other.roi.transform(side), pose.uv)).astype(int)
        at = at[((at >= 0) & (at < side)).all(1)]
        if np.count_nonzero(other.mask[at[:, 1], at[:, 0]] > _SHOWN) > _COVERED * len(pose.uv):
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
