"""Find people to follow: detections of the whole frame and of squares of it, each verified by the body network.

The detector sees a 224 px picture: people who stand close together in it can melt into one box, and small ones vanish.
The body network's score tells a real person from such a chimera; squares of the frame show small people larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..types import Frame
from .crop import Roi
from .follow import is_among, overlapping
from .person_detector import PersonDetector
from .pose_network import PoseLandmarks, PoseNetwork

_SURE = 0.95
"""Body scores above this are people; a box over two people at once stays below."""
_LARGER = 1.5
"""A person who is this much larger than the one followed takes over."""
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
                if known or pose.score >= _SURE:  # the one who was followed need not be sure: they may be half hidden
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
            everywhere: Search all squares of the frame; else one, the next one at each call.
        """
        regions = _squares(frame.image_hw) or [None]
        self._turn += 1
        chosen = regions if everywhere else [regions[self._turn % len(regions)]]
        found = [p.roi for region in chosen for p in self._detector.detect(frame, region=region)]
        people: list[PoseLandmarks] = []
        for roi in sorted(found, key=lambda roi: -roi.size_px):
            there = [*known, *people]
            if len(people) < most and not any(
                _same(roi, pose.next_roi, _SAME_KNOWN, _SAME_SIZE_KNOWN) for pose in there
            ):
                pose = self._pose.run(frame, roi, overlapping(roi, there))
                if pose.score >= _SURE and not is_among(pose, there):
                    people.append(pose)
        return people

    def larger(self, frame: Frame, than: Roi, known: Sequence[Roi]) -> PoseLandmarks | None:
        """Return a person clearly larger than `than` who is not one of the `known`, or None."""
        for person in self._detector.detect(frame):
            if person.roi.size_px > _LARGER * than.size_px and not any(_same(person.roi, old) for old in known):
                pose = self._pose.run(frame, person.roi)
                if pose.score >= _SURE and pose.next_roi.size_px > _LARGER * than.size_px:
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


def _same(a: Roi, b: Roi, near: float = _SAME, ratio: float = 1.3) -> bool:
    """True when two squares hold the same person: nearer than this part of their size, sizes within this ratio."""
    apart = math.hypot(a.center[0] - b.center[0], a.center[1] - b.center[1])
    smaller, larger = sorted((a.size_px, b.size_px))
    return apart < near * larger and larger < ratio * smaller
