"""Jobs that a frame does not wait for: endpoints and descriptions of people who have just appeared."""

from __future__ import annotations

from collections.abc import Callable

from .worker import Worker


class Later:
    """Runs jobs one after another in a thread of its own.

    Args:
        on_error: Told what a job raised; the next one runs all the same.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._worker: Worker = Worker(lambda item: None, on_error, name="later")

    def __call__(self, job: Callable[[], None]) -> None:
        self._worker.call(lambda: self._run(job))

    def stop(self) -> None:
        """Return when the job in work has ended; those that wait are dropped."""
        self._worker.stop()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self._on_error(error)
