"""Who is who from frame to frame: association by place and by image box, and the life of a track.

Source:
    Tracking by detection with an optimal assignment, as in SORT (Bewley et al. 2016): here the cost is the negative
    logarithm of the likelihood of a place (see `motion`) and of the colours worn, where they are known (see
    `appearance`), with the overlap of boxes beside it, gated in metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..types import Array, TrackState
from .appearance import appearance_cost, appearance_distance, blend
from .motion import Motion, direction_and_distance

GATE_M, GATE_M_PER_S = 0.3, 2.5
"""How far from where they are expected a person may be."""
ALIKE = 0.5
"""Who looks like a person, by `appearance_distance`. Who does not and is 5 sigma from the expected place is another."""
JUMP_M, JUMP_M_PER_S, JUMP_LOG_Z = 2.8, 8.0, 0.5
"""Who looks like it may have jumped, at most so far and so fast across the viewing ray; and, with an assumed stature,
may seem to be 1.6 times as far away because they crouch."""
GATE_IOU = 0.3
"""Boxes that overlap this much are one person even where the distance jumped."""
BOX_S = 0.1
"""A box that is older than this says nothing."""
_OVERLAP_WEIGHT = 3.0
_MOST_SURPRISE = 25.0
"""Squared deviations beyond 5 sigma count as this: whom the box alone tells may be at any distance."""
_MIXED_IOU = 0.15
"""Of people whose boxes overlap more than this the colours are not learnt: some may be the other's."""
_FORBIDDEN = 1e6
PRIMARY_MARGIN = 1.3
"""Another person becomes primary when ahead by this factor: equals do not take turns."""


@dataclass
class Track:
    """One person's life.

    Attributes:
        id: Never reused.
        bbox_xyxy, place: Of the last sighting: (4,) [px], (3,) [m].
        motion: What tells where they should be next.
        appearance: Colour histograms as in `Regression.appearance`, averaged over the latest seconds; None: unknown.
        state: NEW in its first frame, then TRACKED, PREDICTED while not seen, LOST once.
        memory: For the owner: what belongs to this person and ends with the track.
    """

    id: int
    bbox_xyxy: Array
    place: Array
    motion: Motion
    state: TrackState = TrackState.NEW
    appearance: Array | None = None
    memory: Any = None

    @property
    def seen_ns(self) -> int:
        """Stamp of the last sighting."""
        return self.motion.stamp_ns

    def see(self, bbox_xyxy: Array, place: Array, stamp_ns: int) -> None:
        """Take a sighting."""
        self.motion.see(place, stamp_ns)
        self.bbox_xyxy, self.place, self.state = bbox_xyxy, place, TrackState.TRACKED


PRIMARY_RULES: dict[str, Callable[[Track], float] | None] = {
    "largest": lambda track: float(track.bbox_xyxy[3] - track.bbox_xyxy[1]),
    "nearest": lambda track: 1 / max(float(np.linalg.norm(track.place)), 0.1),
    "centre": lambda track: 1 / (0.1 + float(np.hypot(*direction_and_distance(track.place)[:2]))),
    "locked": None,
}
"""How much somebody is the primary person: by height in the image, distance, angle to the optical axis; locked: nobody
but whom `Tracker.set_primary` names."""


class Tracker:
    """Gives each detection its track and keeps those that are not seen for a while.

    Args:
        keep_s: How long a person who is not seen stays PREDICTED before LOST [s].
        most: Most people at once; who has not been seen for longest gives way to somebody new.
        rule: Who is the primary person, one of `PRIMARY_RULES`.
        first_id: Id of the first person; the next ones count on from there.

    Attributes:
        keep_s, most, rule: May be changed between two frames.
        tracks: Everybody after the last update. Births are those in state NEW, deaths those in state LOST.
        born, died: How many people so far.
    """

    def __init__(self, keep_s: float, most: int = 16, rule: str = "largest", first_id: int = 1) -> None:
        self._first_id = first_id
        self.keep_s, self.most, self.rule = keep_s, most, rule
        self.tracks: list[Track] = []
        self.born = self.died = 0
        self._locked: int | None = None
        self._primary: int | None = None

    def update(
        self,
        stamp_ns: int,
        boxes: Sequence[Array],
        places: Sequence[Array],
        appearances: Sequence[Array | None] | None = None,
    ) -> list[Track]:
        """Take the detections of a frame and return the track of each, in the same order.

        `tracks` afterwards holds everybody: seen, PREDICTED, and those LOST in this very frame.

        Args:
            stamp_ns: Exposure time [ns]; must not be earlier than the last one (else `reset` first).
            boxes: (4,) each [px].
            places: Where each person is, (3,) [m], camera frame.
            appearances: Of each person, as in `Regression.appearance`; None: not known.
        """
        looks = [None] * len(boxes) if appearances is None else appearances
        self.tracks = [track for track in self.tracks if track.state != TrackState.LOST]
        found: dict[int, Track] = {}
        for t, d in self._assign(stamp_ns, boxes, places, looks):
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
        self._learn_appearance(found, boxes, looks)
        self._make_room()
        self.died += sum(track.state == TrackState.LOST for track in self.tracks)
        self._choose_primary()
        return [found[d] for d in range(len(boxes))]

    @property
    def primary(self) -> int | None:
        """Id of the person that was locked, or else by the rule; None when that person is not there."""
        return self._primary

    def set_primary(self, track_id: int | None) -> None:
        """Lock the primary person; None: by the rule again. A locked person who leaves is replaced by nobody."""
        self._locked = track_id
        self._choose_primary()

    def reset(self) -> None:
        """Forget everybody. Ids go on counting."""
        self.died += sum(track.state != TrackState.LOST for track in self.tracks)
        self.tracks, self._locked, self._primary = [], None, None

    def _start(self, bbox_xyxy: Array, place: Array, stamp_ns: int) -> Track:
        track = Track(self._first_id + self.born, bbox_xyxy, place, Motion(place, stamp_ns))
        self.born += 1
        self.tracks.append(track)
        return track

    def _assign(
        self, stamp_ns: int, boxes: Sequence[Array], places: Sequence[Array], looks: Sequence[Array | None]
    ) -> list[tuple[int, int]]:
        """Return pairs (index of track, index of detection) of least total cost within the gate."""
        if not self.tracks or not boxes:
            return []
        unseen_s = np.array([stamp_ns - track.seen_ns for track in self.tracks])[:, None] / 1e9
        expected, variance = np.stack([track.motion.expected(stamp_ns) for track in self.tracks], 1)[:, :, None]
        error = direction_and_distance(np.asarray(places))[None] - expected
        overlap = box_iou(np.array([track.bbox_xyxy for track in self.tracks]), np.asarray(boxes))
        overlap[unseen_s[:, 0] > BOX_S] = 0
        strange = np.minimum(error**2 / variance, _MOST_SURPRISE)
        cost = (strange + np.log(variance)).sum(-1) / 2 + _OVERLAP_WEIGHT * (1 - overlap)
        unlike = appearance_distance([track.appearance for track in self.tracks], looks)
        cost += appearance_cost(unlike)
        possible = _reachable(error, np.exp(expected[..., 2]), unseen_s, unlike < ALIKE) | (overlap >= GATE_IOU)
        stranger = (unlike > ALIKE) & (strange.sum(-1) >= _MOST_SURPRISE)
        cost[~possible | stranger] = _FORBIDDEN
        rows, columns = linear_sum_assignment(cost)
        return [(int(t), int(d)) for t, d in zip(rows, columns, strict=True) if cost[t, d] < _FORBIDDEN]

    @staticmethod
    def _learn_appearance(found: dict[int, Track], boxes: Sequence[Array], looks: Sequence[Array | None]) -> None:
        """Remember the colours of those who stand alone; of somebody new in any case."""
        known = [d for d, look in enumerate(looks) if look is not None]
        if not known:
            return
        everybody = np.asarray(boxes)
        overlap = box_iou(everybody, everybody)
        np.fill_diagonal(overlap, 0)
        for d in known:
            if found[d].appearance is None or overlap[d].max() < _MIXED_IOU:
                found[d].appearance = blend(found[d].appearance, looks[d])

    def _make_room(self) -> None:
        unseen = [track for track in self.tracks if track.state == TrackState.PREDICTED]
        seen = sum(track.state in (TrackState.NEW, TrackState.TRACKED) for track in self.tracks)
        unseen.sort(key=lambda track: track.seen_ns, reverse=True)
        for track in unseen[max(self.most - seen, 0) :]:
            track.state = TrackState.LOST

    def _choose_primary(self) -> None:
        there = [track for track in self.tracks if track.state != TrackState.LOST]
        rule = PRIMARY_RULES[self.rule]
        if self._locked is not None or rule is None:
            self._primary = next((track.id for track in there if track.id == self._locked), None)
            return
        rank = {track.id: rule(track) for track in there}
        first = max(rank, key=rank.__getitem__, default=None)
        if self._primary not in rank or rank[first] > PRIMARY_MARGIN * rank[self._primary]:
            self._primary = first


def _reachable(error: Array, distance_m: Array, unseen_s: Array, alike: Array) -> Array:
    """Return who can have come to be where somebody is seen, bool (N, M).

    Args:
        error: (N, M, 3) directions and logarithms of the distance, from where the tracks are expected.
        distance_m: (N, 1) there. unseen_s: (N, 1) since they were seen. alike: bool (N, M).
    """
    near = np.linalg.norm(error, axis=-1) * distance_m <= GATE_M + GATE_M_PER_S * unseen_s
    across_m = np.linalg.norm(error[..., :2], axis=-1) * distance_m
    jumped = across_m <= np.minimum(GATE_M + JUMP_M_PER_S * unseen_s, JUMP_M)
    return near | (jumped & alike & (np.abs(error[..., 2]) <= JUMP_LOG_Z))


def box_iou(a: Array, b: Array) -> Array:
    """Return the overlap of boxes over their union. Shape (N, 4), (M, 4) -> (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=-1), np.prod(b[:, 2:] - b[:, :2], axis=-1)
    return common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9)
