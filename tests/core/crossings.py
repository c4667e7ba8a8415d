"""People who walk before each other, with truth: what a detector with noise and drop-outs would say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hsr_core.eval.tracking_metrics import TrackingLog
from hsr_core.track.track import Tracker

RATE_HZ = 30
FOCAL_PX, CENTRE_PX = 900.0, np.array([640.0, 360.0])
HEIGHT_M, WIDTH_M = 1.7, 0.5
DIRECTION_SIGMA, DISTANCE_SIGMA = 0.008, 0.04
"""Of a measured direction [rad] and, relative, of a distance; half of each lasts for frames (see `_noise`)."""
DROP_OUT = 0.05
CLOTHES = ("different", "same", "unknown")
LOOK_SIGMA, LIGHT_SIGMA = 0.3, 0.5
"""Of the logarithm of a colour's share: from frame to frame, and with the side that is seen and the light. Two looks at
one person are then 0.08 apart in neighbouring frames and 0.2 after a second, as on the bundled clip."""


@dataclass
class Moment:
    """One frame: truth (N, 3) [m] of everybody in the camera's frame, and what was detected of whom."""

    stamp_ns: int
    truth: np.ndarray
    who: list[int]
    boxes: list[np.ndarray]
    places: list[np.ndarray]
    looks: list[np.ndarray | None]


def crossing(
    seed: int,
    people: int,
    *,
    hidden_s: float,
    speed: tuple[float, float] = (0.6, 1.5),
    clothes: str = "unknown",
    moving_camera: bool = False,
) -> Iterator[Moment]:
    """Yield four seconds in which everybody walks past everybody else, the farther hidden for `hidden_s` each time.

    Scenes in which two crossings follow each other so closely that somebody is hidden for longer are drawn again.

    Args:
        seed: Of paths, noise and clothes.
        people: How many.
        hidden_s: At each crossing; between two sightings lie two frames more, and drop-outs.
        speed: Of their walk, least and most [m/s].
        clothes: One of `CLOTHES`.
        moving_camera: It drives at 0.4 m/s and looks to and fro by 10 degrees, up to 0.5 rad/s.
    """
    rng = np.random.default_rng(seed)
    longest = np.inf
    while longest > hidden_s + 1.5 / RATE_HZ:
        paths = _paths(rng, people, speed)
        hidden = _hidden(paths, hidden_s)
        longest = max(_longest_run(hidden[:, i]) for i in range(people)) / RATE_HZ
    yield from detections(_seen_from_robot(paths) if moving_camera else paths, hidden, rng, clothes)


def _seen_from_robot(paths: np.ndarray) -> np.ndarray:
    """Return paths in the frame of a camera that drives to the right and turns, (T, N, 3) [m]."""
    times = np.arange(len(paths)) / RATE_HZ
    yaw = np.radians(10) * np.sin(2 * np.pi * 0.45 * times)
    x, y, z = np.moveaxis(paths - np.stack([0.4 * (times - 2), 0 * times, 0 * times], -1)[:, None], -1, 0)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], -1)


def _paths(rng: np.random.Generator, people: int, speed: tuple[float, float]) -> np.ndarray:
    """Return walks to the left and to the right, 0.8 m behind each other, (T, N, 3) [m]."""
    times = np.arange(0, 4, 1 / RATE_HZ)[:, None]
    meet = rng.uniform(1.0, 3.0, people)
    velocity = rng.uniform(*speed, people) * np.where(np.arange(people) % 2, -1, 1)
    depth = 2.5 + 0.8 * np.arange(people) + rng.uniform(-0.1, 0.1, people)
    x = velocity * (times - meet) + 0.05 * np.sin(2 * np.pi * 0.9 * times + rng.uniform(0, 6, people))
    z = depth + 0.1 * np.sin(times + rng.uniform(0, 6, people))
    return np.stack([x, np.full_like(x, 0.2), z], -1)


def _hidden(paths: np.ndarray, hidden_s: float) -> np.ndarray:
    """Return who is hidden when, (T, N): the farther of two around the moment of their crossing."""
    direction = paths[..., 0] / paths[..., 2]
    frames = np.arange(len(paths))
    hidden = np.zeros(direction.shape, bool)
    for near in range(paths.shape[1]):
        for far in range(near + 1, paths.shape[1]):
            side = np.sign(direction[:, near] - direction[:, far])
            for middle in np.flatnonzero(np.diff(side)):
                hidden[:, far] |= np.abs(frames - middle) <= hidden_s * RATE_HZ / 2
    return hidden


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def twins(seed: int, apart_m: float, clothes: str = "unknown") -> Iterator[Moment]:
    """Yield two people who walk side by side, shoulder to shoulder, at the same distance and speed."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, 4, 1 / RATE_HZ)
    x = 0.6 * (times - 2)[:, None] + np.array([-apart_m / 2, apart_m / 2])
    paths = np.stack([x, np.full_like(x, 0.2), np.full_like(x, 3.5)], -1)
    yield from detections(paths, np.zeros(x.shape, bool), rng, clothes)


def detections(
    paths: np.ndarray, hidden: np.ndarray, rng: np.random.Generator, clothes: str = "unknown"
) -> Iterator[Moment]:
    """Yield what is detected of people on paths (T, N, 3) [m], except where they are hidden (T, N)."""
    noise = _noise(rng, paths.shape)
    looks = None if clothes == "unknown" else _looks(rng, *paths.shape[:2], alike=clothes == "same")
    for t, truth in enumerate(paths):
        order = rng.permutation(truth.shape[0])
        who = [int(i) for i in order if not hidden[t, i] and rng.random() > DROP_OUT]
        places = [_measured(truth[i], noise[t, i]) for i in who]
        boxes = [_box(truth[i]) + rng.normal(0, 3, 4) for i in who]
        seen = [None if looks is None else looks[t, i] for i in who]
        yield Moment(round((t + 1) * 1e9 / RATE_HZ), truth, who, boxes, places, seen)


def _looks(rng: np.random.Generator, frames: int, people: int, *, alike: bool) -> np.ndarray:
    """Return colour histograms (T, N, 6, 16) of people in clothes of a colour or two a part."""
    own = rng.dirichlet(np.full(16, 0.3), (1 if alike else people, 6)) + 0.01
    slow = rng.normal(size=(frames, people, 6, 16))
    keep = np.exp(-1 / RATE_HZ)  # the side that is seen changes within a second
    for t in range(1, frames):
        slow[t] = keep * slow[t - 1] + np.sqrt(1 - keep**2) * slow[t]
    shares = own * np.exp(LIGHT_SIGMA * slow + LOOK_SIGMA * rng.normal(size=slow.shape))
    return shares / shares.sum(-1, keepdims=True)


def follow(moments: Iterator[Moment], tracker: Tracker) -> TrackingLog:
    """Track the detections and return the log against the truth of those detected."""
    log = TrackingLog()
    for moment in moments:
        tracks = tracker.update(moment.stamp_ns, moment.boxes, moment.places, moment.looks)
        # Who is detected is known: the id is judged, not the detector's noise.
        same = np.eye(len(moment.who))
        log.push(moment.who, [track.id for track in tracks], same)
    return log


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise of unit variance, half of it white and half with a memory of a third of a second, (T, N, 3)."""
    white, slow = rng.normal(size=shape), rng.normal(size=shape)
    keep = np.exp(-3 / RATE_HZ)
    for t in range(1, shape[0]):
        slow[t] = keep * slow[t - 1] + np.sqrt(1 - keep**2) * slow[t]
    return np.sqrt(0.5) * (white + slow)


def _measured(truth: np.ndarray, noise: np.ndarray) -> np.ndarray:
    direction = truth[:2] / truth[2] + DIRECTION_SIGMA * noise[:2]
    return truth[2] * (1 + DISTANCE_SIGMA * noise[2]) * np.array([*direction, 1.0])


def _box(truth: np.ndarray) -> np.ndarray:
    half = FOCAL_PX * np.array([WIDTH_M, HEIGHT_M]) / 2 / truth[2]
    middle = CENTRE_PX + FOCAL_PX * truth[:2] / truth[2]
    return np.concatenate([middle - half, middle + half])
