"""How recordings are cut into units: the same for every number of workers, so that the results are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ..config import Settings, flatten
from ..errors import HsrError
from ..sources.bag import BagSource
from .recordings import Part, Recording, nominal_fps
from .unit import Unit

CHUNK_S = 60.0
OVERLAP_S = 3.0
"""Memory of tracker and filters: so much before a part is processed and not scored."""
LATE_NS = 1_000_000_000
"""An image may be received so much later than one with a later stamp's border."""


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
    parts = [
        (recording, part, fps)
        for recording in recordings
        for parts, fps in [_parts(recording, chunk_s, overlap_s)]
        for part in parts
    ]
    return [Unit(i, recording, part, values, worst, fps) for i, (recording, part, fps) in enumerate(parts)]


def _parts(recording: Recording, chunk_s: float, overlap_s: float) -> tuple[list[Part], float]:
    """Return the parts of a recording and its rate, 0 where its unit will know it."""
    if recording.kind != "bag" or recording.people or chunk_s <= 0:
        return [Part()], 0.0
    try:
        borders, fps = _borders(recording, round(chunk_s * 1e9))
    except HsrError:  # the unit will say why
        return [Part()], 0.0
    begins = [(None, None), *((at - round(overlap_s * 1e9), stamp) for at, stamp in borders)]
    ends = [*((at + LATE_NS, stamp) for at, stamp in borders), (None, None)]
    return [Part(begin[0], end[0], begin[1], end[1]) for begin, end in zip(begins, ends, strict=True)], fps


def _borders(recording: Recording, chunk_ns: int) -> tuple[list[tuple[int, int]], float]:
    """Return the inner borders of a bag, by receipt and by stamp of the first image from then on, and its rate."""
    with BagSource(recording.path, image_topic=recording.image or None) as source:
        span, fps = source.reader.span_ns, nominal_fps(source.fps)
    if span is None:
        return [], fps
    found: list[tuple[int, int]] = []
    for at in range(span[0] + chunk_ns, span[1] - chunk_ns // 2, chunk_ns):
        try:
            with BagSource(recording.path, image_topic=recording.image or None, start_ns=at) as source:
                stamp = next((frame.stamp_ns for frame in source), None)
        except HsrError:  # no image from here on
            break
        if stamp is not None and (not found or stamp > found[-1][1]):
            found.append((at, stamp))
    return found, fps
