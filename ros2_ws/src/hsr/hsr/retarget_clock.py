"""The clock of teleoperation: ROS time, as in the camera's stamps, which may be set while a robot moves."""

from __future__ import annotations

import time

from rclpy.clock import Clock

READ_NS = 1_000_000
"""Two clocks that were not read within this are not compared."""


class TeleopClock:
    """Gives ROS time in nanoseconds: the system's, or with use_sim_time that of /clock.

    Args:
        limit_s: The system's clock was set where it differs by more than this from the steady clock between two looks.
    """

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock, self._limit_ns = clock, int(limit_s * 1e9)
        self._ahead_ns: int | None = None
        self._steady: tuple[int, int] | None = None

    def __call__(self) -> int:
        if self._steady is not None:
            ros_ns, steady_ns = self._steady
            return ros_ns + time.monotonic_ns() - steady_ns
        return self._clock.now().nanoseconds

    def run_on(self) -> None:
        """Go on from now by the steady clock: for the last stop, which no clock that stands still may delay."""
        self._steady = self._steady or (self(), time.monotonic_ns())

    def was_set(self) -> float:
        """Return how far the system's clock was set since the last call [s]; 0 = it was not, or it is /clock."""
        if self._clock.ros_time_is_active or self._steady is not None:
            return 0.0
        before_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if after_ns - before_ns > READ_NS:
            return 0.0
        ahead_ns, last_ns = now_ns - before_ns, self._ahead_ns
        self._ahead_ns = ahead_ns
        jump_ns = 0 if last_ns is None else ahead_ns - last_ns
        return jump_ns * 1e-9 if abs(jump_ns) > self._limit_ns else 0.0
