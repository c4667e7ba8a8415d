"""Where people are, so that PEAR can look there: a search when needed, else where the last frame's joints were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...config import PeopleSettings
from ...types import Array, Frame
from ..crop import Roi
from ..follow import is_among, is_covered, overlapping
from ..observe import person_box, points_box
from ..person_search import PersonSearch
from ..pose_network import L, PoseLandmarks, PoseNetwork

CHECK_S = 0.5
"""PEAR draws a person into any crop and says nothing of its certainty: the body network is asked this often."""
GAP_S = 0.5
"""After a longer pause the last place says nothing."""
SAME_IOU = 0.7
"""Boxes that overlap more than this hold one person: PEAR cannot be told whom of two to draw."""
_EYES, _MOUTH = [L["left_eye"], L["right_eye"]], [L["mouth_left"], L["mouth_right"]]


@dataclass(frozen=True, eq=False)
class PersonBox:
    """Where to look for a person.

    Attributes:
        bbox_xyxy: (4,) [px], full image.
        score: Confidence that this is a person, [0, 1].
    """

    bbox_xyxy: Array
    score: float


class BoxFinder(Protocol):
    """Finds the people to look at, and is told where their joints were."""

    def find(self, frame: Frame, people: PeopleSettings) -> list[PersonBox]:
        """Return up to `people.max` boxes, the largest first."""
        ...

    def seen(self, uv: list[Array | None], frame: Frame) -> None:
        """Take the joints (N, 2) [px] seen in each box of the last answer, in its order; None: nobody was there."""
        ...

    def reset(self) -> None: ...


class WholeFrame:
    """One person, always there and in the middle."""

    def find(self, frame: Frame, people: PeopleSettings) -> list[PersonBox]:
        """Return the whole image."""
        height, width = frame.image_hw
        return [PersonBox(np.array([0, 0, width, height], np.float32), 1.0)]

    def seen(self, uv: list[Array | None], frame: Frame) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""


class FollowedBoxes:
    """People followed by their own joints, and looked at again twice a second: are they, and is there anybody else?"""

    def __init__(self) -> None:
        self._pose = PoseNetwork()
        self._search = PersonSearch(self._pose)
        self.reset()

    def find(self, frame: Frame, people: PeopleSettings) -> list[PersonBox]:
        """Return where people should be; nobody of less than `people`'s size and score."""
        if self._boxes and not 0 <= frame.stamp_ns - self._seen_ns < GAP_S * 1e9:
            self._boxes = []
        if not self._boxes or frame.stamp_ns - self._looked_ns >= CHECK_S * 1e9:
            self._look(frame, people)
        self._boxes.sort(key=lambda box: -_size(box.bbox_xyxy))
        return list(self._boxes)

    def seen(self, uv: list[Array | None], frame: Frame) -> None:
        """Follow these joints; of two boxes that have come to hold one person, the smaller is given up."""
        boxes: list[PersonBox] = []
        for box, joints in zip(self._boxes, uv, strict=True):
            if joints is not None:
                box = PersonBox(points_box(joints, frame.image_hw), box.score)
                if all(_overlap(box.bbox_xyxy, other.bbox_xyxy) < SAME_IOU for other in boxes):
                    boxes.append(box)
        self._boxes, self._seen_ns = boxes, frame.stamp_ns

    def reset(self) -> None:
        """Forget everybody."""
        self._boxes: list[PersonBox] = []
        self._seen_ns = self._looked_ns = 0

    def _look(self, frame: Frame, people: PeopleSettings) -> None:
        """See who is still there, and look for others; everywhere when nobody was."""
        everywhere = not self._boxes
        poses: list[PoseLandmarks] = []
        for box in self._boxes:
            poses += self._still_there(frame, box, people, poses)
        if not poses:
            anybody = self._search.search(frame, min_score=people.min_score)
            poses = [] if anybody is None else [anybody]
        if poses and len(poses) < people.max:
            poses += self._search.others(frame, poses, most=people.max - len(poses), everywhere=everywhere)
        boxes = [PersonBox(_with_crown(person_box(pose, frame.image_hw), pose), float(pose.score)) for pose in poses]
        self._boxes = [box for box in boxes if _size(box.bbox_xyxy) >= people.min_height_px]
        if self._boxes:
            self._seen_ns = self._looked_ns = frame.stamp_ns

    def _still_there(
        self, frame: Frame, box: PersonBox, people: PeopleSettings, nearer: list[PoseLandmarks]
    ) -> list[PoseLandmarks]:
        """Return the body in a box, or around it where it lies; of those nearer, none."""
        roi = _square(box.bbox_xyxy)
        if not roi.usable(frame.image_hw):
            return []
        pose = self._pose.run(frame, roi, overlapping(roi, nearer))
        if pose.score >= people.min_score and not is_among(pose, nearer) and not is_covered(pose, nearer):
            return [pose]
        return self._search.around(frame, roi, nearer)[:1]


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


def _size(bbox_xyxy: Array) -> float:
    return float(max(bbox_xyxy[2:] - bbox_xyxy[:2]))


def _overlap(a: Array, b: Array) -> float:
    """Return the overlap of two boxes over their union."""
    common = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    return common / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common, 1e-9)
