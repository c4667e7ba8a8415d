"""How fast the stream runs on this machine, and whether its memory grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .config import Settings
from .errors import ConfigError
from .run import Timing
from .sources import open_source
from .stream import HumanStream
from .types import Frame, HumanParams

WARM_UP_FRAMES = 20
"""Frames that are not timed: caches fill, threads start."""
_LOOP_GAP_NS = 2_000_000_000
"""Pause between two rounds of the clip: the person is somewhere else, so tracks must end."""


def looped(source: str) -> Iterator[Frame]:
    """Yield a video file's frames for ever, with stamps that go on rising.

    Raises:
        ConfigError: Not a video file.
    """
    if not Path(source).is_file() and source != "clip":
        raise ConfigError(f"a loop needs a video file, not {source!r}")
    offset_ns = last_ns = index = 0
    with open_source(source) as video:
        while True:
            for frame in video:
                last_ns = frame.stamp_ns + offset_ns
                yield replace(frame, stamp_ns=last_ns, index=index)
                index += 1
            offset_ns = last_ns + _LOOP_GAP_NS
            video.rewind()


def measure_speed(
    settings: Settings, source: str = "clip", frames: int = 300, *, on_frame: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """Process `frames` frames of a looped recording and return what it took.

    Returns:
        JSON-able: `fps`; `latency_ms` (decoded image to skeleton and mesh) and `stages` with p50, p99, max;
        `overhead_ms`, the stream's own share beside regressor and body; `body_ms`, one skinned person; `body_ratio`,
        torch forward over the fast path; `rss_mb` at the end and `rss_growth_mb` over the frames after the first
        quarter.

    Raises:
        ConfigError: Fewer frames than the warm-up and a quarter allow.
    """
    if frames < 2 * WARM_UP_FRAMES:
        raise ConfigError(f"--frames must be at least {2 * WARM_UP_FRAMES}, not {frames}")
    timing, start_rss, work_s = Timing(), 0.0, 0.0
    with HumanStream(settings) as stream:
        for n, frame in enumerate(looped(source)):
            if n == frames:
                break
            start = time.perf_counter()
            result = stream.process(frame)
            skinned = [stream.mesh(person) for person in result.people if settings.mesh.enabled]
            duration = time.perf_counter() - start
            on_frame()
            if n >= WARM_UP_FRAMES:
                work_s += duration
                timing.add("latency", duration * 1e3)
                timing.add("overhead", result.stage_ms["place"] + result.stage_ms["smooth"])
                for stage, value in result.stage_ms.items():
                    timing.add(stage, value)
            if n == frames // 4:
                start_rss = resident_mb()
            del skinned
        growth = resident_mb() - start_rss
        body_ms, body_ratio = measure_body(stream.body)
        regressor, model_id = stream.regressor.name, stream.body.model_id
    stages = timing.percentiles()
    return {
        "frames": frames,
        "fps": round((frames - WARM_UP_FRAMES) / work_s, 2),
        "latency_ms": stages.pop("latency"),
        "overhead_ms": stages.pop("overhead"),
        "stages": stages,
        "body_ms": body_ms,
        "body_ratio": body_ratio,
        "rss_mb": round(resident_mb(), 1),
        "rss_growth_mb": round(growth, 1),
        "rss_growth_frames": frames - frames // 4 - 1,
        "regressor": regressor,
        "body_model": model_id,
        "source": Path(source).name,
        "cpus": len(os.sched_getaffinity(0)),
    }


def measure_body(body: Any, rounds: int = 60) -> tuple[dict[str, float], float]:
    """Return percentiles [ms] of one skinned person in a new pose each time, and torch's time over it."""
    import torch

    from .body.base import EhmParams

    rng = np.random.default_rng(0)
    people = [_random_person(body, rng) for _ in range(rounds)]
    fast, slow = Timing(), Timing()
    for person in people:
        start = time.perf_counter()
        body.pose_one(person)
        fast.add("body", (time.perf_counter() - start) * 1e3)
    with torch.inference_mode():
        for person in people[: rounds // 3]:
            start = time.perf_counter()
            body(EhmParams.from_human([person]))
            slow.add("body", (time.perf_counter() - start) * 1e3)
    numbers = fast.percentiles()["body"]
    return numbers, round(slow.percentiles()["body"]["p50"] / numbers["p50"], 2)


def _random_person(body: Any, rng: np.random.Generator) -> HumanParams:
    """A person whose pose, expression and jaw differ, of constant shape: what a stream sees."""
    return HumanParams(
        transl=np.array([0, 0, 3], np.float32),
        body_pose=rng.normal(0, 0.3, (21, 3)).astype(np.float32),
        left_hand_pose=rng.normal(0, 0.2, (15, 3)).astype(np.float32),
        right_hand_pose=rng.normal(0, 0.2, (15, 3)).astype(np.float32),
        jaw_pose=rng.normal(0, 0.05, 3).astype(np.float32),
        betas=np.zeros(body.n_betas, np.float32),
        expression=np.zeros(body.n_expression, np.float32),
        head_betas=np.zeros(body.n_head_betas, np.float32),
        head_expression=rng.normal(0, 0.3, body.n_head_expression).astype(np.float32),
    )


def resident_mb() -> float:
    """Return this process's resident memory [MB]."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
