"""Two evaluations side by side: differences of the same people in the same frames, with bootstrap intervals.

Values pair by recording, stamp and reference person, so a frame that only one run has, or a person whom only one run
found, does not move the difference; both are counted. Frames stream: what is kept grows with the recordings and the
blocks of time drawn from, not with the frames.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import BadFile, ConfigError
from .bootstrap import DRAWS, LEVEL, Interval, Paired, paired_sums
from .protocol import METRICS, Protocol, differences
from .result_folder import ResultFolder, Section, Worst, values_of

FORMAT = "hsr-compare/1"

ENOUGH_RECORDINGS = 5
"""From so many on, recordings are drawn; with fewer, blocks of their time: two or three say nothing about the next."""

BLOCK_S = 3.0
"""Shortest block [s]: as long as the memory of tracker and filters."""

_MOST_BLOCKS = 256
"""Of one recording: a long one has longer blocks, so that what is kept stays small."""

_WINDOW = 4096
"""Frames kept back while their partner may still come; recordings whose stamps jump back need it."""

_WORST = 10

Frame = dict[str, Any]


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Return how run b differs from run a, ready for JSON (docs/evaluation.md lists the fields).

    Differences are b - a. Metrics come with the worst regression first. A metric whose two protocol records differ is
    not compared but listed in `refused` with the fields that differ.

    Args:
        a, b: Folders of `hsr eval`, or their summary.json. a is what b is judged by.
        draws, seed, level: Of the bootstrap.

    Raises:
        MissingFile: Results are not there.
        BadFile: They cannot be read.
        ConfigError: No frame is in both; the message lists both runs' recordings.
    """
    run_a, run_b = ResultFolder(a), ResultFolder(b)
    protocols, refused = _protocols(run_a.summary, run_b.summary)
    sections_a, sections_b = run_a.sections(), run_b.sections()
    both = [name for name in sections_a if name in sections_b]
    block_s = None if len(both) >= ENOUGH_RECORDINGS else _block_s([sections_a[name] for name in both])
    over = "recordings" if block_s is None else f"blocks of {block_s:g} s"
    drawing = {"over": over, "draws": draws, "seed": seed, "level": level}
    tally = _Tally(protocols, block_s)
    for name in both:
        tally.start(name, sections_a[name].first_ns)
        for pair in joined(run_a.frames(sections_a[name], name), run_b.frames(sections_b[name], name)):
            tally.add(*pair)
    if not tally.frames["both"]:
        raise ConfigError(
            f"no frame is in both runs, by recording and stamp: {a} has {', '.join(sections_a) or 'no recordings'}, "
            f"{b} has {', '.join(sections_b) or 'no recordings'}"
        )
    alone = [
        sum(1 for name in mine if name not in other for _ in run.frames(mine[name], name))
        for run, mine, other in ((run_a, sections_a, sections_b), (run_b, sections_b, sections_a))
    ]
    result = {
        "format": FORMAT,
        "a": _about(a, run_a),
        "b": _about(b, run_b),
        "changed": _changed(run_a.summary.get("facts", {}), run_b.summary.get("facts", {})),
        "recordings": {
            "both": both,
            "only_a": [name for name in sections_a if name not in sections_b],
            "only_b": [name for name in sections_b if name not in sections_a],
        },
        "frames": {
            **tally.frames,
            "only_a": tally.frames["only_a"] + alone[0],
            "only_b": tally.frames["only_b"] + alone[1],
        },
        "people": tally.people,
        "interval": drawing,
        "metrics": _sorted_metrics(tally, protocols, run_a.summary, run_b.summary, drawing),
        "refused": refused,
        "only_a": sorted(set(run_a.summary["metrics"]) - set(run_b.summary["metrics"])),
        "only_b": sorted(set(run_b.summary["metrics"]) - set(run_a.summary["metrics"])),
    }
    result["notes"] = _notes(result, tally, run_a, run_b, block_s)
    return result


def joined(a: Iterator[Frame], b: Iterator[Frame]) -> Iterator[tuple[Frame | None, Frame | None]]:
    """Yield the frames of one recording in pairs of equal stamp; None where the other side has none.

    Equal stamps pair in their order. At most `_WINDOW` frames a side wait for a partner.
    """
    sides = (iter(a), iter(b))
    waiting: tuple[dict[int, deque[Frame]], dict[int, deque[Frame]]] = ({}, {})
    newest = [-math.inf, -math.inf]
    while min(newest) < math.inf:
        side = 0 if newest[0] <= newest[1] else 1
        frame = next(sides[side], None)
        if frame is None:
            newest[side] = math.inf
            continue
        stamp = frame["stamp_ns"]
        newest[side] = max(newest[side], stamp)
        partner = _take(waiting[1 - side], stamp)
        if partner is not None:
            yield (frame, partner) if side == 0 else (partner, frame)
            continue
        waiting[side].setdefault(stamp, deque()).append(frame)
        if len(waiting[side]) > _WINDOW:
            left = _take(waiting[side], next(iter(waiting[side])))
            yield (left, None) if side == 0 else (None, left)
    for side, queues in enumerate(waiting):
        for queue in queues.values():
            yield from ((left, None) if side == 0 else (None, left) for left in queue)


def _take(waiting: dict[int, deque[Frame]], stamp: int) -> Frame | None:
    queue = waiting.get(stamp)
    if queue is None:
        return None
    frame = queue.popleft()
    if not queue:
        del waiting[stamp]
    return frame


class _Tally:
    """Sums over pairs, per metric and unit of the bootstrap.

    Attributes:
        frames, people: Counts for the result.
        sums: metric -> (recording, block) -> [sum of a, sum of b, pairs].
        alone: metric -> values of only a, of only b. worst: metric -> frames that got worse.
        differs: metric -> whether any pair does.
        without_reference: Frames in which nobody was annotated; there the primary person is compared.
    """

    def __init__(self, metrics: Mapping[str, Any], block_s: float | None) -> None:
        self.frames = dict.fromkeys(("both", "only_a", "only_b"), 0)
        self.people = dict.fromkeys(("both", "gained", "lost", "missed_by_both", "unmatched_a", "unmatched_b"), 0)
        self.sums: dict[str, dict[tuple[str, int], list[float]]] = {name: {} for name in metrics}
        self.alone = {name: [0, 0] for name in metrics}
        self.differs = dict.fromkeys(metrics, False)
        self.worst = {name: Worst(_WORST) for name in metrics}
        self.without_reference = 0
        self.without_protocol: set[str] = set()
        self._sign = {name: {"lower": 1.0, "higher": -1.0}.get(_better(name), 0.0) for name in metrics}
        self._block_ns = None if block_s is None else round(block_s * 1e9)

    def start(self, recording: str, first_ns: int) -> None:
        self._recording, self._first_ns = recording, first_ns

    def add(self, a: Frame | None, b: Frame | None) -> None:
        if a is None or b is None:
            self.frames["only_b" if a is None else "only_a"] += 1
            return
        self.frames["both"] += 1
        people_a, people_b = _people(a), _people(b)
        if not (people_a or people_b or a.get("missed") or b.get("missed")):
            self.without_reference += 1
            people_a, people_b = _primary(a), _primary(b)
        else:
            self.people["missed_by_both"] += len(set(a.get("missed", ())) & set(b.get("missed", ())))
            self.people["unmatched_a"] += sum(person.get("ref") is None for person in a["people"])
            self.people["unmatched_b"] += sum(person.get("ref") is None for person in b["people"])
        block = 0 if self._block_ns is None else (a["stamp_ns"] - self._first_ns) // self._block_ns
        for ref in people_a.keys() | people_b.keys():
            self._add_person(people_a.get(ref), people_b.get(ref), (self._recording, block), b, ref)

    def _add_person(
        self, a: dict[str, float] | None, b: dict[str, float] | None, group: tuple[str, int], frame: Frame, ref: Any
    ) -> None:
        self.people["both" if a is not None and b is not None else "gained" if a is None else "lost"] += 1
        a, b = a or {}, b or {}
        for name in a.keys() | b.keys():
            if name not in self.sums:
                self.without_protocol.add(name)
            elif name not in a or name not in b:
                self.alone[name][0 if name in a else 1] += 1
            else:
                sums = self.sums[name].setdefault(group, [0.0, 0.0, 0])
                sums[0] += a[name]
                sums[1] += b[name]
                sums[2] += 1
                difference = b[name] - a[name]
                self.differs[name] |= difference != 0
                worse = self._sign[name] * difference if self._sign[name] else abs(difference)
                if worse > 0:
                    self.worst[name].add(
                        worse, frame, ref=ref, metric=name, a=a[name], b=b[name], difference=difference
                    )


def _people(frame: Frame) -> dict[Any, dict[str, float]]:
    """Return the values of people who were matched, by their reference."""
    return {person["ref"]: values_of(person) for person in frame["people"] if person.get("ref") is not None}


def _primary(frame: Frame) -> dict[Any, dict[str, float]]:
    found = next((person for person in frame["people"] if person.get("primary") is True), None)
    return {} if found is None else {None: values_of(found)}


def _protocols(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[dict[str, Protocol], list[dict[str, Any]]]:
    """Return the metrics that may be compared with their record, and those that may not with the fields."""
    allowed: dict[str, Protocol] = {}
    refused = []
    for name in [name for name in a["metrics"] if name in b["metrics"]]:
        record_a, record_b = (_record(summary, name) for summary in (a, b))
        found = differences(record_a, record_b)
        if found:
            fields = {key: [_plain(one), _plain(other)] for key, (one, other) in found.items()}
            refused.append({"metric": name, "fields": fields})
        else:
            allowed[name] = record_a
    return allowed, refused


def _record(summary: Mapping[str, Any], metric: str) -> Protocol:
    try:
        return Protocol.from_dict(summary["metrics"][metric]["protocol"])
    except (KeyError, TypeError, ConfigError) as error:
        raise BadFile(f"{metric} of {summary.get('name', 'a run')} has no protocol record: {error}") from error


def _plain(value: Any) -> Any:
    """Return a record's field as JSON has it."""
    if isinstance(value, tuple):
        pairs = bool(value) and all(isinstance(entry, tuple) for entry in value)
        return dict(value) if pairs else list(value)
    return value


def _block_s(sections: list[Section]) -> float:
    longest = max((section.duration_s for section in sections), default=0.0)
    return max(BLOCK_S, float(math.ceil(longest / _MOST_BLOCKS)))


def _sorted_metrics(
    tally: _Tally,
    protocols: Mapping[str, Protocol],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    drawing: Mapping[str, Any],
) -> dict[str, Any]:
    rows = {}
    for name, record in protocols.items():
        groups = tally.sums[name]
        common = {"protocol": record.name, "unit": record.unit, "better": _better(name)}
        if groups:
            units = _by_recording(groups) if drawing["over"] == "recordings" else groups
            columns = zip(*units.values(), strict=True)
            found = paired_sums(*columns, alone=tuple(tally.alone[name]), **drawing)
            rows[name] = _paired_row(found, name, identical=not tally.differs[name]) | common
            rows[name]["recordings"] = [
                {"name": recording, "a": sums[0] / sums[2], "b": sums[1] / sums[2],
                 "difference": (sums[1] - sums[0]) / sums[2], "pairs": sums[2]}
                for (recording, _), sums in _by_recording(groups).items()
            ]  # fmt: skip
            rows[name]["worst"] = tally.worst[name].by_score()
        else:
            rows[name] = _figure_row(a["metrics"][name].get("value"), b["metrics"][name].get("value"), name) | common
    return dict(sorted(rows.items(), key=lambda item: _rank(item[1])))


def _by_recording(groups: Mapping[tuple[str, int], list[float]]) -> dict[tuple[str, int], list[float]]:
    merged: dict[tuple[str, int], list[float]] = {}
    for (recording, _), sums in groups.items():
        total = merged.setdefault((recording, 0), [0.0, 0.0, 0])
        for i, part in enumerate(sums):
            total[i] += part
    return merged


def _paired_row(found: Paired, name: str, *, identical: bool) -> dict[str, Any]:
    return {
        "kind": "paired",
        "a": found.a,
        "b": found.b,
        "difference": found.difference.value,
        "interval": _ends(found.difference),
        "relative": _finite(found.relative.value),
        "relative_interval": _ends(found.relative),
        "pairs": found.pairs,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "units": found.difference.units,
        "verdict": "same" if identical else _verdict(_ends(found.difference), found.difference.value, name),
    }


def _figure_row(a: float | None, b: float | None, name: str) -> dict[str, Any]:
    """Return a row for what is one figure per run: counts, latencies. Nothing to pair, so no interval."""
    difference = None if a is None or b is None else b - a
    return {
        "kind": "figure",
        "a": a,
        "b": b,
        "difference": difference,
        "interval": None,
        "relative": difference / a if difference is not None and a else None,
        "relative_interval": None,
        "verdict": "same" if difference == 0 else "no interval",
    }


def _verdict(interval: list[float] | None, difference: float, name: str) -> str:
    if interval is None:
        return "no interval"
    if interval[0] <= 0 <= interval[1]:
        return "unclear"
    if _better(name) == "none":
        return "changed"
    return "worse" if (difference > 0) == (_better(name) == "lower") else "better"


def _rank(row: Mapping[str, Any]) -> tuple[int, float]:
    """Sort key: regressions first, the largest in front; then what may be one; improvements last."""
    sign = {"lower": 1.0, "higher": -1.0}.get(row["better"], 0.0)
    worsening = sign * (row["relative"] if row["relative"] is not None else math.copysign(0.0, row["difference"] or 0))
    order = {"worse": 0, "better": 2, "same": 3}.get(row["verdict"], 1)
    return order, -worsening


def _better(metric: str) -> str:
    return METRICS[metric].better if metric in METRICS else "none"


def _ends(interval: Interval) -> list[float] | None:
    return [interval.low, interval.high] if math.isfinite(interval.low) and math.isfinite(interval.high) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _about(given: str | os.PathLike[str], run: ResultFolder) -> dict[str, Any]:
    summary = run.summary
    return {"path": str(given), **{key: summary.get(key) for key in ("name", "mode", "sha256")}}


def _changed(a: Any, b: Any, prefix: str = "") -> dict[str, list[Any]]:
    """Return the facts in which two runs differ, by dotted name; the date is no such fact."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = {}
        for key in sorted(a.keys() | b.keys()):
            if f"{prefix}{key}" != "date":
                found |= _changed(a.get(key), b.get(key), f"{prefix}{key}.")
        return found
    return {} if a == b else {prefix[:-1]: [a, b]}


def _notes(
    result: dict[str, Any], tally: _Tally, run_a: ResultFolder, run_b: ResultFolder, block_s: float | None
) -> list[str]:
    notes = [f"{side}: {note}" for side, run in (("a", run_a), ("b", run_b)) for note in run.notes()]
    if result["a"]["sha256"] and result["a"]["sha256"] == result["b"]["sha256"]:
        notes.append("both runs gave the same results to the last digit")
    if block_s is not None:
        notes.append(_about_blocks(result, block_s))
    people = result["people"]
    if people["lost"] or people["gained"]:
        notes.append(
            f"{people['lost']} people were found by a and missed by b, {people['gained']} the other way round; "
            "the differences are of those whom both found"
        )
    if tally.without_reference:
        notes.append(f"{tally.without_reference} frames have no reference: both runs' primary people are compared")
    for side in ("a", "b"):
        if result["frames"][f"only_{side}"]:
            notes.append(f"{result['frames'][f'only_{side}']} frames are in {side} only")
    if tally.without_protocol:
        left = sorted(tally.without_protocol - {entry["metric"] for entry in result["refused"]})
        if left:
            notes.append(f"not in both summaries, so not compared: {', '.join(left)}")
    return notes


def _about_blocks(result: Mapping[str, Any], block_s: float) -> str:
    count = len(result["recordings"]["both"])
    said = f"{count} of at least {ENOUGH_RECORDINGS} recordings"
    if all(row.get("units", 0) < 2 for row in result["metrics"].values()):
        return f"{said}, and no longer than one block of {block_s:g} s: too little for intervals"
    return (
        f"{said}: intervals are drawn over blocks of {block_s:g} s and speak about these recordings, not about others"
    )
