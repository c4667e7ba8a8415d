"""Find what belongs to an image by its stamp, without waiting for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
KEPT = 4
"""At 30 Hz the last 0.13 s: more than the work on one frame may be late."""
_RESTART_NS = 1_000_000_000
"""A stamp this much older than the newest is a clock set back (a bag that starts over), not a late message."""


class StampRing(Generic[T]):
    """The last few items of one stream by stamp. One thread may put while another asks."""

    def __init__(self, kept: int = KEPT) -> None:
        self._items: deque[tuple[int, T]] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def put(self, stamp_ns: int, item: T) -> None:
        """Keep an item; the oldest is dropped. After a jump back in time everything before is."""
        with self._lock:
            if self._items and stamp_ns < self._items[-1][0] - _RESTART_NS:
                self._items.clear()
            self._items.append((stamp_ns, item))

    def nearest(self, stamp_ns: int, max_offset_s: float) -> tuple[int, T] | None:
        """Return (stamp, item) nearest in time, or None when none is within `max_offset_s`."""
        with self._lock:
            found = min(self._items, key=lambda entry: abs(entry[0] - stamp_ns), default=None)
        if found is None or abs(found[0] - stamp_ns) > max_offset_s * 1e9:
            return None
        return found

    def newest_ns(self) -> int | None:
        """Return the newest stamp, or None when nothing has come."""
        with self._lock:
            return max((stamp for stamp, _ in self._items), default=None)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
