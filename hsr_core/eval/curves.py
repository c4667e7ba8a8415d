"""Curves over time for the report: binned while the frames stream by, drawn as paths of a scalable picture.

A curve keeps a few hundred bins however long the recording is: when they run out, pairs are merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_BINS = 240
_FIRST_WIDTH_NS = 1_000_000  # shorter than any frame: at first every frame has a bin of its own
_GAP = 3.0
"""Bins further apart than so many usual distances are not joined: frames are missing between them."""

_MOST_BARS = 60

WIDTH, HEIGHT = 720, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 10, 20


@dataclass(slots=True)
class Bin:
    """What fell into one stretch of time. time: summed over frames [ns]; the others of the values."""

    time: int = 0
    frames: int = 0
    total: float = 0.0
    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    missed: int = 0

    def merge(self, other: Bin) -> None:
        self.time += other.time
        self.frames += other.frames
        self.total += other.total
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.missed += other.missed


class Curve:
    """One value over the time of a recording.

    Attributes:
        bins: By their number; of equal width in time.
    """

    def __init__(self) -> None:
        self.bins: dict[int, Bin] = {}
        self._width_ns = _FIRST_WIDTH_NS

    def add(self, time_ns: int, values: Sequence[float], missed: int = 0) -> None:
        """Take a frame: the values of everybody in it, and how many people should have had one."""
        added = Bin(time_ns, 1, sum(values), len(values), missed=missed)
        if values:
            added.low, added.high = min(values), max(values)
        self._merge(self.bins, time_ns // self._width_ns, added)
        while len(self.bins) > 2 * MOST_BINS:
            self._width_ns *= 2
            halved: dict[int, Bin] = {}
            for number, entry in self.bins.items():
                self._merge(halved, number // 2, entry)
            self.bins = halved

    @staticmethod
    def _merge(bins: dict[int, Bin], number: int, entry: Bin) -> None:
        if number in bins:
            bins[number].merge(entry)
        else:
            bins[number] = entry

    @property
    def empty(self) -> bool:
        return not any(entry.count for entry in self.bins.values())


@dataclass(frozen=True)
class Tick:
    """at: Position along the axis [px]. text: What stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What the template draws, in a box of `WIDTH` x `HEIGHT`.

    Attributes:
        line: Path of the mean, broken at gaps. band: Paths from lowest to highest, empty where both are the mean.
        dots: Bins between two gaps, which no line shows. missed: (x, width, height) of bars at the bottom.
        marks: Positions of marked times. x, y: Ticks. left, right, top, bottom: The box of the axes [px].
    """

    line: str
    band: str
    dots: tuple[tuple[float, float], ...]
    missed: tuple[tuple[float, float, float], ...]
    marks: tuple[float, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def chart_of(curve: Curve, marks_ns: Sequence[int] = ()) -> Chart:
    """Return the drawing of a curve that is not empty.

    Args:
        marks_ns: Times to mark, since the recording's start.
    """
    bins = [entry for _, entry in sorted(curve.bins.items())]
    times = [entry.time / entry.frames * 1e-9 for entry in bins]
    filled = [entry for entry in bins if entry.count]
    y_low, y_high = min(0.0, *(entry.low for entry in filled)), max(entry.high for entry in filled)
    y_ticks = nice_ticks(y_low, y_high if y_high > y_low else y_low + 1.0)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
    x_high = max(times[-1], 1e-3)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def x(seconds: float) -> float:
        return _LEFT + (right - _LEFT) * min(max(seconds / x_high, 0.0), 1.0)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - y_low) / (y_high - y_low)

    runs = _runs(times, bins)
    points = [[(x(times[i]), y(bins[i].total / bins[i].count)) for i in run] for run in runs]
    bands = [
        [(x(times[i]), y(bins[i].high)) for i in run] + [(x(times[i]), y(bins[i].low)) for i in reversed(run)]
        for run in runs
        if any(bins[i].high > bins[i].low for i in run)
    ]
    width = max(2.0, (right - _LEFT) / max(len(bins), 1))
    missed = tuple(
        (round(x(times[i]) - width / 2, 1), round(width, 1), round(10.0 * e.missed / (e.missed + e.count), 1))
        for i, e in enumerate(bins)
        if e.missed
    )
    return Chart(
        line="".join(_path(run) for run in points if len(run) > 1),
        band="".join(_path(run) + "Z" for run in bands),
        dots=tuple((round(run[0][0], 1), round(run[0][1], 1)) for run in points if len(run) == 1),
        missed=missed,
        marks=tuple(round(x(mark * 1e-9), 1) for mark in marks_ns),
        x=tuple(Tick(round(x(tick), 1), f"{tick:g} s") for tick in nice_ticks(0.0, x_high, 8) if tick <= x_high),
        y=tuple(Tick(round(y(tick), 1), f"{tick:g}") for tick in y_ticks),
    )


def histogram_chart(edges: Sequence[float], counts: Sequence[int]) -> tuple[Chart, int]:
    """Return the drawing of a histogram, its bars in `missed` as (x, width, height), and how many lie beyond it.

    The axis ends a little after 99.5 % of what was counted, so that one stall does not flatten the rest.

    Args:
        edges: Rising lower edges [ms] of bins of one width, empty ones may be left out; the end of the last may follow.
    """
    step = min((b - a for a, b in pairwise(edges)), default=1.0)
    total, seen, limit = sum(counts), 0, edges[0] + step
    for low, count in zip(edges, counts, strict=False):
        if seen < 0.995 * total:
            limit = low + step
        seen += count
    low = min(0.0, edges[0])
    merged = max(1, math.ceil((limit - low) / step / _MOST_BARS)) * step
    bars = [0] * max(1, math.ceil(1.1 * (limit - low) / merged))
    for edge, count in zip(edges, counts, strict=False):
        number = int((edge - low) / merged + 1e-9)
        if number < len(bars):
            bars[number] += count
    x_ticks = nice_ticks(low, low + len(bars) * merged, 8)
    y_ticks = nice_ticks(0.0, float(max(*bars, 1)))
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    end = low + len(bars) * merged
    scale, rise = (right - _LEFT) / (len(bars) * merged), (bottom - _TOP) / y_ticks[-1]
    drawn = Chart(
        line="",
        band="",
        dots=(),
        missed=tuple(
            (round(_LEFT + i * merged * scale, 1), round(max(merged * scale - 1, 0.5), 1), round(count * rise, 1))
            for i, count in enumerate(bars)
        ),
        marks=(),
        x=tuple(Tick(round(_LEFT + (t - low) * scale, 1), f"{t:g} ms") for t in x_ticks if t <= end),
        y=tuple(Tick(round(bottom - tick * rise, 1), f"{tick:g}") for tick in y_ticks),
    )
    return drawn, total - sum(bars)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers from `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def _runs(times: Sequence[float], bins: Sequence[Bin]) -> list[list[int]]:
    """Return the bins with values, split where there are none or time is missing."""
    steps = sorted(b - a for a, b in pairwise(times))
    usual = steps[len(steps) // 2] if steps else 0.0
    runs: list[list[int]] = []
    for i, entry in enumerate(bins):
        if not entry.count:
            continue
        joined = i and bins[i - 1].count and times[i] - times[i - 1] <= _GAP * usual
        if joined:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
