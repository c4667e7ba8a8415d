"""From the units of a run to its result files (docs/evaluation.md lists them)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from ..paths import written_whole
from .bootstrap import interval
from .figure import Figure
from .jobs import unit_folder
from .protocol import Protocol
from .result_folder import FORMAT, FRAMES, SUMMARY, TIMING
from .scoring import Scores
from .timing_metrics import Distribution
from .unit import DONE, Unit, UnitResult, library_versions

BIN_MS = 2.0
OF_SINGLE_IMAGES = ("detection_rate", "precision", "f1")
"""What can be said of who was found where images are no sequence, and ids mean nothing."""


def write_results(
    out: Path, units: Sequence[Unit], results: Sequence[UnitResult], work: Path, *, name: str, run: dict[str, Any]
) -> dict[str, Any]:
    """Write result.jsonl, timing.jsonl, worst/ and summary.json; return the summary.

    Args:
        out: Folder of the results. work: Folder of the units.
        name: Of the run. run: What differs from run to run: date, wall time, workers, how many frames were done.
    """
    (out / SUMMARY).unlink(missing_ok=True)  # whoever is killed from here on leaves no summary of other frames
    facts = _facts(units, results)
    shifts = _index_shifts(units, results)
    digest = _write_frames(out / FRAMES, facts, units, work, shifts)
    latency = _write_timing(out / TIMING, units, work, shifts)
    groups = _by_recording(units, results)
    total = reduce(lambda a, b: a + b, (result.scores for result in results), Scores())
    base = next((f.protocol for f in total.figures.values() if f.protocol.fps), None)
    base = base or next((figure.protocol for figure in total.figures.values()), Protocol(""))
    base = replace(base, details=())
    summary = {
        "format": FORMAT,
        "name": name,
        "mode": base.mode,
        "metrics": _metrics(total, base, [scores for scores, _ in groups.values()]),
        "protocol": _common(base),
        "recordings": [_recording(key, *group) for key, group in groups.items()],
        "frames": total.frames,
        "bad_frames": total.bad_frames,
        "facts": facts,
        "sha256": digest,
        "notes": total.notes,
        "worst": _write_worst(out, units, results, work, shifts),
        "timing": _timing(results, latency, run),
    }
    with written_whole(out / SUMMARY) as file:
        file.write((json.dumps(summary, indent=1) + "\n").encode())
    return summary


def _facts(units: Sequence[Unit], results: Sequence[UnitResult]) -> dict[str, Any]:
    """Return what made the results, and nothing that differs between two runs of the same."""
    known: dict[str, Any] = {}
    for result in results:
        known = {**result.facts, **known}
    return {
        **known,
        "settings": units[0].settings if units else {},
        "inputs": list(dict.fromkeys(unit.recording.name for unit in units)),
        "versions": library_versions(),
    }


def _index_shifts(units: Sequence[Unit], results: Sequence[UnitResult]) -> list[int]:
    """Return what makes the units' own frame numbers those of the recording."""
    ended: dict[str, int] = {}
    shifts = []
    for unit, result in zip(units, results, strict=True):
        first, last = result.indices
        begin = ended.get(unit.recording.name, first)
        shifts.append(begin - first)
        ended[unit.recording.name] = begin + last - first + 1
    return shifts


def _write_frames(path: Path, facts: dict[str, Any], units: Sequence[Unit], work: Path, shifts: Sequence[int]) -> str:
    """Join the units' rows behind a first line; return the hash of them all."""
    digest = hashlib.sha256()
    with written_whole(path) as file:
        head = {"kind": "run", "format": FORMAT, "facts": facts}
        file.write((json.dumps(head, separators=(",", ":")) + "\n").encode())
        for line in _lines(units, work, "rows.jsonl", shifts):
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


def _write_timing(path: Path, units: Sequence[Unit], work: Path, shifts: Sequence[int]) -> dict[str, Distribution]:
    stages: dict[str, Distribution] = {}
    with written_whole(path) as file:
        for line in _lines(units, work, "timing.jsonl", shifts):
            file.write(line)
            values = json.loads(line)
            for stage, ms in {**values["stage_ms"], "decode": values["decode_ms"]}.items():
                stages.setdefault(stage, Distribution()).push(round(ms * 1e6))
    return stages


def _lines(units: Sequence[Unit], work: Path, name: str, shifts: Sequence[int]) -> Iterator[bytes]:
    for unit, shift in zip(units, shifts, strict=True):
        path = unit_folder(unit, work) / name
        if not path.is_file() or not (path.parent / DONE).is_file():  # what failed has no scores either
            continue
        with path.open("rb") as file:
            yield from (_shifted(line, shift) for line in file) if shift else file


def _shifted(line: bytes, shift: int) -> bytes:
    values = json.loads(line)
    if "index" in values:
        values["index"] += shift
    return (json.dumps(values, separators=(",", ":")) + "\n").encode()


def _by_recording(units: Sequence[Unit], results: Sequence[UnitResult]) -> dict[str, tuple[Scores, list[UnitResult]]]:
    groups: dict[str, tuple[Scores, list[UnitResult]]] = {}
    for unit, result in zip(units, results, strict=True):
        scores, parts = groups.get(unit.recording.name, (Scores(), []))
        groups[unit.recording.name] = scores + result.scores, [*parts, result]
    return groups


def _metrics(total: Scores, base: Protocol, recordings: Sequence[Scores]) -> dict[str, Any]:
    metrics = {}
    for name, figure in total.figures.items():
        parts = [scores.figures[name] for scores in recordings if name in scores.figures]
        metrics[name] = {**figure.to_dict(), "interval": _interval(parts)}
    if total.tracking is not None:
        for name, value in total.tracking.scores().items():
            if name not in metrics and (base.fps or name in OF_SINGLE_IMAGES):
                metrics[name] = _plain(value, replace(base, fps=0.0).of(name, similarity="1 - pelvis distance / 1 m"))
    if total.lag is not None and np.isfinite(total.lag.lag_ms):
        metrics["lag_ms"] = _plain(total.lag.lag_ms, base.of("lag_ms"))
    return metrics


def _interval(figures: Sequence[Figure]) -> list[float] | None:
    """Over recordings; one recording says nothing of the next."""
    if len(figures) < 2:
        return None
    found = interval(figures, over="recordings")
    return [found.low, found.high] if np.isfinite([found.low, found.high]).all() else None


def _plain(value: float, protocol: Protocol) -> dict[str, Any]:
    """Return a score that is no mean of values in the form of a figure."""
    return {
        "value": None if np.isnan(value) else value, "coverage": None, "interval": None, "protocol": protocol.to_dict()
    }  # fmt: skip


def _common(protocol: Protocol) -> dict[str, Any]:
    return replace(protocol, metric="", unit="", alignment="", aggregation="", details=()).to_dict()


def _recording(name: str, scores: Scores, parts: Sequence[UnitResult]) -> dict[str, Any]:
    stamps = [stamp for part in parts for stamp in (part.first_ns, part.last_ns) if stamp is not None]
    diagnosis: dict[str, Any] = {}
    for part in parts:
        for key, value in part.problems.items():
            counts = isinstance(value, int) and not isinstance(value, bool)
            diagnosis[key] = diagnosis.get(key, 0) + value if counts else value
    metrics = {
        metric: {"value": figure.to_dict()["value"], "coverage": figure.coverage, "count": figure.count}
        for metric, figure in scores.figures.items()
        if figure.annotated
    }
    return {
        "name": name, "frames": scores.frames, "bad_frames": scores.bad_frames,
        "duration_s": round((max(stamps) - min(stamps)) * 1e-9, 3) if stamps else 0.0, "metrics": metrics,
        "diagnosis": diagnosis, "error": "; ".join(dict.fromkeys(part.error for part in parts if part.error)),
    }  # fmt: skip


def _write_worst(
    out: Path, units: Sequence[Unit], results: Sequence[UnitResult], work: Path, shifts: Sequence[int]
) -> list[dict[str, Any]]:
    """Choose the worst of all units and copy their pictures."""
    most = max((unit.worst for unit in units), default=0)
    found = [
        ({**facts, "index": facts["index"] + shift}, unit)
        for unit, result, shift in zip(units, results, shifts, strict=True)
        for facts in result.worst
    ]
    found.sort(key=lambda pair: -pair[0]["value"])
    folder = out / "worst"
    for old in folder.glob("[0-9]*.jpg"):
        old.unlink()
    kept = []
    for number, (facts, unit) in enumerate(found[:most], 1):
        folder.mkdir(exist_ok=True)
        picture = f"worst/{number:02}.jpg"
        shutil.copyfile(unit_folder(unit, work) / facts["picture"], out / picture)
        kept.append({**facts, "picture": picture})
    return kept


def _timing(results: Sequence[UnitResult], stages: dict[str, Distribution], run: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(name for result in results for name in result.seconds)
    seconds = {name: sum(result.seconds.get(name, 0) for result in results) for name in names}
    busy = sum(seconds.values())
    frames = stages["total"].count if "total" in stages else 0
    edges, counts = stages["total"].histogram(BIN_MS) if frames else ([], [])
    return {
        **run,
        "frames_per_s": round(run["frames_done"] / run["wall_s"], 2) if run["frames_done"] else None,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "share": {name: round(value / busy, 4) for name, value in seconds.items()} if busy else {},
        "stages_ms": {
            name: {key.removesuffix("_ms"): round(value, 3) for key, value in spread.summary().items()}
            for name, spread in stages.items()
        },
        "histogram": {"edges_ms": edges, "counts": counts},
    }
