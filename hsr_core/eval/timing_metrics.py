"""When results come: latency, drops, gaps. Two clocks are never mixed; a simulated clock never times anything.

Latency is from a frame's exposure to the publication of its result, both read from the messages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ConfigError

STEP_NS = 10_000
"""Durations are kept in whole steps of 10 us: a histogram that is exact at that resolution, and small."""


@dataclass
class Distribution:
    """A histogram of durations from which any quantile follows, and that adds up in any order.

    Attributes:
        steps: How many durations there were of each number of `STEP_NS`.
    """

    steps: Counter[int] = field(default_factory=Counter)

    def push(self, duration_ns: int) -> None:
        """Take one duration [ns]; negative ones too: clocks that disagree are to be seen."""
        self.steps[(int(duration_ns) + STEP_NS // 2) // STEP_NS] += 1

    @classmethod
    def of_ms(cls, durations_ms: Iterable[float]) -> Distribution:
        """Return the distribution of durations [ms]."""
        out = cls()
        for duration in durations_ms:
            out.push(round(duration * 1e6))
        return out

    def __add__(self, other: Distribution) -> Distribution:
        return Distribution(Counter({k: self.steps[k] + other.steps[k] for k in {*self.steps, *other.steps}}))

    @property
    def count(self) -> int:
        return sum(self.steps.values())

    def quantile_ms(self, share: float) -> float:
        """Return the smallest duration that at least this share does not exceed [ms]; NaN when empty."""
        values, counts = self._sorted()
        if not len(values):
            return float("nan")
        rank = max(int(np.ceil(share * counts.sum() - 1e-9)), 1)
        return float(values[np.searchsorted(np.cumsum(counts), rank)] * STEP_NS / 1e6)

    @property
    def mean_ms(self) -> float:
        return sum(k * n for k, n in self.steps.items()) / self.count * STEP_NS / 1e6 if self.steps else float("nan")

    @property
    def std_ms(self) -> float:
        """Population standard deviation [ms]."""
        if not self.steps:
            return float("nan")
        n, total = self.count, sum(k * m for k, m in self.steps.items())
        squares = sum(k * k * m for k, m in self.steps.items())
        return math.sqrt(n * squares - total * total) / n * STEP_NS / 1e6

    def summary(self) -> dict[str, float]:
        """Return p50, p95, p99, max, mean [ms] and the count."""
        quantiles = {f"p{round(100 * share)}_ms": self.quantile_ms(share) for share in (0.5, 0.95, 0.99)}
        return {**quantiles, "max_ms": self.quantile_ms(1), "mean_ms": self.mean_ms, "count": self.count}

    def histogram(self, bin_ms: float) -> tuple[list[float], list[int]]:
        """Return the lower edges [ms] and counts of the occupied bins, for a picture."""
        bins: Counter[int] = Counter()
        for step, count in self.steps.items():
            bins[int(np.floor(step * STEP_NS / 1e6 / bin_ms + 1e-9))] += count
        return [k * bin_ms for k in sorted(bins)], [bins[k] for k in sorted(bins)]

    def to_dict(self) -> dict[str, int]:
        """Return plain values for JSON: durations in steps as text, and their counts."""
        return {str(step): self.steps[step] for step in sorted(self.steps)}

    @classmethod
    def from_dict(cls, values: Mapping[str, int]) -> Distribution:
        """Return the distribution of `to_dict`."""
        return cls(Counter({int(step): int(count) for step, count in values.items()}))

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        ordered = sorted(self.steps.items())
        return np.array([k for k, _ in ordered], int), np.array([n for _, n in ordered], int)


@dataclass
class StreamTiming:
    """What a robot sees of one stream, or of several merged.

    Attributes:
        latency: Exposure to publication. intervals: Between publications of one stream.
        offered: Frames that were sent in. answered: Frames with a result.
        locked: Answered frames with a valid followed person.
        drops: Frames without a result, by cause: `queue`, `busy`, `gate`, `decode`.
        first_result_ns: From the start to the first result of each stream.
    """

    latency: Distribution = field(default_factory=Distribution)
    intervals: Distribution = field(default_factory=Distribution)
    offered: int = 0
    answered: int = 0
    locked: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    first_result_ns: list[int] = field(default_factory=list)
    _start_ns: int | None = field(default=None, repr=False)
    _last_publish_ns: int | None = field(default=None, repr=False)

    def start(self, now_ns: int) -> None:
        """Begin a stream: where `first_result_ns` counts from."""
        self._start_ns, self._last_publish_ns = now_ns, None

    def result(self, exposure_ns: int, publish_ns: int, *, locked: bool) -> None:
        """Take a frame that was answered. Stamps of one clock [ns]."""
        self.offered += 1
        self.answered += 1
        self.locked += locked
        self.latency.push(publish_ns - exposure_ns)
        if self._last_publish_ns is not None:
            self.intervals.push(publish_ns - self._last_publish_ns)
        elif self._start_ns is not None:
            self.first_result_ns.append(publish_ns - self._start_ns)
        self._last_publish_ns = publish_ns

    def dropped(self, cause: str, count: int = 1) -> None:
        """Take frames that were sent in and not answered."""
        if count < 0:
            raise ConfigError(f"{count} frames cannot be dropped")
        self.offered += count
        self.drops[cause] += count

    def __add__(self, other: StreamTiming) -> StreamTiming:
        """Return the timing of two streams that have nothing to do with each other: no interval joins them."""
        return StreamTiming(
            self.latency + other.latency,
            self.intervals + other.intervals,
            self.offered + other.offered,
            self.answered + other.answered,
            self.locked + other.locked,
            self.drops + other.drops,
            self.first_result_ns + other.first_result_ns,
        )

    def summary(self) -> dict[str, Any]:
        """Return the figures by their names in `protocol.METRICS`, drops also by cause."""
        share = (lambda part: part / self.offered) if self.offered else (lambda part: float("nan"))
        return {
            "latency_ms": self.latency.summary(),
            "drop_rate": share(self.offered - self.answered),
            "drops": dict(sorted(self.drops.items())),
            "interval_jitter_ms": self.intervals.std_ms,
            "availability": share(self.locked),
            "longest_gap_s": self.intervals.quantile_ms(1) / 1e3,
            "first_result_s": max(self.first_result_ns) / 1e9 if self.first_result_ns else float("nan"),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as plain values for JSON; what joins the next result of a stream is not kept."""
        return {
            "latency": self.latency.to_dict(),
            "intervals": self.intervals.to_dict(),
            "offered": self.offered,
            "answered": self.answered,
            "locked": self.locked,
            "drops": dict(sorted(self.drops.items())),
            "first_result_ns": list(self.first_result_ns),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StreamTiming:
        """Return the timing of `to_dict`."""
        return cls(
            Distribution.from_dict(values["latency"]),
            Distribution.from_dict(values["intervals"]),
            values["offered"],
            values["answered"],
            values["locked"],
            Counter(values["drops"]),
            list(values["first_result_ns"]),
        )
