"""What becomes of an exception in a worker: counted, logged, shown in the diagnostics; a lost GPU ends the work."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from hsr_core.errors import DeviceError

from .notices import Notices
from .stats import Counters

SHOWN_S = 5.0
"""How long after it happened an error is shown."""


class Recent:
    """A text that is shown for `SHOWN_S` after it was set."""

    def __init__(self) -> None:
        self._text, self._set_s = "", -float("inf")

    def set(self, text: str) -> None:
        self._text, self._set_s = text, time.monotonic()

    def __str__(self) -> str:
        return self._text if time.monotonic() - self._set_s < SHOWN_S else ""


class WorkerErrors:
    """Takes the exceptions of the library.

    Args:
        on_device_error: Told that the GPU is lost.

    Attributes:
        recent: The last exception.
    """

    def __init__(self, counters: Counters, notices: Notices, on_device_error: Callable[[str], None]) -> None:
        self._counters, self._notices, self._on_device_error = counters, notices, on_device_error
        self.recent = Recent()

    def add(self, error: Exception, lost: str) -> None:
        """Count and tell an exception.

        Args:
            lost: What was lost by it, for the log.
        """
        self._counters.add("errors")
        summary = f"{type(error).__name__}: {error}"
        self.recent.set(summary)
        text = "".join(traceback.format_exception(error))
        self._notices.error(("error", type(error)), f"{lost} after an exception:\n{text}", every_s=10.0)
        if isinstance(error, DeviceError):
            # As text: the exception's frames hold the network, and with it the memory that is to be freed.
            self._on_device_error(summary)
