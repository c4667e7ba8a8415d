"""See one person: follow or find them, then body, hand and face landmarks of this frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..config import PartsSettings, PeopleSettings
from ..threads import network_threads
from ..types import Array, Frame
from .crop import Roi
from .face_network import FaceLandmarks, FaceNetwork
from .face_network import roi_from_pose as face_roi_from_pose
from .hand_network import HandLandmarks, HandNetwork
from .person_search import PersonSearch
from .pose_network import L, PoseLandmarks, PoseNetwork

SIDES = ("left", "right")
_HAND_MIN, _FACE_MIN = 0.5, 0.5
"""Scores under which a hand or a face counts as not seen."""
_FACE_MIN_PX = 28
"""Narrower faces hold no expression."""
_FOLLOW_MIN = 0.5
"""Body score under which the person followed is searched for again."""
_LOOK_AROUND_S = 0.5
_TAKE_OVER_LOOKS = 3
"""A larger person is followed after so many looks in a row: who jumps into the picture for a moment is not."""
_GAP_S = 0.5
_WAIT_S = 0.3
"""Somebody who is lost from sight is looked for this long before another person is followed; tracks last longer."""


@dataclass(frozen=True, eq=False)
class Observation:
    """The networks' answers for one person in one frame; None = not seen.

    Attributes:
        pose, face: Landmarks.
        hands: By the body network's left and right.
        new: True when this may be another person than in the last frame.
    """

    pose: PoseLandmarks
    hands: dict[str, HandLandmarks | None]
    face: FaceLandmarks | None
    new: bool


@dataclass
class _Followed:
    """Where the person was in the last frame."""

    roi: Roi
    stamp_ns: int
    looked_ns: int
    larger_looks: int = 0
    hands: dict[str, Roi | None] = field(default_factory=lambda: dict.fromkeys(SIDES))
    face: Roi | None = None


class Observer:
    """Runs the networks; the only thing remembered is where to look."""

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}
        self.face_network = FaceNetwork()
        self._pose = PoseNetwork()
        self._search = PersonSearch(self._pose)
        self._hands = {side: HandNetwork() for side in SIDES}
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="landmarks") if network_threads() > 1 else None
        self._followed: _Followed | None = None

    def observe(self, frame: Frame, people: PeopleSettings, parts: PartsSettings) -> Observation | None:
        """Return what is seen of the person, or None when there is nobody."""
        self.stage_ms = {}
        with self._timed("pose"):
            pose = self._follow(frame, people)
        new = False
        if pose is None:
            with self._timed("detect"):
                pose, new = self._find(frame, people)
        if pose is None or not _tall_enough(pose, frame.image_hw, people.min_height_px):
            if not self._may_come_back(frame):
                self._followed = None
            return None
        self._followed.roi, self._followed.stamp_ns = pose.next_roi, frame.stamp_ns
        with self._timed("hands_face"):
            right = self._right_hand(frame, pose) if parts.hands else None
            left = self._hand(frame, pose, "left") if parts.hands else None
            face = self._face(frame, pose) if parts.face else None
            return Observation(pose, {"left": left, "right": right() if right else None}, face, new)

    def reset(self) -> None:
        """Forget whom to follow."""
        self._followed = None

    def close(self) -> None:
        """End the thread."""
        if self._beside is not None:
            self._beside.shutdown(wait=True)

    def _follow(self, frame: Frame, people: PeopleSettings) -> PoseLandmarks | None:
        """Return the person followed, if they are still there and nobody larger has come."""
        followed = self._followed
        if followed is None:
            return None
        if not 0 <= frame.stamp_ns - followed.stamp_ns < _GAP_S * 1e9:
            self._followed = None
            return None
        if frame.stamp_ns - followed.looked_ns >= _LOOK_AROUND_S * 1e9:
            followed.looked_ns = frame.stamp_ns
            larger = self._search.larger(frame, followed.roi) is not None
            followed.larger_looks = followed.larger_looks + 1 if larger else 0
            if followed.larger_looks == _TAKE_OVER_LOOKS:
                self._followed = None
                return None
        if not followed.roi.usable(frame.image_hw):
            return None
        pose = self._pose.run(frame, followed.roi)
        return pose if pose.score >= max(people.min_score, _FOLLOW_MIN) else None

    def _find(self, frame: Frame, people: PeopleSettings) -> tuple[PoseLandmarks | None, bool]:
        """Return somebody found, and whether it may be another person than before."""
        before = self._followed
        pose = self._search.search(frame, min_score=people.min_score, near=before.roi if before else None)
        if pose is None:
            return None, True
        if before is not None and _near(before.roi, pose.uv.mean(0)):
            before.hands, before.face = dict.fromkeys(SIDES), None
            return pose, False
        if self._may_come_back(frame):
            return None, False
        self._followed = _Followed(pose.next_roi, frame.stamp_ns, frame.stamp_ns)
        return pose, True

    def _may_come_back(self, frame: Frame) -> bool:
        """A person who was there a moment ago is waited for before somebody else is followed."""
        followed = self._followed
        return followed is not None and 0 <= frame.stamp_ns - followed.stamp_ns < _WAIT_S * 1e9

    def _right_hand(self, frame: Frame, pose: PoseLandmarks) -> Callable[[], HandLandmarks | None]:
        """Look for the right hand, beside the left one where there is a thread for it; the answer gives the result."""
        if self._beside is not None:
            return self._beside.submit(self._hand, frame, pose, "right").result
        hand = self._hand(frame, pose, "right")
        return lambda: hand

    def _hand(self, frame: Frame, pose: PoseLandmarks, side: str) -> HandLandmarks | None:
        network, rois = self._hands[side], self._followed.hands
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

    def _face(self, frame: Frame, pose: PoseLandmarks) -> FaceLandmarks | None:
        roi, self._followed.face = self._followed.face, None
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
        self._followed.face = face.next_roi
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
