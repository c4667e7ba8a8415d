"""Counters, rates and percentiles of a stream of frames; small and safe to read from another thread."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque

import numpy as np


class Counters:
    """Named counts since start. Drops say why a received frame was not processed."""

    FRAME = ("received", "processed", "dropped_busy", "dropped_stale", "dropped_bad", "dropped_gap")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._counts: Counter[str] = Counter(dict.fromkeys(self.FRAME, 0))

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._counts[name] += n

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """Return all counts as they are now."""
        with self._lock:
            return dict(self._counts)


class Window:
    """The newest `size` values, for percentiles."""

    def __init__(self, size: int = 300) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        self._values.append(value)

    def clear(self) -> None:
        self._values.clear()

    def __len__(self) -> int:
        return len(self._values)

    def percentiles(self, *wanted: float, newest: int | None = None) -> tuple[float, ...]:
        """Return the wanted percentiles (0..100), of so many of the newest values if said; NaN while empty."""
        values = list(self._values)
        values = values if newest is None else values[max(0, len(values) - newest) :]
        if not values:
            return tuple(float("nan") for _ in wanted)
        return tuple(float(value) for value in np.percentile(values, wanted))


class Rate:
    """Events per second over the last `window_s` seconds of monotonic time."""

    def __init__(self, window_s: float = 3.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=2048)

    def tick(self, now_s: float | None = None) -> None:
        self._times.append(time.monotonic() if now_s is None else now_s)

    def hz(self, now_s: float | None = None) -> float:
        now_s = time.monotonic() if now_s is None else now_s
        recent = [t for t in list(self._times) if now_s - t <= self._window_s]
        if len(recent) < 2:
            return 0.0
        # Measured to now, so that a stream which stops is seen to slow down.
        return len(recent) / max(now_s - recent[0], 1e-6)


class RateLimit:
    """Lets at most `max_hz` events pass a second; what does not pass is dropped, never delayed.

    An event that comes a little early (a quarter of a period) passes, so that a 30 Hz stream with
    jitter is not halved by a limit of 30 Hz; the average stays at the limit.
    """

    def __init__(self, max_hz: float) -> None:
        self.max_hz = max_hz
        self._due_s = -float("inf")

    def passes(self, now_s: float | None = None) -> bool:
        if self.max_hz <= 0:
            return True
        now_s = time.monotonic() if now_s is None else now_s
        period = 1.0 / self.max_hz
        if now_s < self._due_s - 0.25 * period:
            return False
        self._due_s = max(self._due_s + period, now_s)
        return True
