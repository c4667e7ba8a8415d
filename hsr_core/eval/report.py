"""One self-contained HTML page of an evaluation: no script, no network, pictures inside.

Frames stream through once; of each recording a few hundred bins a curve are kept, so the page and the memory stay small
however long the recordings are.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..errors import BadFile, ConfigError
from ..paths import written_whole
from .criteria import Outcome
from .curves import Chart, Curve, chart_of, histogram_chart
from .labels import duration, label_of, number, share, signed, unit_of
from .protocol import METRICS, Protocol
from .published import published_for
from .result_folder import ResultFolder, values_of

MAIN = (
    "mpjpe_mm", "pa_mpjpe_mm", "abs_mpjpe_mm", "pve_mm", "hand_pa_pve_mm", "root_error_mm", "accel_error_m_s2",
    "jitter_10m_s3", "pck_005", "psnr_db",
)  # fmt: skip
"""Metrics that are drawn, those that come first where there are too many; others follow in the order of `METRICS`."""

MOST_CURVES = 4
"""Of one recording."""

MOST_CHARTED = 24
"""Recordings with curves: those with the largest first main figure, where there are more."""

_PICTURE_PX = 960
_JPEG_QUALITY = 82
_EVENT_EXAMPLES = 3
_PEOPLE = "people"
_HISTOGRAM_MS = 1.0


def write_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    compare: Mapping[str, Any] | None = None,
    outcomes: Sequence[Outcome] = (),
) -> Path:
    """Write the page of a finished run; return its path.

    Args:
        folder: What `hsr eval` wrote.
        path: The HTML file; it is the old one or whole.
        compare: Result of `compare`, shown in a section of its own.
        outcomes: Of criteria, shown at the top.

    Raises:
        MissingFile: summary.json or result.jsonl is not there.
        BadFile: They cannot be read.
    """
    run = ResultFolder(folder)
    try:
        html = _template().render(_context(run, compare, outcomes))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{run.path / 'summary.json'} is not whole: {error!r}") from error
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(html.encode(errors="replace"))
    return path


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hsr_core", "eval"),
        autoescape=True,  # names of recordings and messages come from outside
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number, "share": share, "duration": duration, "signed": signed, "pretty": _pretty, "words": _words,
    }  # fmt: skip
    return environment.get_template("report.html.j2")


def _context(run: ResultFolder, compare: Mapping[str, Any] | None, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    summary = run.summary
    recordings = summary.get("recordings", [])
    shown = _shown_metrics(summary["metrics"])
    marks = {(row["recording"], row["stamp_ns"]) for row in summary.get("worst", [])}
    stream = _read(run, _charted(recordings, shown), marks)
    timing = summary.get("timing", {})
    ordered = sorted(summary["metrics"].items(), key=lambda item: _place(item[0]))
    figures, sources = _with_sources([_figure(name, entry) for name, entry in ordered])
    return {
        "version": __version__,
        "summary": summary,
        "facts": summary.get("facts", {}),
        "figures": figures,
        "tiles": sorted(figures, key=lambda figure: figure["name"] not in MAIN)[:3],
        "intervals": any(figure["interval"] for figure in figures),
        "sources": sources,
        "recordings": [_recording(entry, shown, summary["metrics"]) for entry in recordings],
        "shown": shown,
        "labels": {name: label_of(name) for name in METRICS},
        "units": {name: unit_of(name) for name in METRICS},
        "totals": {
            "frames": sum(entry.get("frames", 0) for entry in recordings) or stream.frames,
            "duration_s": sum(entry.get("duration_s") or 0.0 for entry in recordings),
        },
        "failed": [entry["name"] for entry in recordings if entry.get("error")],
        "no_reference": stream.frames > 0 and not stream.references,
        "found": stream.found,
        "occupied": stream.occupied / stream.frames if stream.frames else None,
        "references": stream.references,
        "charts": stream.charts,
        "uncharted": len(recordings) - len(stream.charts) if len(recordings) > MOST_CHARTED else 0,
        "events": stream.events,
        "timing": timing,
        "stages": _stages(timing),
        "histogram": _histogram(run, timing),
        "worst": [_worst(run, row, stream.starts) for row in summary.get("worst", [])],
        "notes": [*summary.get("notes", []), *run.notes()],
        "protocols": _protocols(summary),
        "compare": compare,
        "outcomes": outcomes,
    }


@dataclass
class _Stream:
    """What one pass over the frames gave.

    Attributes:
        occupied: Frames with somebody found. references: People annotated. found: Of those, with a prediction.
        starts: First stamp of each recording [ns]. charts: (recording, [(title, unit, Chart)]).
        events: (recording, what) -> count and a few examples.
    """

    frames: int = 0
    occupied: int = 0
    references: int = 0
    found: int = 0
    starts: dict[str, int] = field(default_factory=dict)
    charts: list[tuple[str, list[tuple[str, str, Chart]]]] = field(default_factory=list)
    events: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


def _read(run: ResultFolder, charted: set[str] | None, marks: set[tuple[str, int]]) -> _Stream:
    stream = _Stream()
    curves: dict[str, dict[str, Curve]] = {}
    for record in run.records():
        if record["kind"] == "event":
            _take_event(stream, record)
            continue
        name = record["recording"]
        start = stream.starts.setdefault(name, record["stamp_ns"])
        matched = sum(person.get("ref") is not None for person in record["people"])
        missed = len(record.get("missed", ()))
        stream.frames += 1
        stream.occupied += bool(record["people"])
        stream.found += matched
        stream.references += matched + missed
        if charted is None or name in charted:
            if len(curves) >= MOST_CHARTED and name not in curves:
                continue
            _take_values(curves.setdefault(name, {}), record, record["stamp_ns"] - start, missed)
    for name, of_recording in curves.items():
        times = [stamp - stream.starts[name] for recording, stamp in sorted(marks) if recording == name]
        stream.charts.append((name, _charts(of_recording, times)))
    return stream


def _take_values(curves: dict[str, Curve], record: Mapping[str, Any], time_ns: int, missed: int) -> None:
    """Add a frame to the curves; a metric that this frame lacks gets an empty place, which is a gap."""
    values: dict[str, list[float]] = {name: [] for name in curves}
    for person in record["people"]:
        for name, value in values_of(person).items():
            values.setdefault(name, []).append(value)
    values[_PEOPLE] = [float(len(record["people"]))]
    for name, found in values.items():
        curves.setdefault(name, Curve()).add(time_ns, found, 0 if name == _PEOPLE else missed)


def _charts(curves: Mapping[str, Curve], marks_ns: Sequence[int]) -> list[tuple[str, str, Chart]]:
    order = [*MAIN, *(name for name in METRICS if name not in MAIN)]
    chosen = [name for name in order if name in curves and not curves[name].empty][:MOST_CURVES]
    rows = [(label_of(name), unit_of(name), chart_of(curves[name], marks_ns)) for name in chosen]
    if _PEOPLE in curves:
        rows.append(("People in the frame", "", chart_of(curves[_PEOPLE], marks_ns)))
    return rows


def _take_event(stream: _Stream, record: Mapping[str, Any]) -> None:
    entry = stream.events.setdefault((record["recording"], str(record.get("what", ""))), {"count": 0, "examples": []})
    entry["count"] += 1
    detail = str(record.get("detail", ""))
    if detail and detail not in entry["examples"] and len(entry["examples"]) < _EVENT_EXAMPLES:
        entry["examples"].append(detail)


def _shown_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """Return the metrics with a column in the table of recordings."""
    order = [*MAIN, *(name for name in METRICS if name not in MAIN)]
    return [name for name in order if name in metrics][:5]


def _charted(recordings: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> set[str] | None:
    """Return the recordings that get curves; None = all."""
    if len(recordings) <= MOST_CHARTED:
        return None

    def error(entry: Mapping[str, Any]) -> float:
        figure = entry.get("metrics", {}).get(shown[0], {}) if shown else {}
        return figure.get("value") or 0.0

    return {entry["name"] for entry in sorted(recordings, key=error, reverse=True)[:MOST_CHARTED]}


def _place(metric: str) -> int:
    """Return a metric's place in the table: that in `METRICS`, unknown ones last."""
    return [*METRICS, metric].index(metric)


def _figure(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    record = entry.get("protocol", {})
    return {
        "name": name,
        "label": label_of(name),
        "unit": unit_of(name),
        "arrow": {"lower": "↓", "higher": "↑"}.get(METRICS[name].better if name in METRICS else "", ""),
        "value": entry.get("value"),
        "interval": entry.get("interval"),
        "coverage": entry.get("coverage"),
        "count": entry.get("count"),
        "degenerate": entry.get("degenerate", 0),
        "protocol": record,
        "published": _published(record),
    }


def _published(record: Mapping[str, Any], sequence: str = "") -> list[Any]:
    try:
        return list(published_for(Protocol.from_dict(record), sequence))
    except (ConfigError, TypeError):
        return []


def _with_sources(figures: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Group each figure's published ones by where they are from; return the numbered list of sources too."""
    sources: list[str] = []
    for figure in figures:
        groups: dict[str, list[Any]] = {}
        for found in figure["published"]:
            groups.setdefault(f"{found.source}: {found.note}" if found.note else found.source, []).append(found)
        sources += [source for source in groups if source not in sources]
        figure["published"] = [
            {"number": sources.index(source) + 1, "figures": found} for source, found in groups.items()
        ]
    return figures, sources


def _recording(entry: Mapping[str, Any], shown: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Any]:
    own = entry.get("metrics", {})
    coverages = [own[name]["coverage"] for name in shown if own.get(name, {}).get("coverage") is not None]
    diagnosis = entry.get("diagnosis") or {}
    return {
        "name": entry["name"],
        "frames": entry.get("frames"),
        "duration_s": entry.get("duration_s"),
        "cells": [
            (own.get(name, {}).get("value"), _published(metrics[name].get("protocol", {}), entry["name"]))
            for name in shown
        ],
        "coverage": coverages[0] if coverages else None,
        "diagnosis": [(key.replace("_", " "), value) for key, value in diagnosis.items() if value],
        "error": entry.get("error", ""),
    }


def _stages(timing: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    stages = timing.get("stages_ms", {})
    return sorted(stages.items(), key=lambda item: (item[0] == "total", -(item[1].get("p50") or 0.0)))


def _histogram(run: ResultFolder, timing: Mapping[str, Any]) -> tuple[Chart, int] | None:
    """Return the histogram of the summary, or one made of timing.jsonl."""
    given = timing.get("histogram") or {}
    edges, counts = given.get("edges_ms", []), given.get("counts", [])
    if not sum(counts):
        bins: dict[int, int] = {}
        for row in run.timing():
            total = row["stage_ms"].get("total")
            if isinstance(total, (int, float)) and 0 <= total < float("inf"):
                bins[int(total / _HISTOGRAM_MS)] = bins.get(int(total / _HISTOGRAM_MS), 0) + 1
        edges, counts = [low * _HISTOGRAM_MS for low in sorted(bins)], [bins[low] for low in sorted(bins)]
    return histogram_chart(edges, counts) if sum(counts) else None


def _worst(run: ResultFolder, row: Mapping[str, Any], starts: Mapping[str, int]) -> dict[str, Any]:
    start = starts.get(row["recording"])
    return {
        **row,
        "label": label_of(row["metric"]),
        "unit": unit_of(row["metric"]),
        "time_s": None if start is None else (row["stamp_ns"] - start) * 1e-9,
        "image": picture_uri(run.path, row.get("picture") or ""),
    }


def picture_uri(folder: Path, name: str) -> str:
    """Return a picture of the folder as a data URI, made smaller if it is large; empty if there is none to be read."""
    path = (folder / name).resolve()
    if not name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return ""
    scale = _PICTURE_PX / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()


def _protocols(summary: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, dict[str, str]]]]:
    """Return what all protocol records share, and what each metric's has beside it."""
    records = {name: entry.get("protocol", {}) for name, entry in summary["metrics"].items()}
    first, *others = [*records.values()] or [{}]
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    own = [
        (label_of(name), {key: _words(value) for key, value in record.items() if key not in shared and key != "metric"})
        for name, record in records.items()
    ]
    return {key: _words(value) for key, value in shared.items() if key != "metric"}, own


def _words(value: Any) -> str:
    """Return a record's field on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
