"""Flags and scores by hand."""

import numpy as np
import pytest

from hsr_core.errors import ShapeError
from hsr_core.eval.flag_metrics import FlagCounts, sparsification, sparsification_auc


def test_precision_and_recall_by_hand():
    """Bad is above 150 mm: errors 200, 160, 150, 10, 300 with flags on the first, third and fourth; one is unknown."""
    counts = FlagCounts.of([1, 0, 1, 1, 0, 1], [200, 160, 150, 10, 300, np.nan])
    assert (counts.hits, counts.false, counts.missed, counts.quiet) == (1, 2, 2, 0)
    assert (counts.precision, counts.recall) == pytest.approx((1 / 3, 1 / 3))
    twice = counts + FlagCounts(hits=3)
    assert (twice.precision, twice.recall) == pytest.approx((4 / 6, 4 / 6))
    assert np.isnan(FlagCounts().precision)
    assert np.isnan(FlagCounts().recall)
    with pytest.raises(ShapeError):
        FlagCounts.of([1], [1, 2])


def test_sparsification_by_hand():
    """Errors 1, 2, 3 scored in the wrong order. Left: all (mean 2), then 2 and 3, then 3; the oracle 2, 1.5, 1."""
    curve, oracle = sparsification([1, 2, 3], [0.1, 0.2, 0.3])
    assert curve == pytest.approx([1, 1.25, 1.5])
    assert oracle == pytest.approx([1, 0.75, 0.5])
    assert sparsification_auc([1, 2, 3], [0.1, 0.2, 0.3]) == pytest.approx(0.5)
    assert sparsification_auc([1, 2, 3], [0.3, 0.2, 0.1]) == pytest.approx(0)


def test_a_score_that_says_nothing_lies_between():
    """All scores equal: every frame stands for the mean, the curve stays at 1."""
    curve, _ = sparsification([1, 2, 3], [0.5, 0.5, 0.5])
    assert curve == pytest.approx([1, 1, 1])


def test_the_order_of_frames_does_not_matter():
    rng = np.random.default_rng(0)
    error, score = rng.lognormal(3, 1, 200), rng.integers(0, 10, 200) / 10
    order = rng.permutation(200)
    assert sparsification_auc(error, score) == pytest.approx(sparsification_auc(error[order], score[order]), rel=1e-12)
    assert np.isnan(sparsification_auc([], []))
    assert np.isnan(sparsification_auc([np.nan], [1]))
