"""The thread that ticks the governor: at its own rate by the steady clock, whatever the rest of the node does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hsr_core.retarget.command import Command
from hsr_core.retarget.session import Session

from .notices import Notices
from .retarget_clock import TeleopClock
from .stats import Rate, Window

RECENT_S = 10.0
"""Ticks over so long are in the percentiles."""


class TickLoop:
    """Ticks and publishes until it is closed.

    Args:
        publish: Is given the command of each tick, None where nothing is sent, and the time of the tick [ns].

    Attributes:
        late_ms: How late ticks began, of the newest ones.
        work_ms: How long they took.
        age_ms: From a frame's exposure to the first command that comes of it.
        rate: Of ticks.
        missed: Ticks that were left out because one took longer than a period.
        error: Of the last tick that failed; "" = none did.
    """

    def __init__(
        self, session: Session, clock: TeleopClock, publish: Callable[[Command | None, int], None], notices: Notices
    ) -> None:
        self._session, self._clock, self._publish, self._notices = session, clock, publish, notices
        self._period_s = 1 / session.settings.rate_hz
        ticks = max(int(RECENT_S / self._period_s), 10)
        self.late_ms, self.work_ms, self.age_ms = Window(ticks), Window(ticks), Window(ticks)
        self.rate, self.missed, self.error = Rate(), 0, ""
        self._stamp_ns = 0
        self._running = True
        self._quiet = threading.Event()
        self._thread = threading.Thread(target=self._run, name="governor", daemon=True)
        self._thread.start()

    def stop_robot(self, reason: str) -> bool:
        """Stop the robot by the governor's ramp; return when nothing is sent any more, False = it took too long."""
        if not self._running:
            return True
        robot = self._session.robot
        self._clock.run_on()  # a clock that stands still would leave the robot moving
        self._session.governor.stop(reason)
        self._quiet.clear()
        ramp_s = float((robot.velocity / robot.acceleration).max())
        return self._quiet.wait(2 * ramp_s + 0.5)

    def close(self) -> None:
        """End the thread, from any other, as often as one likes."""
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while self._running:
            begin_s = time.monotonic()
            self._tick_once()
            end_s = time.monotonic()
            self.late_ms.add(1e3 * (begin_s - due_s))
            self.work_ms.add(1e3 * (end_s - begin_s))
            self.rate.tick(begin_s)
            due_s += self._period_s
            if due_s < end_s:
                behind = int((end_s - due_s) / self._period_s) + 1
                self.missed, due_s = self.missed + behind, due_s + behind * self._period_s
            time.sleep(max(due_s - time.monotonic(), 0.0))

    def _tick_once(self) -> None:
        try:
            jump_s = self._clock.was_set()
            if jump_s:
                self._session.on_clock_jump(f"the system's clock was set by {jump_s:.3f} s")
            command = self._session.tick()
            self._publish(command, self._clock())
            if command is None:
                self._quiet.set()
            elif command.stamp_ns != self._stamp_ns:
                self._stamp_ns = command.stamp_ns
                self.age_ms.add(command.age_ms)
        except Exception as error:  # nothing may end this thread while a robot moves
            self.error = f"{type(error).__name__}: {error}"
            self._session.governor.stop(f"fault: {self.error}")
            self._notices.error(("tick", type(error)), f"a tick failed: {self.error}", every_s=10.0)
