"""/diagnostics of the perception node (REP-107), from plain snapshots of its parts."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from hsr_core import progress

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_LEVELS = (OK, WARN, ERROR)

OPTIONAL_PARTS = {
    "hri_msgs": "REP-155 topics under /humans",
    "tf2_msgs": "frames on /tf, and world_frame",
    "diagnostic_updater": "nothing: diagnostics are published without it",
    "cv_bridge": "nothing: encodings are converted without it",
}


@dataclass
class Status:
    """One status: starts OK, and only gets worse.

    Attributes:
        part: Name after `perception: `.
        values: Shown as keys and values.
    """

    part: str
    values: dict[str, object] = field(default_factory=dict)
    level: int = 0
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self._raise(0, text)

    def warn(self, text: str) -> None:
        self._raise(1, text)

    def error(self, text: str) -> None:
        self._raise(2, text)

    def _raise(self, level: int, text: str) -> None:
        self.level = max(self.level, level)
        self.texts.append(text)

    def to_msg(self, node_name: str, hardware_id: str) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=_LEVELS[self.level],
            name=f"{node_name}: {self.part}",
            message="; ".join(self.texts) or "ok",
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in self.values.items()],
        )


def node_label(name: str, namespace: str) -> str:
    """Return a node's name for its statuses: in full where its namespace is not the usual one, as with two cameras."""
    return name if namespace == "/human" else f"{namespace.strip('/')}/{name}".lstrip("/")


def to_msg(statuses: Iterable[Status], node_name: str, hardware_id: str, stamp) -> DiagnosticArray:
    message = DiagnosticArray(status=[status.to_msg(node_name, hardware_id) for status in statuses])
    message.header.stamp = stamp
    return message


def lifecycle_status(state: str, failure: str, step: tuple[str, int, int] | None, elapsed_s: float) -> Status:
    """Return the state, why the last transition failed, and while one is slow what it is doing.

    Args:
        step: Phase, done and total of a start-up (see `hsr_core.progress`); None when nothing starts or is known.
        elapsed_s: Since that start-up began.
    """
    status = Status("lifecycle", {"state": state})
    if step is not None:
        phase, done, total = step
        status.note(progress.as_text(phase, done, total))
        status.values |= {"phase": phase, "elapsed [s]": round(elapsed_s)}
        if total > 0:
            status.values["percent"] = progress.percent(done, total)
    elif state in ("unconfigured", "inactive") and not failure:
        status.note(f"{state}: no image is taken until the node is active")
    if failure:
        status.error(failure)
    return status


@dataclass(frozen=True)
class CameraView:
    """What the camera status is made of.

    Attributes:
        hint: What may be done when nothing arrives.
        rivals: Publishers of the topic but the first.
        drops: What became of the images since activation, by name.
        last_bad: Why an image of the last seconds could not be used.
    """

    topic: str
    rate_hz: float
    silent_s: float
    size: str
    encoding: str
    reliable: bool
    mixed: bool
    no_stamps: bool
    dropped_bad: int
    intrinsics_source: str
    camera_note: str
    publishers: str
    hint: str = ""
    rivals: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    last_bad: str = ""


def camera_status(view: CameraView) -> Status:
    status = Status(
        "camera",
        {
            "topic": view.topic,
            "rate_hz": round(view.rate_hz, 1),
            "size": view.size,
            "encoding": view.encoding,
            "reliability": "reliable" if view.reliable else "best effort",
            "dropped_bad": view.dropped_bad,
            "intrinsics_source": view.intrinsics_source,
            "publishers": view.publishers,
            "last_image_age [s]": view.silent_s,
            **view.drops,
        },
    )
    if view.silent_s > 1.0:
        text = f"no image for {view.silent_s:.0f} s on {view.topic}" + (f": {view.hint}" if view.hint else "")
        (status.error if view.silent_s > 5.0 else status.warn)(text)
    elif view.rate_hz < 5.0:
        status.warn(f"only {view.rate_hz:.1f} images per second")
    if view.camera_note:
        status.warn(view.camera_note)
    if view.last_bad:
        status.warn(f"images are dropped: {view.last_bad}")
    if view.rivals > 0:
        status.warn(f"{view.rivals + 1} nodes publish on {view.topic}: {view.publishers}")
    if view.mixed:
        status.warn("images of different cameras on one topic")
    if view.no_stamps:
        status.warn("no stamps: latency unknown")
    return status


def inference_status(
    regressor: str, device: str, engine: str, camera_hz: float, processed_hz: float,
    stage_ms: Mapping[str, tuple[float, float]], recent_error: str, errors: int, nan_people: int,
) -> Status:  # fmt: skip
    status = Status(
        "inference",
        {"regressor": regressor, "device": device, "rate_hz": round(processed_hz, 1), "errors": errors,
         "nan_people": nan_people},
    )  # fmt: skip
    if engine:
        status.values["engine"] = engine
    for name, (p50, p99) in stage_ms.items():
        if not math.isnan(p50):
            status.values[f"{name} p50/p99 [ms]"] = f"{p50:.1f}/{p99:.1f}"
    if recent_error:
        status.error(recent_error)
    if camera_hz > 0 and processed_hz < min(0.8 * camera_hz, 20.0):
        status.warn(f"{processed_hz:.1f} of {camera_hz:.1f} frames per second are processed")
    return status


@dataclass(frozen=True)
class MeshView:
    """What decides whether somebody sees a mesh."""

    enabled: bool
    every_n: int
    max_rate_hz: float
    frame_id: str
    listeners: Mapping[str, int]
    markers: int
    bad_meshes: int


def mesh_status(view: MeshView) -> Status:
    """Return why there is, or is not, a mesh on the topic."""
    status = Status(
        "mesh",
        {"mesh.enabled": view.enabled, "markers": view.markers, "bad_meshes": view.bad_meshes,
         "frame_id": view.frame_id, "marker.max_rate_hz": view.max_rate_hz, "mesh.every_n": view.every_n,
         **{f"listeners {name}": count for name, count in view.listeners.items()}},
    )  # fmt: skip
    if not view.enabled:
        status.warn("mesh.enabled is false: no mesh is made")
    elif not any(view.listeners.values()):
        status.note("nobody listens to mesh or mesh_compact: none is made")
    if view.frame_id:
        status.note(f"RViz needs a fixed frame that is tied to {view.frame_id!r}, or that frame itself")
    return status


def drops_text(before: Mapping[str, int], now: Mapping[str, int], max_age_s: float) -> str:
    """Return why no image that came between two counts was processed; "" when some were, or none came."""
    grown = {name: now[name] - before.get(name, 0) for name in now}
    if grown.get("received", 0) <= 0 or grown.get("processed", 0) > 0:
        return ""
    why = {
        "dropped_stale": f"stale: older than input.max_age_s ({max_age_s:g} s), not newer than the last, or paused",
        "dropped_bad": "bad: the log says which and why",
        "dropped_busy": "busy: pushed out by newer ones, or camera info is awaited",
    }
    reasons = [f"{grown[name]} {text}" for name, text in why.items() if grown.get(name, 0) > 0]
    return f"none of {grown['received']} images was processed: {'; '.join(reasons)}" if reasons else ""


def latency_status(p50: float, p99: float, largest: float, offset_s: float, other_clock: bool) -> Status:
    status = Status("latency", {"p50 [ms]": p50, "p99 [ms]": p99, "max [ms]": largest, "clock_offset [s]": offset_s})
    if other_clock:
        status.warn(f"stamps are {offset_s:.1f} s off this clock: latency unknown")
    elif p99 >= 400:
        status.error(f"p99 {p99:.0f} ms")
    elif p99 >= 150:
        status.warn(f"p99 {p99:.0f} ms")
    return status


def people_status(
    count: int, ids: list[str], primary: str, new_per_min: int, people_max: int, limits: Mapping[str, object],
    refused: Mapping[str, int],
) -> Status:  # fmt: skip
    """Return who is there.

    Args:
        limits: Settings that keep people out, by name.
        refused: People that were kept out since the last message, by the setting that did.
    """
    status = Status(
        "people",
        {"count": count, "ids": " ".join(ids), "primary": primary, "new_tracks_per_min": new_per_min, **limits},
    )
    if count == 0:
        status.note("nobody is seen")
    for name, number in refused.items():
        if number:
            status.values[f"below {name}"] = number
            (status.note if count else status.warn)(f"{number} times somebody below {name} ({limits[name]})")
    if count >= people_max > 1:
        status.warn(f"people.max ({people_max}) reached")
    return status


def transport_status(
    rmw: str, segment_bytes: int | None, note: str, active: bool, lost: int, marker_note: str
) -> Status:
    status = Status("transport", {"middleware": rmw, "segment": segment_bytes, "lost": lost})
    if not active and note:
        status.warn(note)
    if marker_note:
        status.warn(marker_note)
    return status


def optional_parts_status() -> Status:
    status = Status("optional parts")
    off = {name: use for name, use in OPTIONAL_PARTS.items() if importlib.util.find_spec(name) is None}
    for name in OPTIONAL_PARTS:
        status.values[name] = "off" if name in off else "there"
    for name, use in off.items():
        if not use.startswith("nothing"):
            status.warn(f"{name} is not installed: off are {use}")
    return status


def _text(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
