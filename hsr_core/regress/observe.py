"""See the people of a frame: follow or find them, then body, hand and face landmarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..config import PartsSettings, PeopleSettings
from ..types import Array, Frame
from .details import NO_DETAILS, DetailFinder, Details
from .face_network import FaceLandmarks
from .follow import (
    LOOK_FREE_S,
    LOOK_FULL_S,
    LOOK_LOST_S,
    SIDES,
    Followed,
    FollowedPeople,
    is_among,
    is_covered,
    overlapping,
)
from .hand_network import HandLandmarks
from .person_search import SURE, PersonSearch
from .pose_network import PoseLandmarks, PoseNetwork

_FOLLOW_MIN = 0.5
"""Body score under which a person followed is searched for again."""
_REST, _REST_LOST = 3, 2
"""Frames without a look between two looks around, and before one where somebody was lost: a machine that is late as it
is does not look in every frame."""
_TAKE_OVER_LOOKS = 3
"""A larger person is followed after so many looks in a row: who jumps into the picture for a moment is not."""


@dataclass(frozen=True, eq=False)
class Observation:
    """The networks' answers for one person in one frame; None = not seen.

    Attributes:
        key: The same for the same person, as far as following them tells; never given to another.
        pose, face: Landmarks.
        hands: By the body network's left and right.
        detailed: False when hands and face were not looked for, because it was another person's turn.
    """

    key: int
    pose: PoseLandmarks
    hands: dict[str, HandLandmarks | None]
    face: FaceLandmarks | None
    detailed: bool = True


class Observer:
    """Runs the networks; the only thing remembered is where to look."""

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}
        self._details = DetailFinder()
        self.face_network = self._details.face_network
        self._pose = PoseNetwork()
        self._search = PersonSearch(self._pose)
        self._followed = FollowedPeople()
        self._looked_ns: int | None = None
        self._larger_looks = self._rested = self._rested_lost = 0

    def observe(self, frame: Frame, people: PeopleSettings, parts: PartsSettings) -> list[Observation]:
        """Return what is seen of everybody followed, the largest first."""
        self.stage_ms = {}
        self._followed.forget_old(frame.stamp_ns)
        begun: dict[Followed, Callable[[], Details]] = {}
        try:
            with self._timed("pose"):
                seen = self._follow(frame, people, parts, begun)
            with self._timed("detect"):
                self._look(frame, people, seen)
            seen = {f: pose for f, pose in seen.items() if _tall_enough(pose, frame.image_hw, people.min_height_px)}
            for followed in self._followed.people:
                followed.lost = followed not in seen
            for followed, pose in seen.items():
                followed.see(pose, frame.stamp_ns)
            self._followed.forget_lost(frame.stamp_ns)
            order = sorted(seen, key=lambda followed: -followed.roi.size_px)
            if order and not begun.keys() & seen.keys():  # nobody was there before
                begun[order[0]] = self._details.start(frame, order[0], seen[order[0]], parts)
        finally:
            with self._timed("hands_face"):  # also of those who turned out to be somebody else: the image is not ours
                found = {followed: answer() for followed, answer in begun.items()}
        return [Observation(f.key, seen[f], *found.get(f, NO_DETAILS), detailed=f in found) for f in order]

    def attend(self, key: int | None) -> None:
        """Look at this person's hands and face in every frame; None: at the largest person's."""
        self._followed.attended = key

    @property
    def keys(self) -> set[int]:
        """Of everybody followed or waited for."""
        return {followed.key for followed in self._followed.people}

    def reset(self) -> None:
        """Forget whom to follow."""
        self._followed.clear()
        self._looked_ns, self._larger_looks = None, 0

    def close(self) -> None:
        """End the threads."""
        self._details.close()

    def _follow(
        self,
        frame: Frame,
        people: PeopleSettings,
        parts: PartsSettings,
        begun: dict[Followed, Callable[[], Details]],
    ) -> dict[Followed, PoseLandmarks]:
        """Return those who are still there, the larger first; hands and faces are begun while the next body is read."""
        seen: dict[Followed, PoseLandmarks] = {}
        wanted = self._followed.for_details(frame.stamp_ns)
        for followed in self._followed.largest_first():
            roi = followed.expected(frame.stamp_ns)
            if not roi.usable(frame.image_hw):
                continue
            if followed.lost and not followed.may_retry("body", frame.stamp_ns, LOOK_LOST_S):
                continue
            pose = self._pose.run(frame, roi, overlapping(roi, seen.values()))
            if pose.score < (SURE if followed.lost else max(people.min_score, _FOLLOW_MIN)):
                continue
            if is_covered(pose, seen.values()) or (followed.lost and is_among(pose, seen.values())):
                continue
            seen[followed] = pose
            if followed in wanted:
                begun[followed] = self._details.start(frame, followed, pose, parts)
        return self._followed.without_doubles(seen, frame.stamp_ns) if len(seen) > 1 else seen

    def _look(self, frame: Frame, people: PeopleSettings, seen: dict[Followed, PoseLandmarks]) -> None:
        """Look for those who are lost and for others, and put whom we find into `seen`."""
        if not seen:
            found = self._search_for_anybody(frame, people)
            self._looked_ns = None if people.max > 1 else frame.stamp_ns  # is there anybody else? the next frame tells
        else:
            self._rested, self._rested_lost = self._rested + 1, self._rested_lost + 1
            found = self._search_for_lost(frame, seen) if self._rested_lost >= _REST_LOST else []
            if self._look_is_due(frame, len(self._followed) < people.max):
                found += self._search_for_others(frame, people, [*seen.values(), *found], seen)
        for pose in found:
            if is_among(pose, seen.values()):
                continue
            lost = [f for f in self._followed.people if f not in seen and f.may_return_as(pose, frame.stamp_ns)]
            if lost:
                person = min(lost, key=lambda followed: followed.surprise(pose, frame.stamp_ns))
                person.hands, person.face = dict.fromkeys(SIDES), None
                seen[person] = pose
            elif len(self._followed) < people.max and _tall_enough(pose, frame.image_hw, people.min_height_px):
                seen[self._followed.add(pose, frame.stamp_ns)] = pose

    def _look_is_due(self, frame: Frame, free: bool) -> bool:
        wait = LOOK_FREE_S if free else LOOK_FULL_S
        if self._looked_ns is None or frame.stamp_ns < self._looked_ns:
            return True
        return self._rested >= _REST and frame.stamp_ns - self._looked_ns >= wait * 1e9

    def _search_for_anybody(self, frame: Frame, people: PeopleSettings) -> list[PoseLandmarks]:
        """Search thoroughly, near the person seen last first."""
        last = max(self._followed.people, key=lambda followed: followed.stamp_ns, default=None)
        pose = self._search.search(frame, min_score=people.min_score, near=last.roi if last else None)
        return [] if pose is None else [pose]

    def _search_for_lost(self, frame: Frame, seen: dict[Followed, PoseLandmarks]) -> list[PoseLandmarks]:
        """Search where one of those who are waited for should be."""
        for followed in self._followed.waited_for:
            if followed not in seen and followed.may_retry("search", frame.stamp_ns, LOOK_LOST_S):
                self._rested_lost = 0
                return self._search.around(frame, followed.expected(frame.stamp_ns), list(seen.values()))
        return []

    def _search_for_others(
        self,
        frame: Frame,
        people: PeopleSettings,
        known: list[PoseLandmarks],
        seen: dict[Followed, PoseLandmarks],
    ) -> list[PoseLandmarks]:
        """Search for people beside those known; when all places are taken, for somebody much larger."""
        first_look, self._looked_ns, self._rested = self._looked_ns is None, frame.stamp_ns, 0
        free = people.max - len(self._followed)
        if free > 0:
            self._larger_looks = 0
            return self._search.others(frame, known, most=free, everywhere=first_look)
        smallest = min(seen, key=lambda followed: seen[followed].next_roi.size_px)
        larger = self._search.larger(frame, seen[smallest].next_roi, [pose.next_roi for pose in known])
        self._larger_looks = self._larger_looks + 1 if larger is not None else 0
        if self._larger_looks < _TAKE_OVER_LOOKS:
            return []
        self._larger_looks = 0
        del seen[smallest]
        self._followed.forget(smallest)
        return [larger]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_ms[stage] = (time.perf_counter() - start) * 1e3


def person_box(pose: PoseLandmarks, image_hw: tuple[int, int]) -> Array:
    """Return the person's box (4,) [px], cut at the image: the landmarks' box and a margin for head top and skin."""
    inside = pose.presence > 0.5
    return points_box(pose.uv[inside] if inside.sum() > 3 else pose.uv, image_hw)


def points_box(uv: Array, image_hw: tuple[int, int]) -> Array:
    """Return the box (4,) [px] of a person of whom these points (N, 2) [px] are known, cut at the image."""
    height, width = image_hw
    low, high = uv.min(0), uv.max(0)
    margin = 0.06 * (high - low).max()
    box = [low[0] - margin, low[1] - 1.5 * margin, high[0] + margin, high[1] + margin]
    return np.clip(box, 0, [width, height, width, height]).astype(np.float32)


def _tall_enough(pose: PoseLandmarks, image_hw: tuple[int, int], min_px: int) -> bool:
    x0, y0, x1, y1 = person_box(pose, image_hw)
    return bool(max(x1 - x0, y1 - y0) >= min_px)
