"""Who is who from frame to frame: association by image box and by place, and the life of a track.

Source:
    Tracking by detection with an optimal assignment, as in SORT (Bewley et al. 2016), with a gate in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..types import Array, TrackState

GATE_M, GATE_M_PER_S = 0.3, 2.5
"""How far a person may be from where they are expected."""
GATE_IOU = 0.3
"""Boxes that overlap this much are one person even where the distance jumped."""
_FORBIDDEN = 1e6
SPEED_TAU_S = 0.1
"""Time constant of the velocity that predicts a track."""
MAX_PREDICTION_S = 0.1
"""A person who is not seen is not expected to walk on for longer than this."""
PRIMARY_MARGIN = 1.3
"""Another person becomes the largest when larger by this factor: equals do not take turns."""


@dataclass
class Track:
    """One person's life.

    Attributes:
        id: Never reused.
        state: NEW in its first frame, then TRACKED, PREDICTED while not seen, LOST once.
        bbox_xyxy, place: Of the last sighting: (4,) [px], (3,) [m].
        velocity: (3,) [m/s].
        seen_ns: Stamp of the last sighting.
        memory: For the owner: what belongs to this person and ends with the track.
    """

    id: int
    bbox_xyxy: Array
    place: Array
    seen_ns: int
    state: TrackState = TrackState.NEW
    velocity: Array = field(default_factory=lambda: np.zeros(3))
    memory: Any = None

    def expected(self, stamp_ns: int) -> Array:
        """Return where the person should be, (3,) [m]."""
        return self.place + self.velocity * min((stamp_ns - self.seen_ns) / 1e9, MAX_PREDICTION_S)

    def see(self, bbox_xyxy: Array, place: Array, stamp_ns: int) -> None:
        """Take a sighting."""
        dt = (stamp_ns - self.seen_ns) / 1e9
        if dt > 0:
            self.velocity += (1 - np.exp(-dt / SPEED_TAU_S)) * ((place - self.place) / dt - self.velocity)
        self.bbox_xyxy, self.place, self.seen_ns, self.state = bbox_xyxy, place, stamp_ns, TrackState.TRACKED


class Tracker:
    """Gives each detection its track and keeps those that are not seen for a while.

    Args:
        keep_s: How long a person who is not seen stays PREDICTED before LOST [s].
        most: Most people at once; who has not been seen for longest gives way to somebody new.
    """

    def __init__(self, keep_s: float, most: int = 16) -> None:
        self.keep_s, self.most = keep_s, most
        self.tracks: list[Track] = []
        self._next_id = 1
        self._locked: int | None = None
        self._primary: int | None = None

    def update(self, stamp_ns: int, boxes: Sequence[Array], places: Sequence[Array]) -> list[Track]:
        """Take the detections of a frame and return the track of each, in the same order.

        `tracks` afterwards holds everybody: seen, PREDICTED, and those LOST in this very frame.

        Args:
            stamp_ns: Exposure time [ns]; must not be earlier than the last one (else `reset` first).
            boxes: (4,) each [px].
            places: Where each person is, (3,) [m], camera frame.
        """
        self.tracks = [track for track in self.tracks if track.state != TrackState.LOST]
        found: dict[int, Track] = {}
        for t, d in self._assign(stamp_ns, boxes, places):
            track = found[d] = self.tracks[t]
            track.see(boxes[d], places[d], stamp_ns)
        seen = {track.id for track in found.values()}
        for track in self.tracks:
            if track.id not in seen:
                kept = stamp_ns - track.seen_ns <= self.keep_s * 1e9
                track.state = TrackState.PREDICTED if kept else TrackState.LOST
        for d in range(len(boxes)):
            if d not in found:
                found[d] = self._start(boxes[d], places[d], stamp_ns)
        self._make_room()
        self._choose_primary()
        return [found[d] for d in range(len(boxes))]

    @property
    def primary(self) -> int | None:
        """Id of the person that was locked, or else of the largest; None when that person is not there."""
        return self._primary

    def set_primary(self, track_id: int | None) -> None:
        """Lock the primary person; None: the largest again. A locked person who leaves is replaced by nobody."""
        self._locked = track_id
        self._choose_primary()

    def reset(self) -> None:
        """Forget everybody. Ids go on counting."""
        self.tracks, self._locked, self._primary = [], None, None

    def _start(self, bbox_xyxy: Array, place: Array, stamp_ns: int) -> Track:
        track = Track(self._next_id, bbox_xyxy, place, stamp_ns)
        self._next_id += 1
        self.tracks.append(track)
        return track

    def _assign(self, stamp_ns: int, boxes: Sequence[Array], places: Sequence[Array]) -> list[tuple[int, int]]:
        """Return pairs (index of track, index of detection) of least total cost within the gate."""
        if not self.tracks or not boxes:
            return []
        reach = np.array([GATE_M + GATE_M_PER_S * (stamp_ns - track.seen_ns) / 1e9 for track in self.tracks])[:, None]
        expected = np.array([track.expected(stamp_ns) for track in self.tracks])
        distance = np.linalg.norm(expected[:, None] - np.asarray(places)[None], axis=-1) / reach
        overlap = box_iou(np.array([track.bbox_xyxy for track in self.tracks]), np.asarray(boxes))
        cost = np.minimum(distance, 2.0) + 1 - overlap
        cost[(distance > 1) & (overlap < GATE_IOU)] = _FORBIDDEN
        rows, columns = linear_sum_assignment(cost)
        return [(int(t), int(d)) for t, d in zip(rows, columns, strict=True) if cost[t, d] < _FORBIDDEN]

    def _make_room(self) -> None:
        unseen = [track for track in self.tracks if track.state == TrackState.PREDICTED]
        seen = sum(track.state in (TrackState.NEW, TrackState.TRACKED) for track in self.tracks)
        unseen.sort(key=lambda track: track.seen_ns, reverse=True)
        for track in unseen[max(self.most - seen, 0) :]:
            track.state = TrackState.LOST

    def _choose_primary(self) -> None:
        sizes = {track.id: _height(track.bbox_xyxy) for track in self.tracks if track.state != TrackState.LOST}
        if self._locked is not None:
            self._primary = self._locked if self._locked in sizes else None
            return
        if not sizes:
            self._primary = None
            return
        largest = max(sizes, key=sizes.__getitem__)
        if self._primary not in sizes or sizes[largest] > PRIMARY_MARGIN * sizes[self._primary]:
            self._primary = largest


def box_iou(a: Array, b: Array) -> Array:
    """Return the overlap of boxes over their union. Shape (N, 4), (M, 4) -> (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=-1), np.prod(b[:, 2:] - b[:, :2], axis=-1)
    return common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9)


def _height(bbox_xyxy: Array) -> float:
    return float(bbox_xyxy[3] - bbox_xyxy[1])
