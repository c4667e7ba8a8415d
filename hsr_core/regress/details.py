"""Hands and face of the people seen: looked for where each was last, else where the body says, beside other work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..config import PartsSettings
from ..threads import network_threads
from ..types import Frame
from .crop import near
from .face_network import FaceLandmarks, FaceNetwork
from .face_network import roi_from_pose as face_roi_from_pose
from .follow import SIDES, Followed
from .hand_network import HandLandmarks, HandNetwork
from .pose_network import L, PoseLandmarks

_HAND_MIN, _FACE_MIN = 0.5, 0.5
"""Scores under which a hand or a face counts as not seen."""
_FACE_MIN_PX = 28
"""Narrower faces hold no expression."""
RETRY_S = 0.09
"""A face that was not found is looked for again after this time: people turn their heads away for longer."""

Details = tuple[dict[str, HandLandmarks | None], FaceLandmarks | None]
NO_DETAILS: Details = (dict.fromkeys(SIDES), None)
_T = TypeVar("_T")


class DetailFinder:
    """Two threads of one network each: left hands and faces, right hands. In one thread where there is no other core.

    Attributes:
        face_network: Shared with the fit, which shows it a drawing of the body's head.
    """

    def __init__(self) -> None:
        self.face_network = FaceNetwork()
        self._hands = {side: HandNetwork() for side in SIDES}
        beside = network_threads() > 1
        self._threads = {s: ThreadPoolExecutor(1, thread_name_prefix=f"{s}_hands") for s in SIDES if beside}

    def start(
        self, frame: Frame, followed: Followed, pose: PoseLandmarks, parts: PartsSettings
    ) -> Callable[[], Details]:
        """Begin to look for a person's hands and face; the answer waits for them and returns them."""
        hands = {}
        for side in SIDES:
            if parts.hands:
                hands[side] = self._submit(side, lambda side=side: self._hand(frame, followed, pose, side))
        face = self._submit("left", lambda: self._face(frame, followed, pose)) if parts.face else None
        return lambda: (
            {side: hands[side]() if side in hands else None for side in SIDES},
            face() if face is not None else None,
        )

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads.values():
            thread.shutdown(wait=True)

    def _submit(self, thread: str, work: Callable[[], _T]) -> Callable[[], _T]:
        if thread in self._threads:
            return self._threads[thread].submit(work).result
        done = work()
        return lambda: done

    def _hand(self, frame: Frame, followed: Followed, pose: PoseLandmarks, side: str) -> HandLandmarks | None:
        network, rois = self._hands[side], followed.hands
        wrist = L[f"{side}_wrist"]
        roi, rois[side] = rois[side], None
        if pose.presence[wrist] < 0.5:
            return None
        if roi is None or not near(roi, pose.uv[wrist]):
            roi = network.find(frame, pose, side)
        if roi is None or not roi.usable(frame.image_hw):
            return None
        hand = network.run(frame, roi)
        if hand.score < _HAND_MIN or not near(hand.next_roi, pose.uv[wrist]):
            return None
        rois[side] = hand.next_roi
        return hand

    def _face(self, frame: Frame, followed: Followed, pose: PoseLandmarks) -> FaceLandmarks | None:
        roi, followed.face = followed.face, None
        nose = pose.uv[L["nose"]]
        if pose.presence[L["nose"]] < 0.5:
            return None
        if roi is None or not near(roi, nose):
            if not followed.may_retry("face", frame.stamp_ns, RETRY_S):
                return None
            roi = face_roi_from_pose(pose)
        if not roi.usable(frame.image_hw):
            return None
        face = self.face_network.run(frame, roi)
        if face.score < _FACE_MIN or np.ptp(face.points[:, 0]) < _FACE_MIN_PX or not near(face.next_roi, nose):
            return None
        followed.face = face.next_roi
        return face
