"""Figures add up."""

import json
from fractions import Fraction

import numpy as np
import pytest

from hsr_core.errors import ConfigError
from hsr_core.eval.figure import Figure, merge
from hsr_core.eval.protocol import Protocol

P = Protocol("test").of("mpjpe_mm")


def test_missing_people_lower_coverage_and_not_the_mean():
    """10 and 20 found, one not finite, two more annotated without any prediction: mean 15, coverage 2 / 5."""
    figure = Figure.of([10, 20, np.nan], P, annotated=5, degenerate=1)
    assert (figure.value, figure.count, figure.coverage, figure.degenerate) == (15, 2, 0.4, 1)
    assert Figure.of([1, np.inf], P).count == 1


def test_any_split_in_any_order_gives_the_same_bits():
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 5, 1000)
    whole = Figure.of(values, P)
    parts = [Figure.of(part, P) for part in np.array_split(values, 7)]
    for _ in range(5):
        assert merge([parts[k] for k in rng.permutation(7)]) == whole
    exact = sum(map(Fraction, values.tolist())) / 1000
    assert whole.value == pytest.approx(float(exact), rel=1e-15)


def test_sums_and_counts_are_merged_never_means():
    """One value of 100 and nine of 0: 10, not the 50 of the two means."""
    assert (Figure.of([100], P) + Figure.of(np.zeros(9), P)).value == 10


def test_small_values_keep_their_digits():
    assert Figure.of([9e-6, 1e-6], P).value == pytest.approx(5e-6, rel=1e-12)


def test_shares_are_ratios_of_counts():
    both = Figure.ratio(3, 4, P) + Figure.ratio(0, 6, P)
    assert both.value == 0.3


def test_nothing_is_not_a_number_but_merges():
    empty = Figure.of([], P)
    assert np.isnan(empty.value)
    assert np.isnan(empty.coverage)
    assert empty.to_dict()["value"] is None
    assert merge([empty, Figure.of([3], P), empty]).value == 3


def test_json_brings_the_same_figure_back():
    figure = Figure.of(np.random.default_rng(1).normal(50, 10, (30, 5)), P, annotated=200, components=True)
    assert Figure.from_dict(json.loads(json.dumps(figure.to_dict()))) == figure
    with pytest.raises(ConfigError, match="4 sums and 5 counts"):
        Figure.from_dict({**figure.to_dict(), "sums": figure.to_dict()["sums"][1:]})
    with pytest.raises(ConfigError, match="not a figure"):
        Figure.from_dict({"value": 3})


def test_figures_of_other_protocols_do_not_add():
    with pytest.raises(ConfigError, match="pelvis: '' and 'hips'"):
        Figure.of([1], P) + Figure.of([1], Protocol("test", pelvis="hips").of("mpjpe_mm"))
    with pytest.raises(ConfigError, match="components"):
        Figure.of([[1, 2]], P, components=True) + Figure.of([1], P)
    with pytest.raises(ConfigError, match="no figures"):
        merge([])
