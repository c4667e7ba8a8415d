"""`hsr bench people`: speed and ids with several people, cut from the bundled clip and pasted into one stream."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .config import Settings
from .errors import ConfigError
from .eval.tracking_metrics import TrackingLog
from .run import Timing
from .settings_options import add_settings_options, settings_of
from .sources import open_source
from .stream import HumanStream
from .track.track import box_iou
from .types import Array, Frame

HW = (720, 1280)
"""Height and width of the pictures [px]."""
_USED = slice(8, 88)
"""Frames of the clip that show the walker from head to foot."""
_HEIGHT = 420
"""Of the cut-outs [px]."""
_WARM_UP_FRAMES = 20
_SPEEDS = (220.0, -180.0, 200.0, -160.0)
"""Of the people who cross, to and fro [px/s]."""


@dataclass(frozen=True)
class Crowd:
    """One picture and where everybody in it really is.

    Attributes:
        frame: BGR.
        boxes: (N, 4) [px], of the pixels that show each person if nobody stands in front.
        shown: (N,) share of those pixels that nobody hides.
    """

    frame: Frame
    boxes: Array
    shown: Array


def walker_cutouts() -> list[Array]:
    """Return the clip's walker, uint8 BGRA (`_HEIGHT`, W, 4), one a frame, on the way there and back: it loops."""
    cutouts = []
    with open_source("clip") as clip, HumanStream(Settings().with_values({"people.max": 1})) as stream:
        for frame in clip:
            people = stream.process(frame).people
            if _USED.start <= frame.index < _USED.stop and people:
                cutouts.append(_cut(frame.image, people[0].regression))
    return cutouts + cutouts[-2:0:-1]


def crowd(people: int, frames: int, *, crossing: bool = False, rate_hz: float = 30.0) -> Iterator[Crowd]:
    """Yield pictures of walkers beside each other, or of walkers of other sizes who pass before each other.

    Args:
        people: How many.
        frames: How many pictures.
        crossing: True: they walk to and fro, the smaller ones behind the larger.
        rate_hz: Of the stamps.
    """
    cutouts = walker_cutouts()
    height, width = HW
    for n in range(frames):
        canvas = np.full((height, width, 3), (112, 118, 122), np.uint8)
        owner = np.zeros((height, width), np.uint8)
        layers, boxes = [], []
        for i in reversed(range(people)):  # from the farthest to the nearest
            cutout = cutouts[(n + 37 * i) % len(cutouts)]
            scale = (1.0 - 0.16 * i if crossing else 0.95 - 0.05 * (i % 2)) * min(1.0, 5 / (people + 1))
            center = (i + 0.5) * width / people
            if crossing:
                center = _to_and_fro(center + _SPEEDS[i % len(_SPEEDS)] * n / rate_hz, 130, width - 130)
            layers.append(_paste(canvas, owner, i + 1, cutout, scale, center))
            boxes.append(layers[-1][0])
        shown = [
            np.count_nonzero(owner == i + 1) / size
            for i, (_, size) in zip(reversed(range(people)), layers, strict=True)
        ]
        stamp = round((n + 1) * 1e9 / rate_hz)
        yield Crowd(Frame(canvas, stamp, index=n), np.array(boxes[::-1], np.float64), np.array(shown[::-1]))


def measure_people(settings: Settings, people: int, frames: int, *, crossing: bool) -> dict[str, Any]:
    """Process pictures of a crowd and return speed and how well people are told apart, JSON-able.

    Returns:
        `fps`; `latency_ms` and `stages` with p50, p99, max; `found`, people per picture; `tracking`: scores of
        `TrackingLog` by box overlap against everybody of whom a half is shown.
    """
    timing, work_s, found, log = Timing(), 0.0, [], TrackingLog()
    with HumanStream(settings) as stream:
        for n, picture in enumerate(crowd(people, frames, crossing=crossing)):
            start = time.perf_counter()
            result = stream.process(picture.frame)
            duration = time.perf_counter() - start
            seen = [person for person in result.people if person.regression.score > 0]
            visible = np.flatnonzero(picture.shown > 0.5)
            boxes = np.array([person.regression.bbox_xyxy for person in seen]).reshape(-1, 4)
            log.push(visible.tolist(), [person.track_id for person in seen], box_iou(boxes, picture.boxes[visible]))
            if n >= _WARM_UP_FRAMES:
                work_s += duration
                found.append(len(seen))
                timing.add("latency", duration * 1e3)
                for stage, value in result.stage_ms.items():
                    timing.add(stage, value)
    stages = timing.percentiles()
    scores = log.counts().scores()
    return {
        "people": people,
        "crossing": crossing,
        "frames": frames,
        "fps": round((frames - _WARM_UP_FRAMES) / work_s, 2),
        "latency_ms": stages.pop("latency"),
        "stages": stages,
        "found": round(float(np.mean(found)), 3),
        "tracking": {name: round(float(scores[name]), 4) for name in ("hota", "idf1", "id_switches", "detection_rate")},
        "cpus": len(os.sched_getaffinity(0)),
    }


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("people", help="speed and ids with several people in 1280x720 pictures")
    parser.add_argument("--people", type=int, default=4, metavar="N", help="walkers in the picture (default 4)")
    parser.add_argument("--crossing", action="store_true", help="they walk before each other")
    parser.add_argument("--frames", type=int, default=200, metavar="N", help="pictures (default 200)")
    parser.add_argument("--video", type=Path, metavar="FILE.mp4", help="write the pictures and measure nothing")
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return what there is to show.

    Raises:
        ConfigError: Nobody, more than fit beside each other, or too few pictures.
    """
    if not 1 <= args.people <= 6:
        raise ConfigError(f"--people must lie in 1..6, not {args.people}")
    if args.frames <= _WARM_UP_FRAMES:
        raise ConfigError(f"--frames must be more than {_WARM_UP_FRAMES}, not {args.frames}")
    if args.video is not None:
        return _write(args.video, crowd(args.people, args.frames, crossing=args.crossing))
    return measure_people(settings_of(args), args.people, args.frames, crossing=args.crossing)


def _write(path: Path, pictures: Iterator[Crowd]) -> dict[str, Any]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, HW[::-1])
    if not writer.isOpened():
        raise ConfigError(f"cannot write {path}")
    count = 0
    for picture in pictures:
        writer.write(picture.frame.image)
        count += 1
    writer.release()
    return {"video": str(path), "frames": count}


def _cut(image: Array, person: Any) -> Array:
    """Return a person as BGRA, `_HEIGHT` high, by the body network's mask."""
    x0, y0, x1, y1 = person.bbox_xyxy
    margin = 0.04 * (y1 - y0)
    low, size = np.array([x0 - margin, y0 - margin]), np.array([x1 - x0, y1 - y0]) + 2 * margin
    scale = _HEIGHT / size[1]
    A_cut_img = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]]])
    out_wh = (round(size[0] * scale), _HEIGHT)
    color = cv2.warpAffine(image, A_cut_img, out_wh, flags=cv2.INTER_AREA)
    A = np.vstack([person.mask_A_crop_img, [0, 0, 1]])
    A_cut_mask = A_cut_img @ np.linalg.inv(A)
    mask = cv2.warpAffine(person.mask, A_cut_mask, out_wh)
    return np.dstack([color, (255 * np.clip(2 * mask - 0.5, 0, 1)).astype(np.uint8)])


def _paste(canvas: Array, owner: Array, label: int, cutout: Array, scale: float, center: float) -> tuple[Array, int]:
    """Draw a cut-out with its feet on its distance's line; return the box of its pixels (4,) and their number."""
    cutout = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = cutout.shape[:2]
    x0 = int(np.clip(center - width / 2, 0, canvas.shape[1] - width))
    y0 = int(330 + 340 * scale - height)
    at = np.s_[y0 : y0 + height, x0 : x0 + width]
    alpha = cutout[..., 3:].astype(np.float32) / 255
    canvas[at] = canvas[at] * (1 - alpha) + cutout[..., :3] * alpha
    solid = cutout[..., 3] > 127
    owner[at][solid] = label
    rows, cols = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    box = [x0 + cols[0], y0 + rows[0], x0 + cols[-1] + 1, y0 + rows[-1] + 1]
    return np.array(box, np.float64), int(solid.sum())


def _to_and_fro(x: float, low: float, high: float) -> float:
    """Return x reflected into [low, high]."""
    phase = (x - low) % (2 * (high - low))
    return low + min(phase, 2 * (high - low) - phase)
