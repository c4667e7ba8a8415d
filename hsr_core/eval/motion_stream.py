"""The motion metrics of one person frame by frame, in the memory of four frames."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..types import Array
from .motion_metrics import accel_error_mm, accel_mm, jitter, per_frame2_to_m_s2

_NAN = float("nan")


class MotionStream:
    """Values of `motion_metrics` as the frames come; each belongs to the newest frame that it needs.

    So a chunk that is preceded by three frames of warm-up has exactly the values of the whole.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._frames: deque[tuple[Array | None, Array | None]] = deque(maxlen=4)
        self._index: int | None = None

    @property
    def index(self) -> int | None:
        """Of the newest frame."""
        return self._index

    def push(self, predicted: Array | None, reference: Array | None, *, index: int | None = None) -> dict[str, float]:
        """Return the values that this frame completes, by their names in `protocol.METRICS`.

        A name is absent when the reference does not ask for it, and NaN when the prediction is what is missing.

        Args:
            predicted: Pelvis-aligned joints (J, 3) [m]; None = nobody was found.
            reference: The same of the reference; None = a frame that is not to be scored, or skipped.
            index: Running number of the frame. A jump begins anew, so that frames without this person need no push.
        """
        if index is not None:
            if self._index is not None and index != self._index + 1:
                self._frames.clear()
            self._index = index
        self._frames.append((predicted, reference))
        values: dict[str, float] = {}
        if self._asked(3):
            x, y = self._last(3)
            error = _NAN if x is None else float(accel_error_mm(x, y)[1])
            values["accel_error_mm_frame2"] = error
            values["accel_error_m_s2"] = float(per_frame2_to_m_s2(error, self._fps))
            values["accel_mm_frame2"] = _NAN if x is None else float(accel_mm(x)[1])
        if self._asked(4):
            x, _ = self._last(4)
            values["jitter_10m_s3"] = _NAN if x is None else float(jitter(x, self._fps)[1])
        return values

    def _asked(self, frames: int) -> bool:
        newest = list(self._frames)[-frames:]
        return len(newest) == frames and all(reference is not None for _, reference in newest)

    def _last(self, frames: int) -> tuple[Array | None, Array]:
        newest = list(self._frames)[-frames:]
        predicted = [x for x, _ in newest if x is not None]
        return np.stack(predicted) if len(predicted) == frames else None, np.stack([y for _, y in newest])
