"""A live web page with the people, the camera and its image. Needs the extra `view` (viser)."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable

from ..config import SmoothingSettings
from ..errors import ConfigError, MissingPackage
from .snapshot import RobotView, ViewSnapshot, ViewStats
from .web_panel import Panel
from .web_robot import RobotOnPage
from .web_scene import Scene, drawable

_log = logging.getLogger(__name__)

STALE_S = 2.0
"""People older than this are taken off the page."""

_PANEL_PERIOD_S = 0.5
_PORTS_TRIED = 100

Source = ViewSnapshot | Callable[[], "ViewSnapshot | None"]
RobotSource = RobotView | Callable[[], "RobotView | None"]


class WebView:
    """Serves the page and draws the newest snapshot at a limited rate, in a thread of its own.

    `show` only stores, so the caller is never slowed down: a snapshot that comes while one is being drawn replaces
    the one that waits. Without a visitor nothing is drawn.

    Attributes:
        address: Where the page is, for example `http://127.0.0.1:8080`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        max_rate_hz: float = 15.0,
        smoothing: SmoothingSettings | None = None,
        on_smoothing: Callable[[SmoothingSettings], None] | None = None,
        robot: RobotOnPage | None = None,
    ) -> None:
        """Start serving.

        Args:
            host: Address to listen on. The default keeps the camera's picture on this machine; `0.0.0.0` shows it to
                everybody who can reach it, without a password.
            port: First port to try; the next free one is taken.
            max_rate_hz: Most drawings per second.
            smoothing: Values that the sliders start with.
            on_smoothing: Called from the drawing thread with what a visitor has set.
            robot: Stands beside the first person, told how by `show_robot`.

        Raises:
            MissingPackage: viser is not installed.
            ConfigError: `host` is not an address of this machine, or no port is free.
        """
        try:
            import viser
        except ImportError as error:
            raise MissingPackage("the web view needs viser: pip install 'hsr-core[view]'") from error
        self._on_smoothing = on_smoothing
        self._period_s = 1.0 / max_rate_hz
        port = _free_port(host, port)
        with contextlib.redirect_stdout(sys.stderr):  # viser's banner; standard output belongs to the program
            self._server = viser.ViserServer(host=host, port=port, label="HSR", verbose=False)
        shown = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.get_port()}"
        self._panel = Panel(self._server, smoothing or SmoothingSettings(), robot)
        self._scene = Scene(self._server, robot)
        self._wake = threading.Condition()
        self._waiting: Source | None = None
        self._waiting_robot: RobotSource | None = None
        self._stats: ViewStats | None = None
        self._closed = False
        self.drawn = 0
        self._placed: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="web-view", daemon=True)
        self._thread.start()

    @property
    def clients(self) -> int:
        """How many browsers are connected."""
        return len(self._server.get_clients())

    def show(self, snapshot: Source) -> None:
        """Offer a snapshot, or a function that makes one (called in the drawing thread, only if it will be drawn)."""
        with self._wake:
            self._waiting = snapshot
            self._wake.notify()

    def show_robot(self, view: RobotSource) -> None:
        """Offer a robot's posture, as `show` does a snapshot; drawn where people have been seen."""
        with self._wake:
            self._waiting_robot = view
            self._wake.notify()

    def set_stats(self, stats: ViewStats) -> None:
        """Offer numbers for the panel."""
        self._stats = stats

    def set_smoothing(self, smoothing: SmoothingSettings) -> None:
        """Show these smoothing values; does not call `on_smoothing`."""
        self._panel.set_smoothing(smoothing)

    def set_note(self, note: str) -> None:
        """Add a line to the credits, for example the body model's licence."""
        self._panel.set_note(note)

    def close(self) -> None:
        """Stop drawing and serving; the port is free afterwards."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=5)
        with contextlib.redirect_stdout(sys.stderr):
            self._server.stop()

    def __enter__(self) -> WebView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        last_tried = last_drawn = last_panel = 0.0
        while True:
            source, robot = self._next(last_tried + self._period_s)
            if self._closed:
                return
            if not self.clients:
                self._placed.clear()
                continue
            now = time.monotonic()
            try:
                last_tried = now if source is not None or robot is not None else last_tried
                snapshot = source() if callable(source) else source
                if snapshot is not None:
                    self._draw(snapshot, panel=now - last_panel > _PANEL_PERIOD_S)
                    last_drawn = now
                elif now - last_drawn > STALE_S:
                    self._scene.hide_people()
                    self._panel.say("no people data: is perception running?")
                self._draw_robot(robot() if callable(robot) else robot, panel=now - last_panel > _PANEL_PERIOD_S)
                self._serve_panel()
            except Exception:  # one bad snapshot must not end the view
                _log.exception("the web view could not draw a snapshot")
            if now - last_panel > _PANEL_PERIOD_S:
                last_panel = now

    def _next(self, not_before: float) -> tuple[Source | None, RobotSource | None]:
        """Wait for the drawing period and for something to draw; None after a quiet half second, or on closing."""
        with self._wake:
            while not self._closed and (delay := not_before - time.monotonic()) > 0:
                self._wake.wait(delay)
            if self._waiting is None and self._waiting_robot is None and not self._closed:
                self._wake.wait(_PANEL_PERIOD_S)
            source, self._waiting = self._waiting, None
            robot, self._waiting_robot = self._waiting_robot, None
        return source, robot

    def _draw(self, snapshot: ViewSnapshot, *, panel: bool) -> None:
        self._scene.show_skeleton = self._panel.skeleton.value
        self._scene.show_image = self._panel.image.value
        self._scene.mesh_opacity = self._panel.opacity.value
        with self._server.atomic():
            self._scene.draw(snapshot)
            if panel:
                self._panel.show_people(snapshot.people)
                self._panel.say("")
        self.drawn += 1
        if drawable(snapshot):
            for client_id, client in self._server.get_clients().items():
                if client_id not in self._placed:
                    self._placed.add(client_id)
                    self._scene.look_from(client, snapshot)

    def _draw_robot(self, view: RobotView | None, *, panel: bool) -> None:
        if view is None:
            return
        with self._server.atomic():
            self._scene.draw_robot(view)
            if panel:
                self._panel.show_robot(view.rows)

    def _serve_panel(self) -> None:
        wanted = self._panel.take_smoothing()
        if wanted is not None and self._on_smoothing is not None:
            self._on_smoothing(wanted)
        stats, self._stats = self._stats, None
        if stats is not None:
            self._panel.show_stats(stats)


def _free_port(host: str, first: int) -> int:
    """Return the first port from `first` on that can be bound; 0 stays 0 (any)."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, first, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"cannot listen on host {host!r}: {error}; use 127.0.0.1 or 0.0.0.0") from error
    reason: OSError | None = None
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address[0], port))
            except OSError as refused:
                reason = refused
                continue
            return port
    raise ConfigError(f"cannot listen on {host}, ports {first} to {first + _PORTS_TRIED - 1}: {reason}")
