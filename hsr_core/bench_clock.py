"""Times of repeated work, for the benches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


class Stopwatch:
    """Times of repeated work: by the wall clock, and of this thread's processor, which other programs disturb less."""

    def __init__(self, unit_s: float) -> None:
        self.unit_s, self.wall, self.cpu = unit_s, [], []

    def time(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do the work and return its answer."""
        wall, cpu = time.perf_counter(), time.thread_time()
        answer = work(*args)
        self.cpu.append((time.thread_time() - cpu) / self.unit_s)
        self.wall.append((time.perf_counter() - wall) / self.unit_s)
        return answer

    def drop(self) -> None:
        """Forget the last measurement."""
        self.wall.pop()
        self.cpu.pop()

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Return p50, p99 and the largest, of both clocks."""
        return {"wall": percentiles(self.wall), "cpu": percentiles(self.cpu)}


def percentiles(values: list[float]) -> dict[str, float]:
    """Return p50, p99 and the largest."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(values), 3)}
