"""Masks that another node publishes: one person's, or an image of instances."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadFrame
from ..geometry.regions import iou
from ..geometry.view import BodyView, FrameView
from ..pairing import StampRing
from ..types import Array
from .base import SHARP, SURE, MaskSettings

MIN_IOU = 0.3
"""An instance belongs to a body that it overlaps so far, and to no other more."""
_DTYPES = {"mono8": "u1", "8UC1": "u1", "16UC1": "u2", "32FC1": "f4"}


@dataclass(frozen=True, eq=False)
class RawMask:
    """A mask image as it came; the fields of sensor_msgs/Image. mono8 (0..255) and 32FC1 (0..1): one person's
    probability; 16UC1: number of the instance, 0 = background.
    """

    data: Any
    hw: tuple[int, int]
    step: int
    encoding: str
    stamp_ns: int
    big_endian: bool = False


def read_values(raw: RawMask) -> Array:
    """Return the image (H, W) in its own type, without a copy.

    Raises:
        BadFrame: Another encoding, or data too short for the size.
    """
    if raw.encoding not in _DTYPES:
        raise BadFrame(
            f"mask encoding {raw.encoding!r} is not accepted; accepted: mono8, 32FC1 (one person), 16UC1 (ids)"
        )
    dtype = np.dtype((">" if raw.big_endian else "<") + _DTYPES[raw.encoding])
    (height, width), step = raw.hw, raw.step
    if step < width * dtype.itemsize or len(raw.data) < step * height:
        raise BadFrame(f"mask of {width}x{height} {raw.encoding}: step {step} or {len(raw.data)} bytes are too few")
    return np.ndarray((height, width), dtype, buffer=raw.data, strides=(step, dtype.itemsize))


class TopicMask:
    """Keeps the last masks and gives each body its own. `put` may be called from another thread.

    Attributes:
        counts: Images by outcome: used, unpaired, refused.
    """

    name = "topic"
    traits = SHARP

    def __init__(self, settings: MaskSettings) -> None:
        self._settings = settings
        self._ring: StampRing[RawMask] = StampRing()
        self._view: FrameView | None = None
        self._probs: dict[int, Array] = {}
        self.status = "no mask has come"
        self.counts: Counter[str] = Counter()

    def put(self, raw: RawMask) -> None:
        """Take a mask image."""
        self._ring.put(raw.stamp_ns, raw)

    def prob_for(self, view: FrameView, body: BodyView) -> Array | None:
        if view is not self._view:
            self._view, self._probs = view, self._assign(view)
        prob = self._probs.get(body.track_id)
        if prob is None and not self.status:
            self.status = f"no mask of the image overlaps track {body.track_id}"
        return prob

    def lost(self, track_id: int) -> None:
        """Its publisher is not told."""

    def reset(self) -> None:
        self._ring.clear()
        self._view, self._probs = None, {}

    def close(self) -> None:
        self.reset()

    def _assign(self, view: FrameView) -> dict[int, Array]:
        """Return the probabilities by track id for one image."""
        paired = self._ring.nearest(view.stamp_ns, self._settings.max_offset_s)
        if paired is None:
            self.counts["unpaired"] += 1
            self.status = f"no mask within {self._settings.max_offset_s * 1e3:.0f} ms of the image"
            return {}
        try:
            values = read_values(paired[1])
            if values.shape != view.camera.image_hw:
                raise BadFrame(f"the mask is {values.shape}, the image {view.camera.image_hw}: publish it in its size")
        except BadFrame as error:
            self.counts["refused"] += 1
            self.status = str(error)
            return {}
        self.counts["used"] += 1
        self.status = ""
        if values.dtype.itemsize != 2:
            return _of_one(_probability(values), view.bodies)
        if self._settings.ids_are_tracks:
            return {body.track_id: _instance(values, body.track_id % 65536) for body in view.bodies}
        return _by_overlap(values, view.bodies)


def _probability(values: Array) -> Array:
    if values.dtype.itemsize == 1:
        return values.astype(np.float32) / 255
    return np.clip(np.nan_to_num(values.astype(np.float32), nan=0.0), 0, 1)


def _of_one(prob: Array, bodies: tuple[BodyView, ...]) -> dict[int, Array]:
    """Give the mask of one person to the only body, or to the one it overlaps best."""
    if len(bodies) == 1:
        return {bodies[0].track_id: prob}
    overlaps = {body.track_id: iou(prob > SURE, body.mask) for body in bodies}
    best = max(overlaps, key=overlaps.__getitem__, default=None)
    return {best: prob} if best is not None and overlaps[best] >= MIN_IOU else {}


def _by_overlap(values: Array, bodies: tuple[BodyView, ...]) -> dict[int, Array]:
    """Give each body the instance it overlaps best; an instance goes to one body only."""
    instances = {number: values == number for number in np.unique(values) if number != 0}
    pairs = sorted(
        ((iou(mask, body.mask), int(number), body.track_id) for number, mask in instances.items() for body in bodies),
        reverse=True,
    )
    out: dict[int, Array] = {}
    taken: set[int] = set()
    for overlap, number, track_id in pairs:
        if overlap >= MIN_IOU and number not in taken and track_id not in out:
            taken.add(number)
            out[track_id] = instances[number].astype(np.float32)
    return out


def _instance(values: Array, number: int) -> Array:
    return (values == number).astype(np.float32)


def create(settings: MaskSettings, **_: object) -> TopicMask:
    """Factory for the registry."""
    return TopicMask(settings)
