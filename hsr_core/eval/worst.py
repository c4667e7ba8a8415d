"""The worst frames of a run, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from ..stream import HumanStream
from ..types import Array, Frame, FrameResult
from ..viz.overlay import draw_overlay

METRIC = "mpjpe_mm"
APART_S = 0.5
"""Neighbouring frames are alike: only the worst of them is kept."""
LONGER_SIDE_PX = 640
JPEG_QUALITY = 80


@dataclass(eq=False)
class _Kept:
    value: float
    facts: dict[str, Any]
    frame: Frame
    result: FrameResult


class WorstFrames:
    """Keeps the frames with the largest errors, and draws those only, at the end.

    Args:
        count: How many; so many images stay in memory.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[_Kept] = []

    def offer(self, recording: str, index: int, frame: Frame, result: FrameResult, rows: list[dict[str, Any]]) -> None:
        """Take a frame if it belongs to the worst."""
        value = max((row["values"][METRIC] for row in rows if METRIC in row["values"]), default=None)
        if value is None or self._count < 1 or (len(self._kept) >= self._count and value <= self._kept[-1].value):
            return
        near = [kept for kept in self._kept if abs(kept.facts["stamp_ns"] - frame.stamp_ns) < APART_S * 1e9]
        if any(kept.value >= value for kept in near):
            return
        facts = {"recording": recording, "index": index, "stamp_ns": frame.stamp_ns, "metric": METRIC, "value": value}
        self._kept = [kept for kept in self._kept if kept not in near]
        self._kept.append(_Kept(value, facts, frame, result))
        self._kept.sort(key=lambda kept: (-kept.value, kept.facts["index"]))
        del self._kept[self._count :]

    def write(self, folder: Path, stream: HumanStream) -> list[dict[str, Any]]:
        """Write the pictures into `folder`/worst; return what they show, the worst first."""
        for number, kept in enumerate(self._kept, 1):
            path = folder / "worst" / f"{number:02}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_drawn(kept.frame, kept.result, stream))
            kept.facts["picture"] = f"worst/{path.name}"
        return [kept.facts for kept in self._kept]


def _drawn(frame: Frame, result: FrameResult, stream: HumanStream) -> bytes:
    scale = min(1.0, LONGER_SIDE_PX / max(frame.image_hw))
    picture: Array = draw_overlay(frame, result, stream.mesh, stream.body.faces, scale=scale)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
