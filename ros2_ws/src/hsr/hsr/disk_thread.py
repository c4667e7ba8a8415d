"""A thread that writes what it is given; who gives it never waits for the disk."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from hsr_core.errors import HsrError


class DiskThread:
    """Runs jobs in order, and `flush` at least every `flush_s` seconds.

    Args:
        flush: Brings to the disk what was written.
        close: Is run at the end.
        flush_s: Longest time that something written is only in memory.
        queue_bytes: Jobs that wait for a slow disk; beyond that they are dropped and counted.
        on_error: Called when an exception of a job, of `flush` or of `close` has ended everything.
        nice: Of the thread. Not beside a thread that must be in time: the interpreter's lock is held by one thread at a
            time, and who waits for a nice one waits for everything else that the machine does.

    Attributes:
        dropped: Jobs by name for which there was no room, or no thread any more.
        error: Why writing ended before its time; "" = it did not.
    """

    def __init__(
        self,
        flush: Callable[[], None],
        close: Callable[[], None],
        flush_s: float,
        queue_bytes: int,
        on_error: Callable[[], None] = lambda: None,
        nice: int = 0,
    ) -> None:
        self._flush, self._close, self._flush_s, self._room = flush, close, flush_s, queue_bytes
        self._size, self._nice = queue_bytes, nice
        self.dropped: Counter[str] = Counter()
        self.error = ""
        self._on_error = on_error
        self._waiting: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        self._changed = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """What waits."""
        return self._size - self._room

    def submit(self, name: str, size: int, job: Callable[..., None], *args: Any) -> bool:
        """Take a job; returns at once, from any thread. False = it was dropped.

        Args:
            name: To count it by when it is dropped.
            size: Bytes that it holds.
            job, args: What is run.
        """
        with self._changed:
            if size > self._room or not self._running:
                self.dropped[name] += 1
                return False
            self._room -= size
            self._waiting.append((size, job, args))
            self._changed.notify()
        return True

    def close(self, patience_s: float = 30.0) -> None:
        """Run what waits, then `close`."""
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self.error = f"the disk did not take the rest within {patience_s:g} s"

    def _run(self) -> None:
        os.nice(self._nice)  # of this thread
        try:
            self._run_all()
            self._close()
        except Exception as error:  # whatever it is: nothing more is written, which must not go unnoticed
            self.error = str(error) if isinstance(error, HsrError) else f"{type(error).__name__}: {error}"
            with self._changed:
                self._running = False
            self._on_error()

    def _run_all(self) -> None:
        flush_s = time.monotonic() + self._flush_s
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._running, max(0.0, flush_s - time.monotonic()))
                if not self._waiting and not self._running:
                    return
                batch = list(self._waiting)
                self._waiting.clear()
            for size, job, args in batch:
                job(*args)
                with self._changed:
                    self._room += size
            if time.monotonic() >= flush_s:
                self._flush()
                flush_s = time.monotonic() + self._flush_s
