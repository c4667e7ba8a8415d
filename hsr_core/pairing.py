"""Find what belongs to an image by its stamp, without waiting for it, or only while it is about to come."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")
KEPT = 4
"""At 30 Hz the last 0.13 s: what belongs to an image comes at most so much before it."""
_RESTART_NS = 1_000_000_000
"""A stamp this much older than the newest is a clock set back (a bag that starts over), not a late message."""


_FORECAST_ITEMS = 8
_MISSED = 2
"""A stream that has missed more items in a row has stopped."""
_SLACK_S = 0.008
"""What a busy computer delays items by, beyond the forecast."""


class StampRing(Generic[T]):
    """The last few items of one stream by stamp. One thread may put while another asks."""

    def __init__(self, kept: int = KEPT) -> None:
        self._items: deque[tuple[int, T]] = deque()
        self._kept = kept
        self._held_ns: int | None = None
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=_FORECAST_ITEMS)
        self._lock = threading.Condition()

    def put(self, stamp_ns: int, item: T) -> None:
        """Keep an item; the oldest is dropped. After a jump back in time everything before is."""
        with self._lock:
            if self._items and stamp_ns < self._items[-1][0] - _RESTART_NS:
                self._items.clear()
                self._arrivals.clear()
            self._items.append((stamp_ns, item))
            if len(self._items) > self._kept:
                self._drop_one()
            self._arrivals.append((stamp_ns, time.monotonic()))
            self._lock.notify_all()

    def hold(self, stamp_ns: int) -> None:
        """Keep what is nearest to a stamp until the next call, however much comes after it: its image is in work."""
        with self._lock:
            self._held_ns = stamp_ns

    def nearest(self, stamp_ns: int, max_offset_s: float, max_wait_s: float = 0.0) -> tuple[int, T] | None:
        """Return (stamp, item) nearest in time, or None when none is within `max_offset_s`.

        Args:
            stamp_ns: Wanted.
            max_offset_s: Largest distance of the stamps.
            max_wait_s: Wait at most so long, and only for an item that the stream, going on as it did, is about to
                bring: a stream that has stopped, is slower or comes later than that is not waited for.
        """
        with self._lock:
            found = self._nearest(stamp_ns, max_offset_s)
            if found is None and max_wait_s > 0:
                due_s = self._due_s(stamp_ns, max_offset_s)
                if -_SLACK_S < due_s <= max_wait_s:
                    limit_s = min(due_s + _SLACK_S, max_wait_s)
                    self._lock.wait_for(lambda: self._nearest(stamp_ns, max_offset_s) is not None, limit_s)
                    found = self._nearest(stamp_ns, max_offset_s)
        return found

    def _drop_one(self) -> None:
        """Drop the oldest item, or the next one where that is held."""
        held = self._held_ns is not None and self._nearest(self._held_ns, float("inf")) is self._items[0]
        del self._items[int(held)]

    def _nearest(self, stamp_ns: int, max_offset_s: float) -> tuple[int, T] | None:
        found = min(self._items, key=lambda entry: abs(entry[0] - stamp_ns), default=None)
        return None if found is None or abs(found[0] - stamp_ns) > max_offset_s * 1e9 else found

    def _due_s(self, stamp_ns: int, max_offset_s: float) -> float:
        """Return in how long the item of a stamp should come; minus infinity: none is expected."""
        none = -float("inf")
        if len(self._arrivals) < _FORECAST_ITEMS:
            return none
        stamps = np.array([stamp for stamp, _ in self._arrivals])
        period_ns = float(np.median(np.diff(stamps)))
        if period_ns <= 0:
            return none
        ahead = round((stamp_ns - stamps[-1]) / period_ns)
        expected_ns = stamps[-1] + ahead * period_ns
        if not 1 <= ahead <= _MISSED or abs(expected_ns - stamp_ns) > max_offset_s * 1e9:
            return none
        newest_s = float(np.median([now - (stamp - stamps[-1]) * 1e-9 for stamp, now in self._arrivals]))
        return newest_s + ahead * period_ns * 1e-9 - time.monotonic()

    def newest_ns(self) -> int | None:
        """Return the newest stamp, or None when nothing has come."""
        with self._lock:
            return max((stamp for stamp, _ in self._items), default=None)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self._arrivals.clear()
