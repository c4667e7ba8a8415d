"""PCK against cases worked out by hand."""

import numpy as np
import pytest

from hsr_core.errors import ShapeError
from hsr_core.eval.figure import Figure, merge
from hsr_core.eval.keypoint_metrics import pck, pck_hits
from hsr_core.eval.protocol import Protocol

BOX = np.array([[0, 0, 1], [100, 50, 1], [40, 20, 1.0]])
"""Key points whose tight box is 100 x 50 px."""


def test_the_limit_is_not_near_enough():
    """Box 100 x 50 px, t = 0.05: 4.99 px counts, 5.00 px does not."""
    for error, hit in ((4.99, 1), (5.0, 0)):
        predicted = BOX[:, :2] + np.array([[0, 0], [0, 0], [error, 0]])
        assert pck_hits(predicted, BOX, 0.05).tolist() == [1, 1, hit]


def test_unsure_key_points_count_neither_as_hits_nor_for_the_box():
    """The third point would make the box 1000 px wide; its confidence is exactly 0.5, which is not above 0.5."""
    reference = np.array([[0, 0, 1], [100, 50, 1], [1000, 0, 0.5]])
    predicted = reference[:, :2] + [6, 0]
    np.testing.assert_array_equal(pck_hits(predicted, reference, 0.05), [0, 0, np.nan])
    np.testing.assert_array_equal(pck_hits(predicted, reference, 0.1), [1, 1, np.nan])


def test_missing_predictions_are_misses():
    predicted = BOX[:, :2].copy()
    predicted[1] = np.nan
    assert pck_hits(predicted, BOX, 0.05).tolist() == [1, 0, 1]


def test_shares_are_per_key_point_first_and_merge():
    """Point 0 is hit in 3 of 4 frames, point 1 in the one where it is sure, point 2 in all: (0.75 + 1 + 1) / 3."""
    reference = np.stack([BOX] * 4)
    reference[1:, 1, 2] = 0.2
    predicted = reference[..., :2].copy()
    predicted[0, 0, 0] -= 40
    hits = np.stack([pck_hits(p, r, 0.1) for p, r in zip(predicted, reference, strict=True)])
    np.testing.assert_array_equal(hits[1], [1, np.nan, 1])
    figures = [Figure.of(part, Protocol("p"), components=True) for part in (hits[:1], hits[1:])]
    assert merge(figures).value == pytest.approx((0.75 + 1 + 1) / 3)
    assert merge(figures).coverage == 1  # a key point that is missing is a miss; one not annotated is not asked for
    assert pck(predicted, reference, 0.1) == pytest.approx((0.75 + 1 + 1) / 3)
    assert np.isnan(pck(predicted, np.zeros((4, 3, 3)), 0.1))


def test_a_box_without_extent_scores_nothing():
    assert np.isnan(pck_hits(BOX[:1, :2], BOX[:1], 0.05)).all()


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"\(K, 2\) and \(K, 3\)"):
        pck_hits(BOX[:2], BOX, 0.05)
