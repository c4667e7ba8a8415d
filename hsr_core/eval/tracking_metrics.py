"""How well people are told apart over time: HOTA, CLEAR (MOTA, switches, fragmentations) and identity (IDF1).

A `TrackingLog` holds who was where in one sequence; its `counts` add up over sequences. The published libraries do not
fit here: trackeval needs numpy 2, motmetrics brings pandas; they are what this is checked against (docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..errors import ShapeError
from ..types import Array

ALPHAS = np.arange(1, 20) / 20
"""HOTA's thresholds of similarity."""

CLEAR_THRESHOLD = 0.5
"""A match of CLEAR and of identity is at least this similar."""

_EPS = 1e-12


def position_similarity(predicted: Array, reference: Array, zero_m: float = 1.0) -> Array:
    """Return 1 at no distance, falling to 0 at `zero_m` and beyond. (N, 3), (M, 3) [m] -> (N, M)."""
    offsets = np.asarray(predicted)[:, None] - np.asarray(reference)[None]
    return np.maximum(1 - np.linalg.norm(offsets, axis=-1) / zero_m, 0)


@dataclass(frozen=True)
class TrackingCounts:
    """Sums of one sequence or several; every score is a ratio of them.

    Attributes:
        tp, fn, fp: Matches, misses and false alarms at each of `ALPHAS`.
        association, localisation: Over the matches at each of `ALPHAS`: sums of A(c) and of similarity.
        matched, missed, false: CLEAR's.
        switches: Matched to another id than the last time. fragmentations: Missed between two matches.
        id_matched: Matches under the best assignment of whole tracks.
    """

    tp: tuple[int, ...] = (0,) * len(ALPHAS)
    fn: tuple[int, ...] = (0,) * len(ALPHAS)
    fp: tuple[int, ...] = (0,) * len(ALPHAS)
    association: tuple[float, ...] = (0.0,) * len(ALPHAS)
    localisation: tuple[float, ...] = (0.0,) * len(ALPHAS)
    matched: int = 0
    missed: int = 0
    false: int = 0
    switches: int = 0
    fragmentations: int = 0
    id_matched: int = 0

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        """Return the counts of both."""
        return TrackingCounts(*(_plus(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))

    def scores(self) -> dict[str, float]:
        """Return the scores by their names in `protocol.METRICS`; NaN where nothing was annotated or predicted."""
        annotated, predicted = self.matched + self.missed, self.matched + self.false
        tp = np.array(self.tp, float)
        det_a = tp / np.maximum(1, tp + self.fn + self.fp)
        ass_a = np.array(self.association) / np.maximum(1, tp)
        nobody = not annotated and not predicted
        return {
            "hota": _nan if nobody else float(np.sqrt(det_a * ass_a).mean()),
            "det_a": _nan if nobody else float(det_a.mean()),
            "ass_a": _nan if nobody else float(ass_a.mean()),
            "idf1": _share(2 * self.id_matched, annotated + predicted),
            "mota": _share(self.matched - self.false - self.switches, annotated),
            "id_switches": self.switches,
            "fragmentations": self.fragmentations,
            "detection_rate": _share(self.matched, annotated),
            "precision": _share(self.matched, predicted),
            "f1": _share(2 * self.matched, annotated + predicted),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrackingCounts:
        """Return the counts of `to_dict`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


class TrackingLog:
    """Who was seen where in one sequence, frame by frame; small, because the scores need all of it at once."""

    def __init__(self) -> None:
        self._frames: list[tuple[Array, Array, Array]] = []
        self._references: dict[Hashable, int] = {}
        self._predictions: dict[Hashable, int] = {}

    def push(self, reference_ids: Sequence[Hashable], predicted_ids: Sequence[Hashable], similarity: Array) -> None:
        """Take a frame.

        Args:
            reference_ids, predicted_ids: Each id once.
            similarity: Of predicted to reference, IoU of boxes or `position_similarity`. Shape (P, R), in [0, 1].
        """
        shape = len(predicted_ids), len(reference_ids)
        similarity = np.asarray(similarity, np.float64)
        if similarity.size == 0:
            similarity = similarity.reshape(shape)
        if similarity.shape != shape:
            raise ShapeError(f"similarities must be (predicted, reference) {shape}, not {similarity.shape}")
        if len(set(reference_ids)) < shape[1] or len(set(predicted_ids)) < shape[0]:
            raise ShapeError(f"an id occurs twice in a frame: {list(predicted_ids)}, {list(reference_ids)}")
        rows = [self._references.setdefault(key, len(self._references)) for key in reference_ids]
        columns = [self._predictions.setdefault(key, len(self._predictions)) for key in predicted_ids]
        self._frames.append((np.array(rows, int), np.array(columns, int), similarity.T))

    def extend(self, other: TrackingLog) -> None:
        """Take the frames of the sequence's next chunk; ids must mean the same people in both."""
        names = list(other._references), list(other._predictions)
        for rows, columns, similarity in other._frames:
            self.push([names[0][row] for row in rows], [names[1][column] for column in columns], similarity.T)

    def counts(self) -> TrackingCounts:
        """Return the sums of this sequence."""
        return TrackingCounts(**self._hota(), **self._clear(), id_matched=self._identity())

    def _table(self) -> Array:
        return np.zeros((len(self._references), len(self._predictions)))

    def _seen(self) -> tuple[Array, Array]:
        """How many frames each person is annotated in, (R, 1), and each track is predicted in, (1, P)."""
        references, predictions = np.zeros((len(self._references), 1)), np.zeros((1, len(self._predictions)))
        for rows, columns, _ in self._frames:
            references[rows] += 1
            predictions[:, columns] += 1
        return references, predictions

    def _hota(self) -> dict[str, tuple]:
        """Luiten et al. 2021: detections are matched so that tracks which go together overall come first."""
        together = self._table()
        for rows, columns, similarity in self._frames:
            either = similarity.sum(0, keepdims=True) + similarity.sum(1, keepdims=True) - similarity
            together[np.ix_(rows, columns)] += similarity / np.maximum(either, _EPS)
        references, predictions = self._seen()
        alignment = together / np.maximum(references + predictions - together, _EPS)
        matches = np.zeros((len(ALPHAS), *together.shape))
        located = np.zeros(len(ALPHAS))
        for rows, columns, similarity in self._frames:
            i, j = linear_sum_assignment(alignment[np.ix_(rows, columns)] * similarity, maximize=True)
            found = similarity[i, j]
            for k, alpha in enumerate(ALPHAS):
                near = found >= alpha - _EPS
                matches[k, rows[i[near]], columns[j[near]]] += 1
                located[k] += found[near].sum()
        tp = matches.sum((1, 2))
        shares = matches / np.maximum(1, references + predictions - matches)
        return {
            "tp": _integers(tp),
            "fn": _integers(references.sum() - tp),
            "fp": _integers(predictions.sum() - tp),
            "association": tuple((matches * shares).sum((1, 2)).tolist()),
            "localisation": tuple(located.tolist()),
        }

    def _clear(self) -> dict[str, int]:
        """Bernardin and Stiefelhagen 2008: a match of the frame before is kept while it is near enough."""
        last = np.full(len(self._references), -1)
        before: dict[int, int] = {}
        missed_since = np.zeros(len(self._references), bool)
        matched = missed = false = switches = fragmentations = 0
        for rows, columns, similarity in self._frames:
            near = similarity >= CLEAR_THRESHOLD - _EPS
            kept = np.array([before.get(row, -1) for row in rows.tolist()], int)[:, None] == columns
            i, j = linear_sum_assignment(np.where(near, 1000.0 * kept + similarity, 0), maximize=True)
            i, j = i[near[i, j]], j[near[i, j]]
            people, tracks = rows[i], columns[j]
            seen_before = last[people] >= 0
            switches += int((seen_before & (last[people] != tracks)).sum())
            fragmentations += int((seen_before & missed_since[people]).sum())
            missed_since[rows] = True
            missed_since[people] = False
            last[people] = tracks
            before = dict(zip(people.tolist(), tracks.tolist(), strict=True))
            matched += len(people)
            missed += len(rows) - len(people)
            false += len(columns) - len(people)
        return {
            "matched": matched,
            "missed": missed,
            "false": false,
            "switches": switches,
            "fragmentations": fragmentations,
        }

    def _identity(self) -> int:
        """Ristani et al. 2016: matches when each person has one track at most, the best such assignment."""
        together = self._table()
        for rows, columns, similarity in self._frames:
            together[np.ix_(rows, columns)] += similarity >= CLEAR_THRESHOLD - _EPS
        i, j = linear_sum_assignment(together, maximize=True)
        return int(together[i, j].sum())


_nan = float("nan")


def _share(part: float, whole: float) -> float:
    return part / whole if whole else _nan


def _integers(values: Array) -> tuple[int, ...]:
    return tuple(int(value) for value in np.broadcast_to(values, ALPHAS.shape))


def _plus(a: Any, b: Any) -> Any:
    return tuple(x + y for x, y in zip(a, b, strict=True)) if isinstance(a, tuple) else a + b
