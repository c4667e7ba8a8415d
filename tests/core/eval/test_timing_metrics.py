"""Latency, drops and gaps against numpy and by hand."""

import json

import numpy as np
import pytest

from hsr_core.errors import ConfigError
from hsr_core.eval.timing_metrics import Distribution, StreamTiming

MS = 1_000_000


def test_quantiles_equal_numpys_without_interpolation():
    """Values lie on the 10 us grid, so that the histogram is exact."""
    values = np.random.default_rng(0).integers(100, 20_000, 997) / 100
    distribution = Distribution.of_ms(values)
    for share in (0, 0.01, 0.5, 0.95, 0.99, 1):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert distribution.quantile_ms(share) == pytest.approx(expected, abs=1e-9)
    assert distribution.mean_ms == pytest.approx(values.mean())
    assert distribution.std_ms == pytest.approx(values.std())
    assert list(distribution.summary()) == ["p50_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms", "count"]


def test_parts_add_up_in_any_order_and_survive_json():
    values = np.random.default_rng(1).lognormal(3, 1, 500)
    whole = Distribution.of_ms(values)
    a, b, c = (Distribution.of_ms(part) for part in np.array_split(values, 3))
    assert a + b + c == c + a + b == whole
    assert Distribution.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_memory_is_bounded_by_the_spread_not_the_number():
    distribution = Distribution.of_ms(30 + np.random.default_rng(2).random(20_000))
    assert distribution.count == 20_000
    assert len(distribution.steps) <= 101


def test_histogram_and_empty_distribution():
    assert Distribution.of_ms([1, 4, 6, 11]).histogram(5) == ([0, 5, 10], [2, 1, 1])
    empty = Distribution()
    assert np.isnan([empty.quantile_ms(0.5), empty.mean_ms, empty.std_ms]).all()


def test_a_stream_by_hand():
    """Results at 150, 190 and 250 ms of exposures 30 ms earlier; started at 100; two frames dropped.

    Intervals 40 and 60 ms: jitter 10 ms, longest gap 0.06 s. 3 of 5 answered, 2 of 5 with the person.
    """
    timing = StreamTiming()
    timing.start(100 * MS)
    for publish_ms, locked in ((150, False), (190, True), (250, True)):
        timing.result((publish_ms - 30) * MS, publish_ms * MS, locked=locked)
    timing.dropped("queue")
    timing.dropped("gate")
    figures = timing.summary()
    assert figures["latency_ms"]["p99_ms"] == 30
    assert figures["drop_rate"] == pytest.approx(0.4)
    assert figures["drops"] == {"gate": 1, "queue": 1}
    assert figures["interval_jitter_ms"] == pytest.approx(10)
    assert figures["availability"] == pytest.approx(0.4)
    assert figures["longest_gap_s"] == pytest.approx(0.06)
    assert figures["first_result_s"] == pytest.approx(0.05)
    with pytest.raises(ConfigError):
        timing.dropped("queue", -1)


def test_two_streams_are_not_joined_by_an_interval():
    parts = []
    for start in (0, 10_000):
        timing = StreamTiming()
        timing.start(start * MS)
        for k in range(1, 4):
            timing.result((start + 33 * k) * MS, (start + 33 * k + 20) * MS, locked=True)
        parts.append(timing)
    both = (parts[0] + parts[1]).summary()
    assert both["longest_gap_s"] == pytest.approx(0.033)
    assert both["latency_ms"]["count"] == 6
    assert both["availability"] == 1
    kept = StreamTiming.from_dict(json.loads(json.dumps((parts[0] + parts[1]).to_dict())))
    assert kept.summary() == both
    empty = StreamTiming().summary()
    assert np.isnan([empty["drop_rate"], empty["first_result_s"]]).all()
