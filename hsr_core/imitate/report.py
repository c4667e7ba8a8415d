"""What an imitation's report says, as JSON and as a table."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..export.motion import WORLDS, Motion
from ..export.spool import Recorded, Track
from ..retarget.gate import Reason
from ..retarget.mapping import sha256_of
from ..retarget.robot import Robot
from .pieces import Piece

FORMAT = "hsr-imitate/1"
REPORT = "report.json"
_PACKAGES = ("numpy", "torch", "mediapipe", "pin", "pin-pink", "daqp", "av", "pyarrow")
_LICENCE = "unknown: see the terms of the body model"


def head_facts(recorded: Recorded, robot: Robot, tracks: Sequence[Track], fps: int, refine: bool) -> dict[str, Any]:
    """Return what holds for the whole recording."""
    facts = recorded.facts
    return {
        "format": FORMAT,
        "source": facts.source,
        "source_sha256": facts.source_sha256,
        "damage": facts.damage,
        "licence_note": facts.licence_note or _LICENCE,
        "versions": {"hsr": __version__, "python": platform.python_version(), **_versions()},
        "regressor": facts.regressor,
        "body_model": facts.body_model,
        "refine": refine,
        "robot": {
            "name": robot.mapping.name,
            "mode": robot.mapping.mode,
            "joints": len(robot.joint_names),
            "urdf_sha256": sha256_of(robot.urdf),
        },
        "fps": fps,
        "frames": len(recorded.stamps),
        "people": {str(track): frames for track, frames in recorded.people().items()},
        "followed": [track.track_id for track in tracks],
        "left_out_rows": {name: count for name, count in recorded.counts.items() if count},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def episode_facts(
    index: int, piece: Piece, motion: Motion, figures: Mapping[str, Any], refined: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what holds for one episode."""
    track, reasons = piece.track, piece.reasons
    dropped = [(track.first + i, reason.value) for i, reason in enumerate(reasons) if reason not in (None, Reason.OK)]
    return {
        "episode": index,
        "person": track.track_id,
        "first_frame": track.first,
        "first_stamp_ns": int(track.stamps[0]),
        "seconds": round(piece.duration_s, 3),
        "frames": len(track),
        "frames_valid": int(motion.valid.sum()),
        "frames_not_seen": reasons.count(None),
        "gated": piece.gated,
        "gated_frames": dropped,
        "smoothing": motion.smoothing,
        "world": "level" if motion.assumes_world else "recorded",
        **({"refined": dict(refined)} if refined else {}),
        **figures,
    }


def verdict(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures that decide: limits that were left, and the longest slide of a foot that was held."""
    limits = [episode["limits"] for episode in episodes]
    slides = [episode.get("feet", {}).get("slide_max_mm") for episode in episodes]
    known = [slide for slide in slides if slide is not None]
    return {
        "limits_violated": sum(entry["position_violations"] + entry["speed_violations"] for entry in limits),
        "slide_most_mm": max(known) if known else None,
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.md."""
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.md").write_text(as_text(report) + "\n")


def as_text(report: Mapping[str, Any]) -> str:
    """Return the report as a title, a table with a column an episode, and what a reader must know."""
    episodes, robot = report["episodes"], report["robot"]
    rows = [("", *(f"episode {episode['episode']}" for episode in episodes))]
    rows += [(name, *(cell(episode) for episode in episodes)) for name, cell in _ROWS]
    rows = [row for row in rows if any(row[1:])]
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, width, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
    title = f"{report['source']} imitated by {robot['name']} ({robot['mode']}, {robot['joints']} joints)"
    return "\n".join([title, "", *lines, "", *_notes(report)])


_ROWS = (
    ("person", lambda e: str(e["person"])),
    ("time", lambda e: f"{e['seconds']:.2f} s from frame {e['first_frame']}"),
    ("frames, valid", lambda e: f"{e['frames']}, {e['frames_valid']}"),
    ("not seen", lambda e: str(e["frames_not_seen"])),
    ("dropped by the gate", lambda e: _counts(e["gated"])),
    ("refined", lambda e: _refined(e.get("refined"))),
    ("position limits violated", lambda e: str(e["limits"]["position_violations"])),
    ("speed limits violated", lambda e: str(e["limits"]["speed_violations"])),
    ("largest speed over its limit", lambda e: f"{e['limits']['speed_most']:.3f}"),
    ("nearest parts of the robot", lambda e: _mm(e["closest_parts_mm"])),
    ("wrists from the wish, RMS, p95", lambda e: ", ".join(_mm(e["wrist_error_mm"][key]) for key in ("rms", "p95"))),
    ("stances held", lambda e: str(e["feet"]["stances"]) if "feet" in e else ""),
    ("foot slide, median, most", lambda e: _slides(e.get("feet"))),
    ("person's arm, leg", lambda e: _limbs(e["person_m"])),
)  # fmt: skip


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "0"


def _mm(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g} mm"


def _slides(feet: Mapping[str, Any] | None) -> str:
    if not feet:
        return ""
    return f"{_mm(feet['slide_median_mm'])}, {_mm(feet['slide_max_mm'])}" if feet["stances"] else "no stance"


def _refined(refined: Mapping[str, Any] | None) -> str:
    return f"{refined['windows_taken']} of {refined['windows']} windows" if refined else ""


def _limbs(lengths: Mapping[str, float | None]) -> str:
    """Return arm and leg as means of both sides."""
    parts = []
    for segments in (("shoulder to {}elbow", "elbow to {}wrist"), ("hip to {}knee", "knee to {}ankle")):
        known = [
            lengths.get(f"{side}_{segment.format(f'{side}_')}") for segment in segments for side in ("left", "right")
        ]
        parts.append(f"{sum(known) / 2:.2f} m" if known and None not in known else "unknown")
    return ", ".join(parts)


def _notes(report: Mapping[str, Any]) -> list[str]:
    lines = []
    if any(episode["world"] == "level" for episode in report["episodes"]):
        lines.append(f"world: {WORLDS['level']}")
    others = {who: n for who, n in report["people"].items() if int(who) not in report["followed"]}
    if others:
        lines.append(
            "also there, not followed: " + ", ".join(f"person {who} ({n} frames)" for who, n in others.items())
        )
    for left in report["left_out"]:
        lines.append(
            f"left out of person {left['person']}: {len(left['pieces_s'])} short pieces, {left['frames']} frames"
        )
    if report["damage"]:
        lines.append(f"damage: {report['damage']}")
    lines.append(f"data set: {report['fps']} frames a second; no measured state: the robot was not there")
    lines.append("time: " + ", ".join(f"{stage} {seconds:g} s" for stage, seconds in report["seconds"].items()))
    lines.append(f"licence: {report['licence_note']}")
    return [f"- {line}" for line in lines]
