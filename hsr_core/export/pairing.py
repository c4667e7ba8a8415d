"""What belongs together in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tick_stamps(stamps: NDArray[np.int64], fps: int) -> NDArray[np.int64]:
    """Return the times of an episode's frames [ns]: uniform from the first stamp to the last."""
    count = int(np.floor((stamps[-1] - stamps[0]) * 1e-9 * fps + 0.5)) + 1
    return stamps[0] + np.rint(np.arange(count) * (1e9 / fps)).astype(np.int64)


def nearest(stamps: NDArray[np.int64], ticks: NDArray[np.int64], fps: float) -> NDArray[np.int64]:
    """Return for each tick the nearest stamp's index, -1 where none is within half a frame."""
    after = np.clip(np.searchsorted(stamps, ticks), 1, max(len(stamps) - 1, 1))
    after = np.minimum(after, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    best = np.where(np.abs(stamps[before] - ticks) <= np.abs(stamps[after] - ticks), before, after)
    return np.where(np.abs(stamps[best] - ticks) <= 0.5e9 / fps, best, -1)
