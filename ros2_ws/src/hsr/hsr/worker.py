"""The newest item always wins: a one-place slot and the thread that empties it.

No queue stands between camera and mesh, so the age of a result never exceeds one frame time plus one
work time. Requests (reset, new settings) are served by the same thread between two items, so the
handler needs no locks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class WorkerStopped(RuntimeError):
    """The worker was stopped before it could serve this request."""


class Worker(Generic[T]):
    """Runs `handle` on the newest offered item, in a thread of its own.

    Args:
        handle: Called with one item at a time.
        on_error: Called with whatever `handle` raises; the worker goes on.
        name: Name of the thread.
    """

    def __init__(self, handle: Callable[[T], None], on_error: Callable[[Exception], None], *, name: str) -> None:
        self._handle, self._on_error = handle, on_error
        self._changed = threading.Condition()
        self._item: T | None = None
        self._requests: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._running = True
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def free(self) -> bool:
        """True when an item offered now would be taken at once."""
        return self._running and not self._busy and self._item is None

    @property
    def wanted(self) -> bool:
        """True when the item in work should be left: a request waits, or the worker is to stop."""
        return bool(self._requests) or not self._running

    def offer(self, item: T) -> bool:
        """Store the newest item; return True when it replaced one that was never taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def call(self, request: Callable[[], R]) -> Future[R]:
        """Have `request` run between two items; the future gives its result or its exception."""
        future: Future[R] = Future()
        with self._changed:
            if not self._running:
                future.set_exception(WorkerStopped("the worker has stopped"))
                return future
            self._requests.append((future, request))
            self._changed.notify()
        return future

    def discard(self) -> bool:
        """Forget the stored item; return True when there was one."""
        with self._changed:
            stored, self._item = self._item is not None, None
        return stored

    def quit(self) -> None:
        """Take nothing more, without waiting: for the worker's own thread. `stop` is still to be called."""
        with self._changed:
            self._running, self._item = False, None

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop after the item in work; requests not served yet fail with WorkerStopped.

        Raises:
            TimeoutError: The item in work did not end in time; the thread is left to end by itself.
        """
        with self._changed:
            self._running, self._item = False, None
            self._changed.notify()
        self._thread.join(timeout_s)
        while self._requests:
            self._requests.popleft()[0].set_exception(WorkerStopped("the worker has stopped"))
        if self._thread.is_alive():
            raise TimeoutError(f"{self._thread.name} did not stop within {timeout_s:g} s")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.wait_for(lambda: self._item is not None or self._requests or not self._running)
                if not self._running:
                    return
                request = self._requests.popleft() if self._requests else None
                if request is None:
                    item, self._item, self._busy = self._item, None, True
            if request is not None:
                _serve(*request)
                continue
            try:
                self._handle(item)
            except Exception as error:  # one bad item must not end the thread
                self._on_error(error)
            del item  # an image must not live until the next one comes


def _serve(future: Future, request: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(request())
    except Exception as error:
        future.set_exception(error)
