"""Find the person to follow: detections of the whole frame and of squares of it, each verified by the body network.

The detector sees a 224 px picture: people who stand close together in it can melt into one box, and small ones vanish.
The body network's score tells a real person from such a chimera; squares of the frame show small people larger.
"""

from __future__ import annotations

import math

import numpy as np

from ..types import Frame
from .crop import Roi
from .person_detector import PersonDetector
from .pose_network import PoseLandmarks, PoseNetwork

_SURE = 0.95
"""Body scores above this are people; a box over two people at once stays below."""
_LARGER = 1.5
"""A person who is this much larger than the one followed takes over."""
_SAME = 0.3
"""Squares whose centres are nearer than this part of their size hold the same person."""


class PersonSearch:
    """Looks for the largest person, or for the one who was there before."""

    def __init__(self, pose: PoseNetwork) -> None:
        self._detector, self._pose = PersonDetector(), pose

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

    def larger(self, frame: Frame, than: Roi) -> PoseLandmarks | None:
        """Return a clearly larger person elsewhere in the frame, or None."""
        for person in self._detector.detect(frame):
            if person.roi.size_px > _LARGER * than.size_px and not _same(person.roi, than):
                pose = self._pose.run(frame, person.roi)
                if pose.score >= _SURE and pose.next_roi.size_px > _LARGER * than.size_px:
                    return pose
        return None

    def _candidates(self, frame: Frame):
        """Yield lists of squares, largest first: from the whole frame, then from overlapping squares of it."""
        yield [person.roi for person in self._detector.detect(frame)]
        height, width = frame.image_hw
        short, long = min(height, width), max(height, width)
        if long < 1.2 * short:
            return
        starts = np.linspace(0, long - short, math.ceil(1.5 * long / short))
        centers = [(s + short / 2, short / 2) if width > height else (short / 2, s + short / 2) for s in starts]
        found = [p.roi for c in centers for p in self._detector.detect(frame, region=Roi(c, float(short)))]
        yield sorted(found, key=lambda roi: -roi.size_px)


def _same(a: Roi, b: Roi) -> bool:
    """True when two squares hold the same person."""
    apart = math.hypot(a.center[0] - b.center[0], a.center[1] - b.center[1])
    smaller, larger = sorted((a.size_px, b.size_px))
    return apart < _SAME * larger and larger < 1.3 * smaller
