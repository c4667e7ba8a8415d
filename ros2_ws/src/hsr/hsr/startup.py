"""Something slow, made in a thread of its own, so that the thread that waits can tell how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from hsr_core import progress

T = TypeVar("T")


class Cancelled(BaseException):
    """Raised out of `progress.report` in the thread of a cancelled start-up. No `except Exception` may swallow it."""


class Startup(Generic[T]):
    """Calls `make` in a thread of its own.

    Attributes:
        step: Phase, steps done and steps in total, as last reported (see `hsr_core.progress`); None before that.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.step: tuple[str, int, int] | None = None
        self._began_s = time.monotonic()
        self._cancelled = False
        self._made: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(make,), name="start-up", daemon=True)
        self._thread.start()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def wait(self, timeout_s: float) -> bool:
        """Return True when it has ended, well or not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def cancel(self, timeout_s: float) -> bool:
        """Have the next report end it; False when it is still at work after `timeout_s`."""
        self._cancelled = True
        return self.wait(timeout_s)

    def result(self) -> T:
        """Return what was made, or raise what stopped it. To be called once, after the end.

        An exception holds the frames it went through, and they the half-made networks: it must not be kept here.
        """
        made, error = self._made, self._error
        self._made = self._error = None
        if error is None:
            return made
        try:
            raise error
        finally:
            del error

    def _run(self, make: Callable[[], T]) -> None:
        try:
            with progress.listening(self._on_report):
                self._made = make()
        except BaseException as error:
            self._error = error

    def _on_report(self, phase: str, done: int, total: int) -> None:
        if self._cancelled:
            raise Cancelled
        self.step = (phase, done, total)
