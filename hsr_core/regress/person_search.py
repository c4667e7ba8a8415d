"""Find people to follow: detections of the whole frame and of squares of it, each verified by the body network.

The detector sees a 224 px picture: people who stand close together in it can melt into one box, and small ones vanish.
The body network's score tells a real person from such a chimera; squares of the frame show small people larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..types import Array, Frame
from .crop import Roi
from .follow import is_among, is_covered, overlapping
from .person_detector import PersonDetector
from .pose_network import PoseLandmarks, PoseNetwork

SURE = 0.95
"""Body scores above this are people; a box over two people at once stays below."""
_LARGER = 1.5
"""A person who is this much larger than the one followed takes over."""
_AROUND = 2.0
"""Side of the square in which somebody lost is looked for, over that of their own."""
_STEADY = 0.15
"""Two looks at one body differ by less than this part of its size."""
_WITHIN = 0.5
"""Share of the landmarks in another's box over which nobody new is born; who is waited for may return there."""
_CROWN = 0.5
"""Of a head alone so much of its landmarks' height lies above them."""
_SAME = 0.3
"""Squares whose centres are nearer than this part of their size hold the same person."""
_SAME_KNOWN, _SAME_SIZE_KNOWN = 0.12, 1.6
"""The same for somebody who is followed. Nearer in place, since their pixels are hidden from who else is looked for;
wider in size, of which the detector is less sure than the landmarks."""


class PersonSearch:
    """Looks for the largest person, or for the one who was there before."""

    def __init__(self, pose: PoseNetwork) -> None:
        self._detector, self._pose = PersonDetector(), pose
        self._turn = -1

    def search(self, frame: Frame, *, min_score: float, near: Roi | None = None) -> PoseLandmarks | None:
        """Return the landmarks of the person at `near`, else of the largest person, else None.

        Args:
            frame: The image.
            min_score: Least body score where nobody is sure.
            near: Where the person was in the last frame.
        """
        best, tried = None, []
        for found in self._candidates(frame):
            found = [roi for roi in found if not any(_same(roi, old) for old in tried)]
            if near is not None:
                found.sort(key=lambda roi: not _same(roi, near))
            for roi in found:
                tried.append(roi)
                pose = self._pose.run(frame, roi)
                known = near is not None and _same(roi, near) and pose.score >= min_score
                if known or pose.score >= SURE:  # the one who was followed need not be sure: they may be half hidden
                    return pose
                if pose.score >= min_score and (best is None or pose.score > best.score):
                    best = pose
        return best

    def others(
        self, frame: Frame, known: Sequence[PoseLandmarks], *, most: int, everywhere: bool
    ) -> list[PoseLandmarks]:
        """Return people beside those who are known.

        Args:
            frame: The image.
            known: Who is seen already; their pixels are hidden from the body network.
            most: Most people to return.
            everywhere: Search all large squares of the frame; else one, the next one at each call, large ones and small
                ones (which show people who are small) in turn.
        """
        squares, small = _squares(frame.image_hw) or [None], _small_squares(frame.image_hw)
        if everywhere:
            regions = squares
        else:
            self._turn += 1
            size, turn = (squares, small)[self._turn % 2], self._turn // 2
            regions = [size[turn % len(size)]]
        found = [p.roi for region in regions for p in self._detector.detect(frame, region=region)]
        people = self._verified(frame, found, known)
        return [pose for pose in people if not _within(pose, known)][:most]

    def around(self, frame: Frame, roi: Roi, known: Sequence[PoseLandmarks]) -> list[PoseLandmarks]:
        """Return people near a place where somebody was lost, who are not among those known."""
        found = [p.roi for p in self._detector.detect(frame, region=Roi(roi.center, _AROUND * roi.size_px))]
        return self._verified(frame, found, known)

    def _verified(self, frame: Frame, found: list[Roi], known: Sequence[PoseLandmarks]) -> list[PoseLandmarks]:
        """Return the bodies of those found who are people, not known and not hidden, the largest first.

        A look at the place that the body itself gives must find the same body: a chance likeness does not last.
        """
        people: list[PoseLandmarks] = []
        for roi in sorted(found, key=lambda roi: -roi.size_px):
            there = [*known, *people]
            if any(_same(roi, pose.next_roi, _SAME_KNOWN, _SAME_SIZE_KNOWN) for pose in there):
                continue
            first = self._pose.run(frame, roi, overlapping(roi, there))
            again = first.next_roi
            if first.score < SURE or is_among(first, there) or not again.usable(frame.image_hw):
                continue
            pose = self._pose.run(frame, again, overlapping(again, there))
            nearer = [other for other in there if other.next_roi.size_px > pose.next_roi.size_px]
            if (
                pose.score >= SURE
                and is_among(pose, [first], _STEADY)
                and not is_among(pose, there)
                and not is_covered(pose, nearer)
            ):
                people.append(pose)
        return people

    def larger(self, frame: Frame, than: Roi, known: Sequence[Roi]) -> PoseLandmarks | None:
        """Return a person clearly larger than `than` who is not one of the `known`, or None."""
        for person in self._detector.detect(frame):
            if person.roi.size_px > _LARGER * than.size_px and not any(_same(person.roi, old) for old in known):
                pose = self._pose.run(frame, person.roi)
                if pose.score >= SURE and pose.next_roi.size_px > _LARGER * than.size_px:
                    return pose
        return None

    def _candidates(self, frame: Frame):
        """Yield lists of squares, largest first: from the whole frame, then from overlapping squares of it."""
        yield [person.roi for person in self._detector.detect(frame)]
        found = [p.roi for square in _squares(frame.image_hw) for p in self._detector.detect(frame, region=square)]
        yield sorted(found, key=lambda roi: -roi.size_px)


def _squares(image_hw: tuple[int, int]) -> list[Roi]:
    """Return overlapping squares that cover the frame; none where it is nearly a square itself."""
    height, width = image_hw
    short, long = min(height, width), max(height, width)
    if long < 1.2 * short:
        return []
    starts = np.linspace(0, long - short, math.ceil(1.5 * long / short))
    centers = [(s + short / 2, short / 2) if width > height else (short / 2, s + short / 2) for s in starts]
    return [Roi(center, float(short)) for center in centers]


def _small_squares(image_hw: tuple[int, int]) -> list[Roi]:
    """Return overlapping squares of half the image's shorter side, row by row."""
    side = min(image_hw) / 2
    rows, columns = (np.linspace(0, size - side, math.ceil(1.5 * size / side)) + side / 2 for size in image_hw)
    return [Roi((float(x), float(y)), side) for y in rows for x in columns]


def _within(pose: PoseLandmarks, known: Sequence[PoseLandmarks]) -> bool:
    """True when half of the body lies in the box of somebody known: more often a part of them than somebody behind."""
    seen = _seen(pose)
    for points in map(_seen, known):
        low, high = points.min(0), points.max(0)
        low[1] -= _CROWN * (high[1] - low[1])
        if ((seen > low) & (seen < high)).all(1).mean() > _WITHIN:
            return True
    return False


def _seen(pose: PoseLandmarks) -> Array:
    """Return the landmarks in the picture, (N, 2) [px]; all where there are none."""
    return pose.uv[pose.presence > 0.5] if (pose.presence > 0.5).any() else pose.uv


def _same(a: Roi, b: Roi, near: float = _SAME, ratio: float = 1.3) -> bool:
    """True when two squares hold the same person: nearer than this part of their size, sizes within this ratio."""
    apart = math.hypot(a.center[0] - b.center[0], a.center[1] - b.center[1])
    smaller, larger = sorted((a.size_px, b.size_px))
    return apart < near * larger and larger < ratio * smaller
