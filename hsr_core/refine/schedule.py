"""How long a window is worked on: the time there is, and whether more steps still help."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

LEAST_DECREASE = 0.005
ROUNDS = 5
LEAST_TURN_RAD, LEAST_SHIFT_M = 5e-4, 5e-4


class Budget:
    """Time for a window. Between two steps it is asked whether another one fits.

    Args:
        clock: Monotonic [s]. seconds: In all. should_stop: Asked before each step.

    Attributes:
        stopped: `should_stop` said so.
    """

    def __init__(self, clock: Callable[[], float], seconds: float, should_stop: Callable[[], bool]) -> None:
        self._clock, self._should_stop = clock, should_stop
        self._start = clock()
        self._end = self._start + seconds
        self._last: float | None = None
        self._step = 0.0
        self.stopped = False

    @property
    def used(self) -> float:
        """Time since the start [s]."""
        return self._clock() - self._start

    def begin(self) -> None:
        """A run of steps begins now: the time since the last one was no step."""
        self._last = None

    def another(self, reserve: float = 0.0) -> bool:
        """Return whether one more step like the last ones fits and leaves `reserve` [s]."""
        now = self._clock()
        if self._last is not None:
            self._step = max(now - self._last, 0.8 * self._step)
        self._last = now
        self.stopped = self.stopped or self._should_stop()
        return not self.stopped and now + self._step + reserve <= self._end


class Convergence:
    """Over rounds, in each of which every frame is seen about once: with one frame a step, losses go up and down.

    Source:
        Relative decrease and length of updates as MonoGS (Matsuki et al. 2024) ends its tracking, in metres.
    """

    def __init__(self, frames: Sequence[int]) -> None:
        self._frames = list(frames)
        self._latest: dict[int, float] = {}
        self._visits = 0
        self._history: list[float] = []
        self._before: tuple[Tensor, Tensor] | None = None

    def add(self, frames: Sequence[int], loss: float, rotvecs: Tensor, shifts: Tensor) -> bool:
        """Take a step's frames and loss and the corrections after it; return True when more steps help no more."""
        self._latest.update(dict.fromkeys(frames, loss))
        self._visits += len(frames)
        if self._visits < len(self._frames):
            return False
        self._visits = 0
        self._history.append(float(np.mean(list(self._latest.values()))))
        now = rotvecs.detach().clone(), shifts.detach().clone()
        before, self._before = self._before, now
        if before is not None:
            turn, shift = (float((a - b).abs().max()) for a, b in zip(now, before, strict=True))
            if turn < LEAST_TURN_RAD and shift < LEAST_SHIFT_M:
                return True
        if len(self._history) <= ROUNDS:
            return False
        first, last = self._history[-1 - ROUNDS], self._history[-1]
        return first - last < LEAST_DECREASE * abs(first)
