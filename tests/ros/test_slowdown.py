"""When the perception node counts as slower."""

from __future__ import annotations

import numpy as np
import pytest
from hsr.slowdown import LEAST_FRAMES, Slowdown


def fed(idle_ms, busy_ms) -> Slowdown:
    slowdown = Slowdown()
    for values, busy in ((idle_ms, False), (busy_ms, True)):
        for value in values:
            slowdown.add(value, busy)
    return slowdown


def test_a_quarter_slower_is_slow_and_a_tenth_is_not():
    idle = [10.0] * LEAST_FRAMES
    assert fed(idle, [12.5] * LEAST_FRAMES).slow
    assert not fed(idle, [11.0] * LEAST_FRAMES).slow
    assert fed(idle, [12.5] * LEAST_FRAMES).ratio == pytest.approx(1.25)


def test_nothing_is_said_of_few_frames_and_single_slow_ones_do_not_count():
    assert np.isnan(fed([10.0] * (LEAST_FRAMES - 1), [50.0] * 100).ratio)
    assert not fed([10.0] * (LEAST_FRAMES - 1), [50.0] * 100).slow
    assert not fed([10.0] * 100, [10.0] * 40 + [200.0] * 19).slow
    assert np.isnan(fed([np.nan] * 100, [10.0] * 100).ratio)


def test_what_is_long_ago_is_forgotten():
    slowdown = fed([10.0] * 100, [20.0] * 100)
    for _ in range(60):
        slowdown.add(10.0, busy=True)
    assert slowdown.ratio == pytest.approx(1.0)
