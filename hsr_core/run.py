"""Process a whole source: people to a file, an overlay video, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadFrame, ConfigError
from .paths import is_same_file
from .results import PeopleRecorder
from .sources.base import Source
from .stream import HumanStream
from .types import Frame, FrameResult, TrackState


@dataclass
class Timing:
    """Durations of every frame by stage [ms]."""

    stages: dict[str, list[float]] = field(default_factory=dict)

    def add(self, stage: str, duration_ms: float) -> None:
        self.stages.setdefault(stage, []).append(duration_ms)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Return p50, p99 and max of each stage [ms]."""
        return {stage: _percentiles(values) for stage, values in self.stages.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(values), 2)}


@dataclass
class RunSummary:
    """What a run did.

    Attributes:
        frames, detected: Processed, and with at least one person seen in them.
        bad_frames: Refused by the regressor and skipped.
        skipped, truncated: The source's own account.
        interrupted: The user stopped it.
        work_s: Time spent on reading and processing, without drawing and encoding the overlay.
        timing: Per stage; `latency` is from the decoded image to skeleton and mesh.
        counters: The stream's.
    """

    frames: int = 0
    detected: int = 0
    bad_frames: int = 0
    skipped: int = 0
    truncated: bool = False
    interrupted: bool = False
    work_s: float = 0.0
    timing: Timing = field(default_factory=Timing)
    counters: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-able values."""
        stages = self.timing.percentiles()
        latency = stages.pop("latency", {"p50": None, "p99": None, "max": None})
        return {
            "frames": self.frames,
            "detected": self.detected,
            "fps": round(self.frames / self.work_s, 2) if self.work_s else 0.0,
            "latency_ms": {**latency, "stages": stages},
            "bad_frames": self.bad_frames,
            "skipped": self.skipped,
            "truncated": self.truncated,
            "interrupted": self.interrupted,
            "counters": self.counters,
        }


def run(
    source: Source,
    stream: HumanStream,
    *,
    out: Path | None = None,
    overlay: Path | None = None,
    max_frames: int | None = None,
    on_frame: Callable[[Frame, FrameResult], None] | None = None,
) -> RunSummary:
    """Process a source to its end, or to `max_frames`.

    Whatever ends it early, what was processed is written; Ctrl-C ends it with a summary, an error is raised again.

    Args:
        source, stream: Opened; the caller closes them.
        out: People file to write.
        overlay: Video to write.
        on_frame: Called after each frame.

    Raises:
        ConfigError: An output cannot be as it is named; see `check_outputs`.
    """
    check_outputs(source.name, out=out, overlay=overlay)
    summary = RunSummary()
    recorder = PeopleRecorder(out, stream.settings, _facts(source, stream)) if out else None
    with ExitStack() as stack:
        draw = _overlay(stack, overlay, source, stream) if overlay else None
        complete = False
        try:
            for frame in _timed_frames(source, summary):
                result = _process(frame, stream, summary)
                if result is None:
                    continue
                if recorder is not None:
                    recorder.add(result)
                if draw:
                    draw(frame, result)
                if on_frame:
                    on_frame(frame, result)
                if summary.frames == max_frames:
                    break
            complete = True
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            summary.skipped, summary.truncated = source.skipped, source.truncated
            summary.counters = asdict(stream.counters)
            if recorder is not None:
                recorder.save(complete=complete and not source.truncated)
    return summary


def check_outputs(source: str, *, out: Path | None, overlay: Path | None) -> None:
    """Refuse names of outputs before anything is loaded.

    Raises:
        ConfigError: `out` is no .npz or `overlay` no .mp4, its folder does not exist, or it is the source.
    """
    for path, suffix in ((out, ".npz"), (overlay, ".mp4")):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise ConfigError(f"the name must end in {suffix}: {path}")
        if not path.parent.is_dir():
            raise ConfigError(f"no folder {path.parent} to write {path.name} to")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder")
        if is_same_file(path, source):
            raise ConfigError(f"{path} is the source: it would be overwritten")


def _timed_frames(source: Source, summary: RunSummary) -> Iterator[Frame]:
    frames = iter(source)
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        duration = time.perf_counter() - start
        summary.work_s += duration
        summary.timing.add("decode", duration * 1e3)
        yield frame


def _process(frame: Frame, stream: HumanStream, summary: RunSummary) -> FrameResult | None:
    start = time.perf_counter()
    try:
        result = stream.process(frame)
    except BadFrame:
        summary.bad_frames += 1
        return None
    posed = time.perf_counter()
    if stream.settings.mesh.enabled:
        for person in result.people:
            stream.mesh(person)
    end = time.perf_counter()
    for stage, duration_ms in result.stage_ms.items():
        summary.timing.add(stage, duration_ms)
    summary.timing.add("mesh", (end - posed) * 1e3)
    summary.timing.add("latency", (end - start) * 1e3)
    summary.work_s += end - start
    summary.frames += 1
    summary.detected += any(person.state in (TrackState.NEW, TrackState.TRACKED) for person in result.people)
    return result


def _overlay(stack: ExitStack, path: Path, source: Source, stream: HumanStream) -> Callable[[Frame, FrameResult], None]:
    from .viz.overlay import draw_overlay
    from .viz.video import VideoWriter

    writer = stack.enter_context(VideoWriter(path, source.fps))
    scale = stream.settings.overlay.scale

    def draw(frame: Frame, result: FrameResult) -> None:
        mesh_of = stream.mesh if stream.settings.mesh.enabled else None
        writer.write(draw_overlay(frame, result, mesh_of, stream.body.faces, scale=scale), frame.stamp_ns)

    return draw


def _facts(source: Source, stream: HumanStream) -> dict[str, Any]:
    return {
        "source": Path(source.name).name,
        "fps": source.fps,
        "regressor": stream.regressor.name,
        "body_model": stream.body.model_id,
        "body_family": stream.body.family,
        "licence_note": stream.body.licence_note,
    }
