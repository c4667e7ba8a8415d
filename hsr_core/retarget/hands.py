"""Fingers and grippers: how far a hand is closed, without solving anything."""

from __future__ import annotations

import numpy as np

from ..types import Array
from .human import HAND_POINTS

FULL_BEND_RAD = np.radians(200.0)
"""Sum of a finger's three bends when it is closed; the thumb's is less."""
THUMB_BEND_RAD = np.radians(90.0)
OPEN_PINCH = 1.0
"""Distance of thumb and index tip of an open hand, over the length of the palm (wrist to the middle finger's base)."""

_H = {name: i for i, name in enumerate(HAND_POINTS)}
_FINGERS = {finger: [_H[f"{finger}{i}"] for i in range(4)] for finger in ("thumb", "index", "middle", "ring", "little")}


def closures(hand: Array) -> dict[str, float]:
    """Return how far each finger is bent and how near thumb and index are, 0 open to 1 closed.

    Args:
        hand: (21, 3) in the order of `HAND_POINTS`, any axes.
    """
    out = {"pinch": 1 - _clip(np.linalg.norm(hand[_H["thumb3"]] - hand[_H["index3"]]) / (OPEN_PINCH * palm_m(hand)))}
    for finger, rows in _FINGERS.items():
        points = hand[[_H["wrist"], *rows]] if finger != "thumb" else hand[rows]
        bones = np.diff(points, axis=0)
        bones = bones / np.maximum(np.linalg.norm(bones, axis=1, keepdims=True), 1e-9)
        bend = float(np.arccos(np.clip(np.sum(bones[1:] * bones[:-1], axis=1), -1, 1)).sum())
        out[finger] = _clip(bend / (THUMB_BEND_RAD if finger == "thumb" else FULL_BEND_RAD))
    return out


def palm_m(hand: Array) -> float:
    """Return the length of the palm [m]."""
    return max(float(np.linalg.norm(hand[_H["middle0"]] - hand[_H["wrist"]])), 1e-6)


def _clip(value: float) -> float:
    return float(np.clip(value, 0, 1))
