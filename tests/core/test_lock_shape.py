"""A locked shape stays; a released one is estimated anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hsr_core.config import Settings, SmoothingSettings
from hsr_core.regress.fake import FakeRegressor
from hsr_core.track.smooth import PoseSmoother
from hsr_core.types import Camera, Frame


class Body:
    n_betas = n_expression = n_head_betas = n_head_expression = 10


def test_a_locked_shape_stays_until_it_is_released():
    smoother = PoseSmoother(SmoothingSettings(), lambda betas: np.zeros(3, np.float32))
    frame = Frame(np.zeros((48, 64, 3), np.uint8), 0)
    (seen,) = FakeRegressor(Settings(), Body()).regress(frame, Camera.from_hfov(60, (48, 64)))
    stamps = iter(range(0, 10**12, 33_000_000))

    def shape_after(beta: float) -> float:
        params = replace(seen.params, betas=np.full(10, beta, np.float32))
        return float(smoother.update(replace(seen, params=params), next(stamps)).betas[0])

    assert shape_after(1.0) == 1.0
    assert shape_after(3.0) == 2.0  # the median of two
    smoother.lock_shape(True)
    assert [shape_after(9.0) for _ in range(5)] == [2.0] * 5
    smoother.lock_shape(False)
    assert shape_after(9.0) == 9.0
