"""Part of `hsr bench retarget`: a robot's hand that follows the fingertips of a made-up hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from .bench_clock import Stopwatch
from .retarget.hand_model import HandModel
from .retarget.hand_targets import H
from .retarget.hands import VectorHand
from .retarget.human import HAND_POINTS
from .retarget.robot import Robot
from .retarget.settings import TeleopSettings
from .types import Array

RATE_HZ = 30.0
WARM_UP_FRAMES = 45
POSE_S = 1.5
"""From one pose of the made-up hand to the next."""
SETTLED_S = 0.6
"""At the end of this time in a pose the robot's hand has had time to get there."""

_BASES = {"index": (0.0, 0.026, 0.091), "middle": (0.0, 0.004, 0.0949), "ring": (0.0, -0.017, 0.089),
          "little": (-0.004, -0.036, 0.080)}  # fmt: skip
_BONES = {"index": (0.040, 0.023, 0.019), "middle": (0.044, 0.027, 0.020), "ring": (0.040, 0.025, 0.020),
          "little": (0.031, 0.018, 0.018)}  # fmt: skip
_THUMB_BASE, _THUMB_BONES = np.array([0.012, 0.026, 0.025]), (0.042, 0.032, 0.026)


def made_up_hand(
    bends: Array, spread: float = 0.0, thumb: tuple[float, float, float] = (0.3, 0.2, 0.2), side: str = "right"
) -> Array:
    """Return the 21 points of a grown person's hand, (21, 3) [m], in the axes of `palm_axes`.

    Args:
        bends: (4,) of index, middle, ring and little finger at each of their joints [rad]: the first bone bends by it,
            the second by it again, the third by two thirds of it.
        spread: Of the fingers, sideways [rad].
        thumb: How far it stands over the palm, bends at its first and at its second joint [rad].
        side: left or right.
    """
    out = np.zeros((len(HAND_POINTS), 3))
    out[1:5] = _thumb(*thumb)
    for row, (finger, bend, aside) in enumerate(zip(_BASES, bends, (1.0, 0.2, -0.5, -1.2), strict=True)):
        point, angle = np.array(_BASES[finger]), 0.0
        out[5 + 4 * row] = point
        for i, (bone, part) in enumerate(zip(_BONES[finger], (1, 1, 2 / 3), strict=True)):
            angle += part * bend
            turn = spread * aside
            along = np.array([np.sin(angle), np.cos(angle) * np.sin(turn), np.cos(angle) * np.cos(turn)])
            point = point + bone * along
            out[6 + 4 * row + i] = point
    return out * ((1, -1, 1) if side == "left" else (1, 1, 1))


def _thumb(over: float, first: float, second: float) -> Array:
    """Return the thumb's four points: at 0 it lies beside the palm, then it turns about the palm's length over it."""
    out, point, angle = [_THUMB_BASE], _THUMB_BASE, 0.7
    for bone, bend in zip(_THUMB_BONES, (0, first, second), strict=True):
        angle -= bend
        flat = np.array([0.0, np.sin(angle), np.cos(angle)])
        c, s = np.cos(over), np.sin(over)
        point = point + bone * np.array([flat[1] * s, flat[1] * c, flat[2]])
        out.append(point)
    return np.array(out)


def pinched(hand: Array, finger: str, apart_m: float = 0.012) -> Array:
    """Return the hand with the tips of thumb and one finger brought together, halfway between where they were."""
    out, tips = hand.copy(), [H["thumb3"], H[f"{finger}3"]]
    across = hand[tips[1]] - hand[tips[0]]
    middle, along = hand[tips].mean(axis=0), across / np.linalg.norm(across)
    out[tips] = middle + 0.5 * apart_m * np.outer((-1, 1), along)
    return out


def poses(side: str) -> list[tuple[str, Array]]:
    """Return what the made-up hand does, one pose after another: name and its 21 points."""
    over = (1.0, 0.3, 0.4)
    relaxed = made_up_hand(np.full(4, 0.3), 0.0, (0.7, 0.2, 0.2), side)
    return [
        ("open", made_up_hand(np.full(4, 0.05), 0.15, (0.3, 0.1, 0.1), side)),
        ("fist", made_up_hand(np.full(4, 1.35), 0.0, (0.9, 0.5, 0.6), side)),
        ("pointing", made_up_hand(np.array([0.05, 1.3, 1.3, 1.3]), 0.0, (0.9, 0.5, 0.6), side)),
        ("relaxed", relaxed),
        *(
            (f"{finger} pinch", pinched(made_up_hand(0.2 + 0.55 * np.eye(4)[i], 0.0, over, side), finger))
            for i, finger in enumerate(("index", "middle", "ring"))
        ),
    ]


def moving_hand(t_s: float, side: str) -> Array:
    """Return the made-up hand at a time: each pose is reached in half of `POSE_S` and held for the rest, for ever."""
    every = poses(side)
    n, part = divmod(t_s / POSE_S, 1)
    u = min(2 * part, 1.0)
    u = u * u * (3 - 2 * u)
    return (1 - u) * every[(int(n) - 1) % len(every)][1] + u * every[int(n) % len(every)][1]


def _frame(hand: VectorHand, stamp_ns: int, points: Array, side: str, q: Array) -> float | None:
    hand.see(stamp_ns, points, side)
    return hand.move(q, 1 / RATE_HZ)


def measure_hand(robot: Robot, side: str, frames: int, settings: TeleopSettings) -> dict[str, Any]:
    """Follow the made-up hand with one hand of a robot.

    Returns:
        Times of one step; largest error of a vector and, where the person pinches, the distance of the two tips'
        surfaces, both at the end of each pose; and how far limits were exceeded.
    """
    hand, watch, q = VectorHand(robot.hands[side], settings), Stopwatch(1e-3), robot.neutral.copy()
    model, errors, gaps, over, fastest = hand.model, [], {}, 0.0, 0.0
    every = poses(side)
    for n in tqdm(range(frames), unit="frame", disable=None):
        t_s, last = n / RATE_HZ, q[model.idx_own]
        points = moving_hand(t_s, side)
        error_m = watch.time(_frame, hand, round((n + 1) * 1e9 / RATE_HZ), points, side, q)
        if n < WARM_UP_FRAMES:
            watch.drop()
        x = q[model.idx_own]
        over = max(over, float(np.maximum(model.lower - x, x - model.upper).max()))
        fastest = max(fastest, float((np.abs(x - last) * RATE_HZ / model.velocity).max()))
        if t_s % POSE_S >= POSE_S / 2 + SETTLED_S:
            name = every[int(t_s / POSE_S) % len(every)][0]
            errors.append(error_m)
            tips = [f"{finger}3" for finger in ("index", "middle", "ring", "little")]
            for tip in [tip for tip in tips if name == f"{tip[:-1]} pinch" and tip in model.mapping.pinch]:
                gaps[name] = _gap(model, x, tip)
    return {
        "joints": len(model.names),
        "vectors": len(model.scales),
        "step_ms": watch.percentiles(),
        "vector_error_rms_mm": round(1e3 * float(np.sqrt(np.mean(np.square(errors)))), 1) if errors else None,
        "tips_apart_mm": {name: round(1e3 * gap, 2) for name, gap in gaps.items()},
        "position_limit_exceeded_rad": round(max(over, 0.0), 9),
        "speed_over_limit": round(fastest, 4),
    }


def _gap(model: HandModel, x: Array, tip: str) -> float:
    """Return the distance of the surfaces of the thumb's tip and another one [m]; negative: they press."""
    points, i = model.place(x), model.mapping.pinch.index(tip)
    return float(np.linalg.norm(points[model.fingers[i]] - points[model.thumb]) - model.touch[i])
