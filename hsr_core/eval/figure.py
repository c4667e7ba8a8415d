"""A figure: sums and counts that add up to a mean, with its protocol and its coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..types import Array
from .protocol import Protocol, require_same

_SCALE = 2.0**80
"""Sums are integers in steps of 2^-80: exact for values above 1e-16, so that shards add up alike in any order."""


@dataclass(frozen=True)
class Figure:
    """A mean that can be merged, never a mean of means.

    A figure has one component, or one per key point for PCK, whose components are averaged at the end.

    Attributes:
        protocol: How it was made.
        sums: Of the values, per component, in steps of 2^-80.
        counts: Of the values, per component.
        annotated: How many values there would be had nothing been missed, all components together.
        degenerate: How many of the counted frames were aligned by a translation only.
    """

    protocol: Protocol
    sums: tuple[int, ...] = (0,)
    counts: tuple[int, ...] = (0,)
    annotated: int = 0
    degenerate: int = 0

    @classmethod
    def of(
        cls,
        values: Array,
        protocol: Protocol,
        *,
        annotated: int | None = None,
        degenerate: int = 0,
        components: bool = False,
    ) -> Figure:
        """Return the figure of many values.

        Args:
            values: One per frame and person, any shape; (..., K) with `components`. Not finite = missing.
            protocol: How they were made.
            annotated: How many values the reference asked for. People without a prediction have no value but belong in
                here. None = as many as were given; of `components` those that are finite, because there a missing
                prediction is a miss with the value 0, and NaN a key point that nobody annotated.
            degenerate: Frames counted by `Alignment.degenerate`.
            components: Average the last axis at the end, not in one pool with the others.
        """
        values = np.asarray(values, np.float64)
        columns = values.reshape(-1, values.shape[-1]).T if components else values.reshape(1, -1)
        found = [column[np.isfinite(column)] for column in columns]
        return cls(
            protocol,
            sums=tuple(sum(map(int, (column * _SCALE).tolist())) for column in found),
            counts=tuple(len(column) for column in found),
            annotated=_asked(values, components) if annotated is None else int(annotated),
            degenerate=int(degenerate),
        )

    @classmethod
    def ratio(cls, part: float, whole: int, protocol: Protocol) -> Figure:
        """Return the figure of a share of counts: matched of annotated, dropped of published."""
        return cls(protocol, (int(part * _SCALE),), (int(whole),), annotated=int(whole))

    @property
    def value(self) -> float:
        """The mean; NaN without values."""
        means = [total / _SCALE / count for total, count in zip(self.sums, self.counts, strict=True) if count]
        return float(np.mean(means)) if means else float("nan")

    @property
    def count(self) -> int:
        """Values in the mean, all components together."""
        return sum(self.counts)

    @property
    def coverage(self) -> float:
        """Share of what was asked for that has a value; NaN when nothing was asked for."""
        return self.count / self.annotated if self.annotated else float("nan")

    def __add__(self, other: Figure) -> Figure:
        """Return the figure of both parts' values.

        Raises:
            ConfigError: The protocols differ, or the number of components.
        """
        require_same(self.protocol, other.protocol)
        if len(self.sums) != len(other.sums):
            raise ConfigError(
                f"{self.protocol.metric}: {len(self.sums)} and {len(other.sums)} components do not add up"
            )
        return Figure(
            self.protocol,
            tuple(map(int.__add__, self.sums, other.sums)),
            tuple(map(int.__add__, self.counts, other.counts)),
            self.annotated + other.annotated,
            self.degenerate + other.degenerate,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON. The sums are text: they are longer than other readers' integers."""
        return {
            "value": None if np.isnan(self.value) else self.value,
            "coverage": self.coverage if self.annotated else None,
            "count": self.count,
            "annotated": self.annotated,
            "degenerate": self.degenerate,
            "sums": [str(total) for total in self.sums],
            "counts": list(self.counts),
            "protocol": self.protocol.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Figure:
        """Return the figure of `to_dict`.

        Raises:
            ConfigError: A field is missing or not a number, or there are not as many sums as counts.
        """
        try:
            figure = cls(
                Protocol.from_dict(values["protocol"]),
                tuple(int(total) for total in values["sums"]),
                tuple(int(count) for count in values["counts"]),
                int(values["annotated"]),
                int(values["degenerate"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ConfigError(f"not a figure: {error!r}") from error
        if len(figure.sums) != len(figure.counts):
            raise ConfigError(f"not a figure: {len(figure.sums)} sums and {len(figure.counts)} counts")
        return figure


def _asked(values: Array, components: bool) -> int:
    return int(np.isfinite(values).sum()) if components else values.size


def values_of(figure: Figure) -> tuple[list[float], list[int]]:
    """Return the sums in the metric's unit and the counts, per component."""
    return [total / _SCALE for total in figure.sums], list(figure.counts)


def merge(figures: Iterable[Figure]) -> Figure:
    """Return the figure of all parts' values; the order does not matter, not even in the last digit.

    Raises:
        ConfigError: No figures, or their protocols differ.
    """
    first, *rest = [*figures] or [None]
    if first is None:
        raise ConfigError("no figures to merge")
    for other in rest:
        first = first + other
    return first
