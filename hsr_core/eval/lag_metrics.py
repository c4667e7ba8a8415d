"""How late a prediction is: the delay that maximises the correlation of joint speeds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError
from ..types import Array

_STEP_M = 1e-5
"""Speeds are whole steps of this per frame, so that sums are exact and chunks add up alike in any order."""

_MIN_SHARE = 2 / 3


@dataclass
class LagMeter:
    """Sums over a sequence, from which the lag follows; frame by frame, in flat memory, and mergeable.

    Attributes:
        fps: Of the reference; frames are given in equal steps.
        max_lag: Largest delay looked for, both ways [frames].
        sums: (2 max_lag + 1, 6): n, x, y, x^2, y^2, x y of predicted speed x, `lag` frames later than reference y.
    """

    fps: float
    max_lag: int = 15
    sums: Array = field(default=None)  # type: ignore[assignment]
    _last: tuple[Array, Array] | None = field(default=None, repr=False)
    _index: int | None = field(default=None, repr=False)
    _speeds: deque = field(default=None, repr=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.max_lag < 1:
            raise ConfigError(f"lag needs fps > 0 and max_lag >= 1, not {self.fps} and {self.max_lag}")
        if self.sums is None:
            self.sums = np.zeros((2 * self.max_lag + 1, 6))
        self._speeds = deque(maxlen=self.max_lag + 1)

    def push(
        self, predicted: Array | None, reference: Array | None, *, scored: bool = True, index: int | None = None
    ) -> None:
        """Take the next frame.

        Args:
            predicted, reference: Pelvis-aligned joints (J, 3), [m]; None for a frame that is not valid.
            scored: False for frames before a chunk, which only fill the memory; with `max_lag` + 2 of them the sums of
                the chunks are those of the whole.
            index: Running number of the frame; skipped ones count as not valid.
        """
        if index is not None:
            skipped = 0 if self._index is None else index - self._index - 1
            for _ in range(min(skipped, self.max_lag + 1)):
                self.push(None, None)
            self._index = index
        if predicted is None or reference is None:
            self._last = None
            self._speeds.append(None)
            return
        now = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
        if self._last is None:
            self._speeds.append(None)
        else:
            x, y = (np.linalg.norm(a - b, axis=-1) for a, b in zip(now, self._last, strict=True))
            self._speeds.append((np.rint(x / _STEP_M), np.rint(y / _STEP_M)))
            if scored:
                self._correlate()
        self._last = now

    def _correlate(self) -> None:
        """Add the newest frame's pairs: its prediction with older references, its reference with older predictions."""
        x, y = self._speeds[-1]
        known = [(back, *older) for back, older in enumerate(reversed(self._speeds)) if older is not None]
        back, older_x, older_y = (np.stack(values) for values in zip(*known, strict=True))
        self._add(back, x[None], older_y)
        self._add(-back[1:], older_x[1:], y[None])  # the newest pair itself is counted once

    def _add(self, lags: Array, x: Array, y: Array) -> None:
        """Add pairs of speeds at different lags (n,); of x and y (n, J) one may be (1, J)."""
        used = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(used, x, 0), np.where(used, y, 0)
        terms = (used, x, y, x * x, y * y, x * y)
        self.sums[lags + self.max_lag] += np.stack([term.sum(1) for term in terms], axis=1)

    def merge(self, other: LagMeter) -> LagMeter:
        """Return the meter of both sequences."""
        if (self.fps, self.max_lag) != (other.fps, other.max_lag):
            raise ConfigError("lags of different frame rates or ranges do not add")
        return LagMeter(self.fps, self.max_lag, self.sums + other.sums)

    def correlations(self) -> Array:
        """Return Pearson's correlation at each delay, -max_lag to max_lag; NaN where nothing moved."""
        n, x, y, xx, yy, xy = self.sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = (n * xx - x * x) * (n * yy - y * y)
            return np.where(spread > 0, (n * xy - x * y) / np.sqrt(spread), np.nan)

    @property
    def lag_ms(self) -> float:
        """The delay, positive = the prediction is late; between frames by a parabola.

        Looked for where at least two thirds as many pairs are known as at the best known delay: of a short sequence the
        largest delays leave a few frames, which correlate by chance. NaN when nothing moved or the best delay is the
        largest that was looked for.
        """
        count = self.sums[:, 0]
        known = np.flatnonzero(count >= _MIN_SHARE * count.max())
        values = self.correlations()[known[0] : known[-1] + 1]
        if not np.isfinite(values).all():
            return float("nan")
        best = int(np.argmax(values))
        if best in (0, len(values) - 1):
            return float("nan")
        before, peak, after = values[best - 1 : best + 2]
        bend = before - 2 * peak + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
        return float((known[0] + best - self.max_lag + shift) / self.fps * 1e3)


def lag_ms(predicted: Array, reference: Array, fps: float, *, valid: Array | None = None, max_lag: int = 15) -> float:
    """Return the lag of a whole sequence [ms], see `LagMeter`.

    Args:
        predicted, reference: Pelvis-aligned joints. Shape (T, J, 3), [m].
        valid: Shape (T,) bool; None = all.
    """
    meter = LagMeter(fps, max_lag)
    for t, (x, y) in enumerate(zip(predicted, reference, strict=True)):
        used = valid is None or valid[t]
        meter.push(x if used else None, y if used else None)
    return meter.lag_ms
