"""Bootstrap intervals of figures and of paired differences, drawn over sequences, not over frames.

Frames of one recording resemble each other: drawn one by one they would promise far too narrow an interval. With one
recording draw over blocks of it (`time_blocks`), and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, ShapeError
from ..types import Array
from .figure import Figure, values_of
from .protocol import require_same

DRAWS = 1000
LEVEL = 0.95

_NAN = float("nan")


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile bootstrap interval.

    Attributes:
        value: Of all units. low, high: NaN with fewer than two units: one sequence says nothing about the next.
        units: How many there were to draw from. over: What they are. level: Share of draws inside.
    """

    value: float
    low: float
    high: float
    units: int
    over: str = "sequences"
    level: float = LEVEL


@dataclass(frozen=True)
class Paired:
    """The difference b - a of values of the same frames and people.

    Attributes:
        difference: In the metric's unit. relative: Divided by the mean of a; 0.02 = 2 % more.
        a, b: The means of the pairs. pairs: How many. only_a, only_b: Values without a partner, left out.
    """

    difference: Interval
    relative: Interval
    a: float
    b: float
    pairs: int
    only_a: int
    only_b: int


def interval(
    figures: Sequence[Figure], *, over: str = "sequences", draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Return the figure of all sequences with its interval.

    Args:
        figures: One per sequence, or per block, of one protocol. Each draw merges as many as there are.

    Raises:
        ConfigError: No figures, or their protocols differ.
    """
    if not figures:
        raise ConfigError("no figures to draw from")
    for other in figures[1:]:
        require_same(figures[0].protocol, other.protocol)
    sums, counts = (np.array(rows, float) for rows in zip(*map(values_of, figures), strict=True))
    return _interval(lambda weights: _means(weights @ sums, weights @ counts), len(sums), over, draws, seed, level)


def paired(
    a: Array,
    b: Array,
    groups: Sequence[Hashable],
    *,
    over: str = "sequences",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Paired:
    """Return how b differs from a, with intervals from the same draws for both.

    Args:
        a, b: Values of the same frames and people in the same order; not finite = missing. Shape (N,).
        groups: The sequence (or block) of each value, N of them.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(groups) != len(a):
        raise ShapeError(f"pairs need equal (N,) and N groups, not {a.shape}, {b.shape} and {len(groups)}")
    in_a, in_b = np.isfinite(a), np.isfinite(b)
    both = in_a & in_b
    places: dict[Hashable, int] = {}
    group = np.array([places.setdefault(groups[i], len(places)) for i in np.flatnonzero(both)], int)
    sum_a, sum_b, count = (np.bincount(group, x[both], len(places)) for x in (a, b, np.ones_like(a)))
    alone = int((in_a & ~in_b).sum()), int((in_b & ~in_a).sum())
    return paired_sums(sum_a, sum_b, count, alone=alone, over=over, draws=draws, seed=seed, level=level)


def paired_sums(
    sum_a: Array,
    sum_b: Array,
    count: Array,
    *,
    alone: tuple[int, int] = (0, 0),
    over: str = "sequences",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Paired:
    """Return how b differs from a, out of the pairs' sums per sequence: no value need be kept.

    Args:
        sum_a, sum_b, count: Of the pairs of each sequence (or block), which has at least one. Shape (units,).
        alone: Values of a and of b without a partner, for `only_a` and `only_b`.
    """
    sum_a, sum_b, count = (np.asarray(x, np.float64) for x in (sum_a, sum_b, count))

    def difference(weights: Array) -> Array:
        return (weights @ (sum_b - sum_a)) / np.maximum(weights @ count, 1)

    def relative(weights: Array) -> Array:
        base = weights @ sum_a
        return np.divide(weights @ (sum_b - sum_a), base, out=np.full(base.shape, np.nan), where=base != 0)

    pairs = int(count.sum())
    return Paired(
        *(_interval(f, len(count), over, draws, seed, level) for f in (difference, relative)),
        a=float(sum_a.sum() / pairs) if pairs else _NAN,
        b=float(sum_b.sum() / pairs) if pairs else _NAN,
        pairs=pairs,
        only_a=alone[0],
        only_b=alone[1],
    )


def time_blocks(stamps_ns: Array, sequences: Sequence[Hashable], seconds: float = 3.0) -> list[tuple[Hashable, int]]:
    """Return the block of each value: its sequence, and which of the successive `seconds` since time 0 it lies in."""
    width = round(seconds * 1e9)
    return [(name, int(stamp) // width) for stamp, name in zip(stamps_ns, sequences, strict=True)]


def _interval(
    statistic: Callable[[Array], Array], units: int, over: str, draws: int, seed: int, level: float
) -> Interval:
    """Draw `units` out of `units` with replacement, as weights (draws, units), and take percentiles."""
    if units == 0:
        return Interval(_NAN, _NAN, _NAN, 0, over, level)
    value = float(statistic(np.ones((1, units)))[0])
    low = high = _NAN
    if units > 1:
        weights = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws).astype(float)
        drawn = statistic(weights)
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn):
            low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high, units, over, level)


def _means(sums: Array, counts: Array) -> Array:
    """Return the mean over components of sums / counts, (draws, K) -> (draws,); NaN without any count."""
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    known = (counts > 0).sum(1)
    return np.where(known > 0, means.sum(1) / np.maximum(known, 1), np.nan)
