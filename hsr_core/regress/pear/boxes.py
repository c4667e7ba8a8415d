"""Where the person is, so that PEAR can look there: a search when needed, else where the last frame's joints were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...config import PeopleSettings
from ...types import Array, Frame
from ..crop import Roi
from ..observe import person_box, points_box
from ..person_search import PersonSearch
from ..pose_network import PoseLandmarks, PoseNetwork

CHECK_S = 0.5
"""PEAR draws a person into any crop and says nothing of its certainty: a follower asks the search this often."""
GAP_S = 0.5
"""After a longer pause the last place says nothing."""
_EYES, _MOUTH = [2, 5], [9, 10]
"""Pose landmarks: left and right eye, left and right corner of the mouth."""


@dataclass(frozen=True, eq=False)
class PersonBox:
    """Attributes:
    bbox_xyxy: (4,) [px], full image.
    score: Confidence that this is a person, [0, 1].
    """

    bbox_xyxy: Array
    score: float


class BoxFinder(Protocol):
    """Finds the person to look at, and is told where the joints were."""

    def find(self, frame: Frame, people: PeopleSettings) -> PersonBox | None: ...

    def seen(self, uv: Array, frame: Frame) -> None: ...

    def reset(self) -> None: ...


class WholeFrame:
    """One person, always there and in the middle."""

    def find(self, frame: Frame, people: PeopleSettings) -> PersonBox | None:
        """Return the whole image."""
        height, width = frame.image_hw
        return PersonBox(np.array([0, 0, width, height], np.float32), 1.0)

    def seen(self, uv: Array, frame: Frame) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""


class FollowedPerson:
    """The largest person when the search began, followed by their own joints, looked for again twice a second."""

    def __init__(self) -> None:
        self._search = PersonSearch(PoseNetwork())
        self.reset()

    def find(self, frame: Frame, people: PeopleSettings) -> PersonBox | None:
        """Return where the person should be; None when nobody of `people`'s size and score is found."""
        last = self._last
        if last is not None and not 0 <= frame.stamp_ns - self._seen_ns < GAP_S * 1e9:
            last = None
        if last is None or frame.stamp_ns - self._looked_ns >= CHECK_S * 1e9:
            last = self._look(frame, people, None if last is None else last.bbox_xyxy)
        self._last = last
        return last

    def seen(self, uv: Array, frame: Frame) -> None:
        """Follow these joints (N, 2) [px]."""
        self._last = PersonBox(points_box(uv, frame.image_hw), self._last.score)
        self._seen_ns = frame.stamp_ns

    def reset(self) -> None:
        """Forget the person."""
        self._last: PersonBox | None = None
        self._seen_ns = self._looked_ns = 0

    def _look(self, frame: Frame, people: PeopleSettings, near: Array | None) -> PersonBox | None:
        pose = self._search.search(frame, min_score=people.min_score, near=None if near is None else _square(near))
        if pose is None:
            return None
        box = _with_crown(person_box(pose, frame.image_hw), pose)
        if max(box[2:] - box[:2]) < people.min_height_px:
            return None
        self._seen_ns = self._looked_ns = frame.stamp_ns
        return PersonBox(box, float(pose.score))


def _with_crown(bbox_xyxy: Array, pose: PoseLandmarks) -> Array:
    """Return the box with the top of the head in it, for which there is no landmark.

    The crown lies twice as far above the eyes as the mouth below them.
    """
    eyes, mouth = pose.uv[_EYES].mean(0), pose.uv[_MOUTH].mean(0)
    crown = np.maximum(eyes + 2 * (eyes - mouth), 0)
    if pose.presence[_EYES + _MOUTH].min() < 0.5:
        return bbox_xyxy
    return np.concatenate([np.minimum(bbox_xyxy[:2], crown), np.maximum(bbox_xyxy[2:], crown)]).astype(np.float32)


def _square(bbox_xyxy: Array) -> Roi:
    middle = (bbox_xyxy[:2] + bbox_xyxy[2:]) / 2
    return Roi((float(middle[0]), float(middle[1])), 1.25 * float(max(bbox_xyxy[2:] - bbox_xyxy[:2])))
