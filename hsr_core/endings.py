"""What ends a command from outside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as an exception does, so that what it has begun is cleaned up.

    The exit status is 128 and the signal's number. A signal that is ignored (nohup) or has a handler keeps it, and so
    do all outside of the main thread, which alone can have handlers.
    """

    def end(number: int, _: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)  # a second one would cut the cleaning up short
        raise SystemExit(128 + number)

    mine = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        mine = []
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
