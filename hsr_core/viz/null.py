"""The viewer that shows nothing: the same calls as `WebView`, so that nobody needs to ask whether there is one."""

from __future__ import annotations

from collections.abc import Callable

from ..config import SmoothingSettings
from .snapshot import RobotView, ViewSnapshot, ViewStats


class NullView:
    """See `hsr_core.viz.web.WebView`."""

    address = ""
    clients = 0

    def show(self, snapshot: ViewSnapshot | Callable[[], ViewSnapshot | None]) -> None: ...

    def show_robot(self, view: RobotView | Callable[[], RobotView | None]) -> None: ...

    def set_stats(self, stats: ViewStats) -> None: ...

    def set_smoothing(self, smoothing: SmoothingSettings) -> None: ...

    def set_note(self, note: str) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> NullView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
