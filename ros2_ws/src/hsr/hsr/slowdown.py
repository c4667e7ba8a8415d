"""Whether the perception node becomes slower while the refiner works."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

TOLERATED = 1.2
LEAST_FRAMES = 20
IDLE_FRAMES, BUSY_FRAMES = 300, 60


class Slowdown:
    """Compares what a frame costs the perception node while the refiner works and while it waits; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle_ms: deque[float] = deque(maxlen=IDLE_FRAMES)
        self._busy_ms: deque[float] = deque(maxlen=BUSY_FRAMES)

    def add(self, frame_ms: float, busy: bool) -> None:
        """Take a frame's time; NaN is left out."""
        if np.isfinite(frame_ms):
            with self._lock:
                (self._busy_ms if busy else self._idle_ms).append(frame_ms)

    @property
    def ratio(self) -> float:
        """Median time of a frame while the refiner works over that while it waits; NaN until both are known."""
        with self._lock:
            groups = [list(self._busy_ms), list(self._idle_ms)]
        if min(map(len, groups)) < LEAST_FRAMES:
            return float("nan")
        busy, idle = map(np.median, groups)
        return float(busy / idle)

    @property
    def slow(self) -> bool:
        """True when it is over a fifth slower."""
        return self.ratio > TOLERATED
