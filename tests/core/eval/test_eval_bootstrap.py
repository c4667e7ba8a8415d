"""Bootstrap intervals against scipy's and against known spreads."""

import numpy as np
import pytest
from scipy import stats

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.eval.bootstrap import interval, paired, time_blocks
from hsr_core.eval.figure import Figure
from hsr_core.eval.protocol import Protocol

P = Protocol("test").of("mpjpe_mm")


def test_the_interval_of_a_mean_equals_scipys():
    """Forty sequences of one value each. Two independent sets of draws: to a twentieth of the width."""
    values = np.random.default_rng(0).normal(60, 10, 40)
    ours = interval([Figure.of([value], P) for value in values], draws=20_000)
    rng = np.random.default_rng(1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=rng)
    low, high = theirs.confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_sequences_are_drawn_not_frames():
    """Frames that repeat within their sequence add no certainty: the interval stays as wide."""
    values = np.random.default_rng(2).normal(60, 10, 20)
    short = interval([Figure.of([value], P) for value in values])
    long = interval([Figure.of(np.full(100, value), P) for value in values])
    assert (long.low, long.high) == pytest.approx((short.low, short.high))
    assert long.units == 20


def test_long_sequences_weigh_more():
    """90 frames of 0 and 10 of 100: 10, pooled; drawn two of two it is 0, 10 or 100."""
    result = interval([Figure.of(np.zeros(90), P), Figure.of(np.full(10, 100), P)])
    assert result.value == 10
    assert (result.low, result.high) == (0, 100)


def test_one_sequence_has_no_interval():
    result = interval([Figure.of([1, 2, 3], P)])
    assert result.value == 2
    assert np.isnan([result.low, result.high]).all()
    with pytest.raises(ConfigError, match="no figures"):
        interval([])
    with pytest.raises(ConfigError, match="not comparable"):
        interval([Figure.of([1], P), Figure.of([1], Protocol("other"))])


def test_components_are_averaged_at_the_end():
    rows = [np.array([[1, 0], [1, np.nan]]), np.array([[0, 1.0]])]
    figures = [Figure.of(part, P, components=True) for part in rows]
    assert interval(figures).value == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_pairs_see_a_small_difference_through_a_large_spread():
    """b = a + 1 +- 0.5 while a spreads by 20: paired, the difference is certain; each mean alone is not."""
    rng = np.random.default_rng(3)
    a = np.repeat(rng.normal(60, 20, 30), 10) + rng.normal(0, 1, 300)
    b = a + 1 + rng.normal(0, 0.5, 300)
    groups = np.repeat(np.arange(30), 10).tolist()
    result = paired(a, b, groups)
    assert result.difference.value == pytest.approx((b - a).mean())
    assert 0.8 < result.difference.low < result.difference.value < result.difference.high < 1.2
    assert result.relative.value == pytest.approx((b - a).mean() / a.mean())
    assert result.pairs == 300
    assert paired(a, b, groups) == result  # seeded


def test_the_nominal_level_is_near_the_true_one():
    """95 % intervals of 200 experiments with 40 sequences hold the true difference 0 about 190 times."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        result = paired(np.zeros(40) + 1, 1 + rng.normal(0, 1, 40), list(range(40)), draws=300)
        held += result.difference.low <= 0 <= result.difference.high
    assert 178 <= held <= 199


def test_values_without_a_partner_are_counted_and_left_out():
    result = paired([1, np.nan, 3, 4], [2, 2, np.nan, 6], ["x", "x", "y", "y"])
    assert (result.pairs, result.only_a, result.only_b) == (2, 1, 1)
    assert result.difference.value == 1.5
    assert (result.a, result.b) == (2.5, 4)
    nothing = paired([np.nan], [1], ["x"])
    assert np.isnan(nothing.difference.value)
    assert nothing.pairs == 0
    with pytest.raises(ShapeError):
        paired([1], [1, 2], ["x"])


def test_blocks_of_time_stay_within_their_sequence():
    stamps = (np.array([0.0, 2.9, 3.0, 7.0, 0.5]) * 1e9).astype(int)
    assert time_blocks(stamps, ["a", "a", "a", "a", "b"]) == [("a", 0), ("a", 0), ("a", 1), ("a", 2), ("b", 0)]
