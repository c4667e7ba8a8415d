"""How recordings are cut into units: the same for every number of workers, so that the results are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..config import Settings, flatten
from ..errors import HsrError
from ..sources.bag import BagSource
from .recordings import Part, Recording, nominal_fps
from .unit import Unit, fingerprint, model_files

CHUNK_S = 60.0
OVERLAP_S = 3.0
"""Memory of tracker and filters: so much before a part is processed and not scored."""
LATE_NS = 1_000_000_000
"""What completes an image, its depth, may be received so much later."""


def plan_units(
    recordings: Sequence[Recording],
    settings: Settings,
    *,
    chunk_s: float = CHUNK_S,
    overlap_s: float = OVERLAP_S,
    worst: int = 10,
) -> list[Unit]:
    """Return the units of a run in the order of their results.

    Bags with an index are cut by time; damaged ones, data sets and videos are one unit a sequence.

    Args:
        chunk_s: Length of a part; 0 = do not cut.
        worst: How many of the worst frames are drawn.
    """
    values = flatten(asdict(settings))
    prints: dict[str, Any] = {}
    units: list[Unit] = []
    for recording in recordings:
        paths = (recording.path, recording.cameras, recording.body_models, *model_files(settings))
        for path in paths:
            if path not in prints:  # all sequences of a data set are in one folder
                prints[path] = fingerprint(path) if path else None
        files = json.dumps([prints[path] for path in paths])
        parts, fps = _parts(recording, chunk_s, overlap_s)
        part_s = chunk_s if len(parts) > 1 else 0.0
        units += [
            Unit(len(units) + i, recording, part, values, worst, fps, part_s, files) for i, part in enumerate(parts)
        ]
    return units


def _parts(recording: Recording, chunk_s: float, overlap_s: float) -> tuple[list[Part], float]:
    """Return the parts of a recording and its rate, 0 where its unit will know it."""
    if recording.kind != "bag" or recording.people or chunk_s <= 0:
        return [Part()], 0.0
    try:
        with BagSource(recording.path, image_topic=recording.image or None) as source:
            fps = nominal_fps(source.fps)
            borders = _borders(source, round(chunk_s * 1e9))
    except HsrError:  # the unit will say why
        return [Part()], 0.0
    overlap_ns = round(overlap_s * 1e9)
    begins = [(None, None), *((at - overlap_ns, at) for at in borders)]
    ends = [*((at + LATE_NS, at) for at in borders), (None, None)]
    return [Part(begin[0], end[0], begin[1], end[1]) for begin, end in zip(begins, ends, strict=True)], fps


def _borders(source: BagSource, chunk_ns: int) -> list[int]:
    """Return the times of receipt at which a bag is cut: an image lies between each two, and before and behind them."""
    span = source.reader.span_ns
    if span is None:
        return []
    found: list[int] = []
    last = span[0]
    for at in range(span[0] + chunk_ns, span[1] - chunk_ns // 2, chunk_ns):
        if _has_image(source, last, at):
            found.append(at)
            last = at
    while found and not _has_image(source, found[-1], None):
        found.pop()
    return found


def _has_image(source: BagSource, start_ns: int, stop_ns: int | None) -> bool:
    messages = source.reader.messages([source.diagnosis.image_topic], start_ns, stop_ns)
    return next(messages, None) is not None
