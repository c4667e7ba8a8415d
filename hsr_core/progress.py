"""What something slow is doing, told by library code to whoever listens: a node's diagnostics, a terminal.

with progress.listening(show):      # show(phase, done, total)
    HumanStream(settings)           # calls progress.report("building the engine", 43, 100) and so on
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]

_lock = threading.Lock()
_listeners: tuple[Listener, ...] = ()


def report(phase: str, done: int = 0, total: int = 0) -> None:
    """Tell the listeners of this process. Nearly free when there are none; call it as often as there is news.

    From any thread: builders report from threads of their own.

    Args:
        phase: What is being done, as a user reads it: "building the engine".
        done: Steps finished, of `total`.
        total: 0 = not known.

    Raises:
        BaseException: Whatever a listener raises; it stops the work that is reported.
    """
    for listener in _listeners:
        listener(phase, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` called by every `report` of this process within the block.

    It is called in the reporting thread, perhaps thousands of times a second: it should store and return.
    """
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)
    try:
        yield
    finally:
        with _lock:
            kept = list(_listeners)
            kept.remove(listener)
            _listeners = tuple(kept)


def as_text(phase: str, done: int = 0, total: int = 0) -> str:
    """Return "building the engine: 43 %", or the phase alone when there is no total."""
    return f"{phase}: {percent(done, total)} %" if total > 0 else phase


def percent(done: int, total: int) -> int:
    """Return the whole percent that are done, 0 to 100; `total` must be positive."""
    return min(max(100 * done // total, 0), 100)


@contextmanager
def bar(unit: str = "frame") -> Iterator[None]:
    """Show what is reported within the block as a bar in the terminal; nothing where there is none."""
    from tqdm import tqdm

    shown = ""
    with tqdm(unit=unit, disable=None) as line:

        def show(phase: str, done: int, total: int) -> None:
            nonlocal shown
            if phase != shown:
                shown = phase
                line.set_description(phase, refresh=False)
                line.reset()
            line.total = total or None
            line.update(done - line.n)

        with listening(show):
            yield
