"""See the people of a frame: follow or find them, then body, hand and face landmarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..config import PartsSettings, PeopleSettings
from ..threads import network_threads
from ..types import Array, Frame
from .crop import Roi
from .face_network import FaceLandmarks, FaceNetwork
from .face_network import roi_from_pose as face_roi_from_pose
from .follow import (
    LOOK_FREE_S,
    LOOK_FULL_S,
    LOOK_LOST_S,
    SIDES,
    Followed,
    FollowedPeople,
    is_among,
    overlapping,
)
from .hand_network import HandLandmarks, HandNetwork
from .person_search import PersonSearch
from .pose_network import L, PoseLandmarks, PoseNetwork

_HAND_MIN, _FACE_MIN = 0.5, 0.5
"""Scores under which a hand or a face counts as not seen."""
_FACE_MIN_PX = 28
"""Narrower faces hold no expression."""
_FOLLOW_MIN = 0.5
"""Body score under which a person followed is searched for again."""
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
        self.face_network = FaceNetwork()
        self._pose = PoseNetwork()
        self._search = PersonSearch(self._pose)
        self._hands = {side: HandNetwork() for side in SIDES}
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="landmarks") if network_threads() > 1 else None
        self._followed = FollowedPeople()
        self._looked_ns: int | None = None
        self._larger_looks = 0

    def observe(self, frame: Frame, people: PeopleSettings, parts: PartsSettings) -> list[Observation]:
        """Return what is seen of everybody followed, the largest first."""
        self.stage_ms = {}
        self._followed.forget_old(frame.stamp_ns)
        with self._timed("pose"):
            seen = self._follow(frame, people)
        if not seen or self._look_is_due(frame, seen, people.max):
            with self._timed("detect"):
                self._look(frame, people, seen)
        seen = {f: pose for f, pose in seen.items() if _tall_enough(pose, frame.image_hw, people.min_height_px)}
        for followed, pose in seen.items():
            followed.see(pose, frame.stamp_ns)
        self._followed.forget_lost(frame.stamp_ns)
        order = sorted(seen, key=lambda followed: -followed.roi.size_px)
        with self._timed("hands_face"):
            detailed = self._followed.for_details(order)
            return [self._details(frame, f, seen[f], parts, f in detailed) for f in order]

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
        """End the thread."""
        if self._beside is not None:
            self._beside.shutdown(wait=True)

    # Bodies

    def _follow(self, frame: Frame, people: PeopleSettings) -> dict[Followed, PoseLandmarks]:
        """Return those who are still there. The larger first: they hide the others."""
        seen: dict[Followed, PoseLandmarks] = {}
        for followed in sorted(self._followed.people, key=lambda followed: -followed.roi.size_px):
            if followed.roi.usable(frame.image_hw):
                pose = self._pose.run(frame, followed.roi, overlapping(followed.roi, seen.values()))
                if pose.score >= max(people.min_score, _FOLLOW_MIN):
                    seen[followed] = pose
        return self._followed.without_doubles(seen, frame.stamp_ns) if len(seen) > 1 else seen

    def _look_is_due(self, frame: Frame, seen: dict[Followed, PoseLandmarks], most: int) -> bool:
        if self._looked_ns is None or len(seen) < len(self._followed):
            wait = LOOK_LOST_S
        else:
            wait = LOOK_FREE_S if len(seen) < most else LOOK_FULL_S
        return self._looked_ns is None or not 0 <= frame.stamp_ns - self._looked_ns < wait * 1e9

    def _look(self, frame: Frame, people: PeopleSettings, seen: dict[Followed, PoseLandmarks]) -> None:
        """Look for those who are lost and for others, and put whom we find into `seen`."""
        if not seen:
            found = self._search_for_anybody(frame, people)
            self._looked_ns = None if people.max > 1 else frame.stamp_ns  # is there anybody else? the next frame tells
        else:
            found = self._search_for_others(frame, people, seen)
        for pose in found:
            if is_among(pose, seen.values()):
                continue
            lost = [f for f in self._followed.people if f not in seen and _near(f.roi, pose.uv.mean(0))]
            if lost:
                person = min(lost, key=lambda followed: followed.surprise(pose, frame.stamp_ns))
                person.hands, person.face = dict.fromkeys(SIDES), None
                seen[person] = pose
            elif len(self._followed) < people.max and _tall_enough(pose, frame.image_hw, people.min_height_px):
                seen[self._followed.add(pose, frame.stamp_ns)] = pose

    def _search_for_anybody(self, frame: Frame, people: PeopleSettings) -> list[PoseLandmarks]:
        """Search thoroughly, near the person seen last first."""
        last = max(self._followed.people, key=lambda followed: followed.stamp_ns, default=None)
        pose = self._search.search(frame, min_score=people.min_score, near=last.roi if last else None)
        return [] if pose is None else [pose]

    def _search_for_others(
        self, frame: Frame, people: PeopleSettings, seen: dict[Followed, PoseLandmarks]
    ) -> list[PoseLandmarks]:
        """Search for people beside those seen; when all places are taken, for somebody much larger."""
        first_look, self._looked_ns = self._looked_ns is None, frame.stamp_ns
        known = list(seen.values())
        if len(seen) < people.max:
            self._larger_looks = 0
            return self._search.others(frame, known, most=people.max - len(seen), everywhere=first_look)
        smallest = min(seen, key=lambda followed: seen[followed].next_roi.size_px)
        larger = self._search.larger(frame, seen[smallest].next_roi, [pose.next_roi for pose in known])
        self._larger_looks = self._larger_looks + 1 if larger is not None else 0
        if self._larger_looks < _TAKE_OVER_LOOKS:
            return []
        self._larger_looks = 0
        del seen[smallest]
        self._followed.forget(smallest)
        return [larger]

    # Hands and face

    def _details(
        self, frame: Frame, followed: Followed, pose: PoseLandmarks, parts: PartsSettings, wanted: bool
    ) -> Observation:
        if not wanted:
            return Observation(followed.key, pose, dict.fromkeys(SIDES), None, detailed=False)
        right = self._right_hand(frame, followed, pose) if parts.hands else None
        left = self._hand(frame, followed, pose, "left") if parts.hands else None
        face = self._face(frame, followed, pose) if parts.face else None
        return Observation(followed.key, pose, {"left": left, "right": right() if right else None}, face)

    def _right_hand(self, frame: Frame, followed: Followed, pose: PoseLandmarks) -> Callable[[], HandLandmarks | None]:
        """Look for the right hand, beside the left one where there is a thread for it; the answer gives the result."""
        if self._beside is not None:
            return self._beside.submit(self._hand, frame, followed, pose, "right").result
        hand = self._hand(frame, followed, pose, "right")
        return lambda: hand

    def _hand(self, frame: Frame, followed: Followed, pose: PoseLandmarks, side: str) -> HandLandmarks | None:
        network, rois = self._hands[side], followed.hands
        wrist = L[f"{side}_wrist"]
        roi, rois[side] = rois[side], None
        if pose.presence[wrist] < 0.5:
            return None
        if roi is None or not _near(roi, pose.uv[wrist]):
            roi = network.find(frame, pose, side)
        if roi is None or not roi.usable(frame.image_hw):
            return None
        hand = network.run(frame, roi)
        if hand.score < _HAND_MIN or not _near(hand.next_roi, pose.uv[wrist]):
            return None
        rois[side] = hand.next_roi
        return hand

    def _face(self, frame: Frame, followed: Followed, pose: PoseLandmarks) -> FaceLandmarks | None:
        roi, followed.face = followed.face, None
        nose = pose.uv[L["nose"]]
        if pose.presence[L["nose"]] < 0.5:
            return None
        if roi is None or not _near(roi, nose):
            roi = face_roi_from_pose(pose)
        if not roi.usable(frame.image_hw):
            return None
        face = self.face_network.run(frame, roi)
        if face.score < _FACE_MIN or np.ptp(face.points[:, 0]) < _FACE_MIN_PX or not _near(face.next_roi, nose):
            return None
        followed.face = face.next_roi
        return face

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


def _near(roi: Roi, uv: Array) -> bool:
    """True when the point lies within the square, or little outside."""
    return bool(np.hypot(uv[0] - roi.center[0], uv[1] - roi.center[1]) < 0.75 * roi.size_px)
