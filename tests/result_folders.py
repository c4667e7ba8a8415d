"""Folders as `hsr eval` leaves them, with values made up by a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hsr_core.eval.figure import Figure
from hsr_core.eval.protocol import Protocol

START_NS = 1_700_000_000_000_000_000
BASE = Protocol("limb-12", dataset="clips", split="test", pelvis="midpoint-of-hips", fps=30.0)

Frame = dict[str, Any]


def person(ref: int | None, values: dict[str, float], *, track: int = 1, primary: bool = True) -> dict[str, Any]:
    return {"track": track, "ref": ref, "score": 0.9, "primary": primary, "state": "TRACKED",
            "pelvis": [0.0, 0.0, 3.0], "values": values}  # fmt: skip


def frame(
    recording: str, index: int, people: Sequence[dict], missed: Sequence[int] = (), *, stamp_ns: int | None = None
) -> Frame:
    stamp_ns = START_NS + round(index * 1e9 / 30) if stamp_ns is None else stamp_ns
    return {"kind": "frame", "recording": recording, "index": index, "stamp_ns": stamp_ns,
            "people": list(people), "missed": list(missed)}  # fmt: skip


def frames_of(
    recording: str, count: int, value: Callable[[int], float | None], *, metric: str = "pa_mpjpe_mm"
) -> list[Frame]:
    """Return frames with one person; where `value` is None the person is missed."""
    rows = []
    for index in range(count):
        found = value(index)
        people = [] if found is None else [person(0, {metric: float(found), "mpjpe_mm": 1.5 * float(found)})]
        rows.append(frame(recording, index, people, [0] if found is None else []))
    return rows


def write_folder(
    folder: Path,
    frames: Sequence[Frame],
    *,
    protocol: Protocol = BASE,
    facts: dict[str, Any] | None = None,
    extra_metrics: dict[str, Figure] | None = None,
    **summary: Any,
) -> Path:
    """Write summary.json, result.jsonl and timing.jsonl that belong together."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {"kind": "run", "format": "hsr-eval/1", "facts": facts or {}}
    lines = [json.dumps(row, separators=(",", ":")) for row in (run, *frames)]
    (folder / "result.jsonl").write_text("\n".join(lines) + "\n")
    rng = np.random.default_rng(0)
    scored = [row for row in frames if row["kind"] == "frame"]
    totals = 12 + rng.gamma(2.0, 2.0, len(scored))
    timing = [
        {"recording": row["recording"], "index": row["index"],
         "stage_ms": {"regress": round(0.8 * total, 3), "total": round(total, 3)}, "decode_ms": 2.0}
        for row, total in zip(scored, totals.tolist(), strict=True)
    ]  # fmt: skip
    (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in timing))
    names = list(dict.fromkeys(row["recording"] for row in frames))
    figures = _figures(scored, protocol) | (extra_metrics or {})
    document = {
        "format": "hsr-eval/1",
        "name": folder.name,
        "mode": "offline",
        "metrics": {name: {**figure.to_dict(), "interval": None} for name, figure in figures.items()},
        "protocol": protocol.to_dict(),
        "recordings": [_recording(name, [r for r in scored if r["recording"] == name], protocol) for name in names],
        "timing": {
            "wall_s": 12.5,
            "frames_per_s": 72.0,
            "workers": 2,
            "share": {"decode": 0.06, "process": 0.9, "metrics": 0.03, "write": 0.01},
            "stages_ms": {"total": _quantiles(totals), "regress": _quantiles(0.8 * totals)} if len(totals) else {},
            "histogram": _histogram(totals),
        },
        "facts": facts or {},
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "notes": [],
        "worst": [],
    }
    (folder / "summary.json").write_text(json.dumps(document | summary))
    return folder


def picture(path: Path, text: str = "", size: tuple[int, int] = (320, 240)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    cv2.putText(image, text, (20, size[1] // 2), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    cv2.circle(image, (size[0] - 60, 60), 40, (60, 160, 250), -1)
    cv2.imwrite(str(path), image)
    return path


def _figures(frames: Sequence[Frame], protocol: Protocol) -> dict[str, Figure]:
    values: dict[str, list[float]] = {}
    for row in frames:
        for someone in row["people"]:
            for name, value in someone["values"].items():
                values.setdefault(name, []).append(value)
    annotated = sum(len(row["missed"]) + sum(someone["ref"] is not None for someone in row["people"]) for row in frames)
    return {name: Figure.of(np.array(found), protocol.of(name), annotated=annotated) for name, found in values.items()}


def _recording(name: str, frames: Sequence[Frame], protocol: Protocol) -> dict[str, Any]:
    stamps = [row["stamp_ns"] for row in frames] or [0]
    keys = ("value", "coverage", "count")
    figures = {metric: figure.to_dict() for metric, figure in _figures(frames, protocol).items()}
    return {
        "name": name,
        "frames": len(frames),
        "duration_s": (stamps[-1] - stamps[0]) * 1e-9,
        "metrics": {metric: {key: figure[key] for key in keys} for metric, figure in figures.items()},
        "diagnosis": {"truncated": False, "duplicate_stamps": 0},
        "error": "",
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99]).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "max": float(values.max())}


def _histogram(values: np.ndarray) -> dict[str, list]:
    counts, edges = np.histogram(values, bins=30, range=(0.0, float(values.max()) if len(values) else 1.0))
    return {"edges_ms": edges.tolist(), "counts": counts.tolist()}
